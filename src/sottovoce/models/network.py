"""The network of a packed file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce.models.lm import LanguageModel, make_lm
from sottovoce.models.rnnt import Rnnt
from sottovoce.packed import RnntArchitecture, is_language_model, lm_architecture


def network_of(architecture: Mapping[str, Any]) -> Rnnt | LanguageModel:
    """A new network, its weights random. Raises FormatError for an architecture that is none of ours."""
    if is_language_model(architecture):
        return make_lm(lm_architecture(architecture))
    return Rnnt(RnntArchitecture.from_dict(architecture))
