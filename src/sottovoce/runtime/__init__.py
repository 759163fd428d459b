"""Execution of packed models: the NumPy definition of our arithmetic, the compiled kernels that give the same bits, and
a streaming recognizer."""

from sottovoce.decoding.endpoint import EndpointRule, EndpointRules
from sottovoce.runtime.kernels import KernelChoice, choose_kernel
from sottovoce.runtime.live import LiveTranscript
from sottovoce.runtime.native import NativeRnnt
from sottovoce.runtime.network import make_network
from sottovoce.runtime.recognizer import Recognizer
from sottovoce.runtime.result import ModelInput, Result
from sottovoce.runtime.rnnt import PackedRnnt
from sottovoce.runtime.scorer import LanguageModelScorer
from sottovoce.runtime.stream import Stream
from sottovoce.runtime.text_input import TextInput
from sottovoce.runtime.words import Word

__all__ = [
    "EndpointRule",
    "EndpointRules",
    "KernelChoice",
    "LanguageModelScorer",
    "LiveTranscript",
    "ModelInput",
    "NativeRnnt",
    "PackedRnnt",
    "Recognizer",
    "Result",
    "Stream",
    "TextInput",
    "Word",
    "choose_kernel",
    "make_network",
]
