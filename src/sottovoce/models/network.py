"""The network of a packed file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce.models.lm import LanguageModel, make_lm
from sottovoce.models.onnx_set import OnnxSet
from sottovoce.models.rnnt import Rnnt
from sottovoce.packed import RnntArchitecture, is_language_model, lm_architecture
from sottovoce.packed.onnx_set import OnnxSetArchitecture


def network_of(architecture: Mapping[str, Any]) -> Rnnt | LanguageModel | OnnxSet:
    """A new network. Raises FormatError for an architecture that is none of ours."""
    if is_language_model(architecture):
        return make_lm(lm_architecture(architecture))
    if architecture.get("type") == OnnxSetArchitecture.TYPE:
        return OnnxSet(OnnxSetArchitecture.from_dict(architecture))
    return Rnnt(RnntArchitecture.from_dict(architecture))
