"""Execution of packed models: the NumPy definition of our arithmetic and a streaming recognizer."""

from sottovoce.runtime.recognizer import Recognizer
from sottovoce.runtime.result import ModelInput, Result
from sottovoce.runtime.rnnt import PackedRnnt
from sottovoce.runtime.stream import Stream

__all__ = ["ModelInput", "PackedRnnt", "Recognizer", "Result", "Stream"]
