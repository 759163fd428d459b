"""Packed models for other runtimes: plain ONNX graphs, and stock sherpa-onnx. Needs the [export] extra, no PyTorch."""

from sottovoce.export.checks import Closeness
from sottovoce.export.onnx_files import Exported, export_onnx
from sottovoce.export.onnx_set import export_onnx_set
from sottovoce.export.sherpa_files import PREDICTORS, SherpaExported, Transcripts, export_sherpa, paths_of
from sottovoce.export.weights import FORMS, WeightForm

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
    "paths_of",
]
