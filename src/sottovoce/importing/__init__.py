"""Trained weights from elsewhere, as our packed float32 file."""

from sottovoce.importing.build import import_model, unread
from sottovoce.importing.mapping import TensorMap, read_mapping
from sottovoce.importing.onnx_set import import_onnx_set, is_onnx_set, left_in_graphs
from sottovoce.importing.runs import make_run
from sottovoce.importing.sources import read_tensors

__all__ = [
    "TensorMap",
    "import_model",
    "import_onnx_set",
    "is_onnx_set",
    "left_in_graphs",
    "make_run",
    "read_mapping",
    "read_tensors",
    "unread",
]
