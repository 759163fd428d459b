"""The C ABI through ctypes, as a program without our Python would use it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sottovoce.decoding import Phrase
from sottovoce.runtime import Word


class EndpointRule(ctypes.Structure):
    _fields_ = [
        ("must_contain_nonsilence", ctypes.c_int32),
        ("min_trailing_silence", ctypes.c_double),
        ("min_utterance_length", ctypes.c_double),
    ]


class Hotword(ctypes.Structure):
    _fields_ = [("tokens", ctypes.POINTER(ctypes.c_int64)), ("count", ctypes.c_size_t), ("score", ctypes.c_double)]


class Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("method", ctypes.c_int32),
        ("beam", ctypes.c_int32),
        ("max_symbols", ctypes.c_int32),
        ("blank_penalty", ctypes.c_float),
        ("threads", ctypes.c_int32),
        ("kernels", ctypes.c_char_p),
        ("endpoint", EndpointRule * 3),
    ]


_RESULTS = {
    "load": ctypes.c_void_p,
    "stream_create": ctypes.c_void_p,
    "stream_create_hotwords": ctypes.c_void_p,
    "result_get": ctypes.c_void_p,
    "result_nbest": ctypes.c_void_p,
    "last_error": ctypes.c_char_p,
    "result_text": ctypes.c_char_p,
    "result_token": ctypes.c_char_p,
    "result_score": ctypes.c_double,
    "result_time": ctypes.c_double,
    "result_log_prob": ctypes.c_float,
    "result_count": ctypes.c_size_t,
    "result_id": ctypes.c_int64,
    "result_segment": ctypes.c_int64,
    "result_start_time": ctypes.c_double,
    "result_word_count": ctypes.c_size_t,
    "result_word": ctypes.c_char_p,
    "result_word_start": ctypes.c_double,
    "result_word_end": ctypes.c_double,
    "result_word_confidence": ctypes.c_double,
}


class Library:
    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, kind in _RESULTS.items():
            getattr(self._library, f"sottovoce_{name}").restype = kind

    def __call__(self, name: str, *arguments: Any) -> Any:
        return getattr(self._library, f"sottovoce_{name}")(*arguments)

    def error(self) -> str:
        return str(self("last_error").decode())

    def options(self, **values: Any) -> Options:
        options = Options()
        self("options_init", ctypes.byref(options))
        for rule, value in zip(options.endpoint, values.pop("endpoint", ()), strict=False):
            rule.must_contain_nonsilence, rule.min_trailing_silence, rule.min_utterance_length = value
        for name, value in values.items():
            setattr(options, name, value)
        return options

    def load(self, path: Path, **options: Any) -> ctypes.c_void_p:
        loaded = self("load", str(path).encode(), ctypes.byref(self.options(**options)))
        assert loaded, self.error()
        return ctypes.c_void_p(loaded)

    def stream(self, recognizer: ctypes.c_void_p) -> ctypes.c_void_p:
        return ctypes.c_void_p(self("stream_create", recognizer))

    def stream_with(self, recognizer: ctypes.c_void_p, *phrases: Phrase) -> ctypes.c_void_p:
        hotwords = (Hotword * len(phrases))(
            *[Hotword((ctypes.c_int64 * len(p.tokens))(*p.tokens), len(p.tokens), p.score) for p in phrases]
        )
        return ctypes.c_void_p(self("stream_create_hotwords", recognizer, hotwords, ctypes.c_size_t(len(phrases))))

    def waveform(self, stream: ctypes.c_void_p, rate: int, samples: ArrayLike) -> int:
        array = np.ascontiguousarray(samples, np.float32)
        return int(
            self("accept_waveform", stream, rate, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.size))
        )

    def features(self, stream: ctypes.c_void_p, features: ArrayLike) -> int:
        array = np.ascontiguousarray(features, np.float32)
        sizes = [ctypes.c_size_t(size) for size in array.shape]
        return int(self("accept_features", stream, ctypes.c_void_p(array.ctypes.data), *sizes))

    def decode(self, *streams: ctypes.c_void_p) -> int:
        array = (ctypes.c_void_p * len(streams))(*[stream.value for stream in streams])
        return int(self("decode", array, ctypes.c_size_t(len(streams))))

    def result(self, stream: ctypes.c_void_p, rank: int = 0) -> Found:
        result = ctypes.c_void_p(self("result_nbest", stream, ctypes.c_size_t(rank)))
        assert result.value, self.error()
        indexes = [ctypes.c_size_t(i) for i in range(self("result_count", result))]
        found = Found(
            self("result_text", result).decode(),
            tuple(self("result_token", result, i).decode() for i in indexes),
            tuple(self("result_id", result, i) for i in indexes),
            tuple(self("result_time", result, i) for i in indexes),
            tuple(self("result_log_prob", result, i) for i in indexes),
            self("result_score", result),
            tuple(self._word(result, ctypes.c_size_t(i)) for i in range(self("result_word_count", result))),
            self("result_segment", result),
            self("result_start_time", result),
        )
        self("result_free", result)
        return found

    def _word(self, result: ctypes.c_void_p, i: ctypes.c_size_t) -> Word:
        text = self("result_word", result, i).decode()
        return Word(text, *(self(f"result_word_{name}", result, i) for name in ("start", "end", "confidence")))


@dataclass(frozen=True)
class Found:
    """The same fields as sottovoce.runtime.Result."""

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    times: tuple[float, ...]
    log_probs: tuple[float, ...]
    score: float
    words: tuple[Word, ...]
    segment: int
    start_time: float
