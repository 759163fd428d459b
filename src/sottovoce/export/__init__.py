"""Packed models for others: plain ONNX graphs, stock sherpa-onnx, the Hugging Face Hub.

Needs the [export] extra, no PyTorch; the Hub's form alone needs nothing (``sottovoce.export.hub``).
"""

from sottovoce.export.checks import Closeness
from sottovoce.export.hub import from_pretrained, push_to_hub, save_pretrained
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
    "from_pretrained",
    "paths_of",
    "push_to_hub",
    "save_pretrained",
]
