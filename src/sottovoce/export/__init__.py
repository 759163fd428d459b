"""Packed models for others: plain ONNX graphs and stock sherpa-onnx (the [export] extra), and the Hugging Face Hub.

No PyTorch. Names are imported when first used, so that the Hub's form needs none of the others' packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.export.checks import Closeness
    from sottovoce.export.hub import from_pretrained, push_to_hub, save_pretrained
    from sottovoce.export.onnx_files import Exported, export_onnx
    from sottovoce.export.onnx_set import export_onnx_set
    from sottovoce.export.sherpa_files import PREDICTORS, SherpaExported, Transcripts, export_sherpa, paths_of
    from sottovoce.export.weights import FORMS, WeightForm

_HOMES = {
    "Closeness": "checks",
    "from_pretrained": "hub",
    "push_to_hub": "hub",
    "save_pretrained": "hub",
    "Exported": "onnx_files",
    "export_onnx": "onnx_files",
    "export_onnx_set": "onnx_set",
    "PREDICTORS": "sherpa_files",
    "SherpaExported": "sherpa_files",
    "Transcripts": "sherpa_files",
    "export_sherpa": "sherpa_files",
    "paths_of": "sherpa_files",
    "FORMS": "weights",
    "WeightForm": "weights",
}

__all__ = [
    "FORMS",
    "PREDICTORS",
    "Closeness",
    "Exported",
    "SherpaExported",
    "Transcripts",
    "WeightForm",
    "export_onnx",
    "export_onnx_set",
    "export_sherpa",
    "from_pretrained",
    "paths_of",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sottovoce.export' has no attribute {name!r}")
    return getattr(import_module(f"sottovoce.export.{_HOMES[name]}"), name)
