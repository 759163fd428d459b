"""One utterance on its way through a recognizer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sottovoce.decoding.protocol import Floats, State
from sottovoce.errors import DataError
from sottovoce.frontend.fbank import StreamingFbank
from sottovoce.frontend.values import checked_features
from sottovoce.runtime.result import ModelInput


class Stream:
    """Takes sound or features in pieces of any size; a Recognizer creates and decodes it.

    Nothing is appended at the end: the frames are those of the whole input, so streaming gives the offline result.
    """

    def __init__(self, recognizer: object, model_input: ModelInput, encoder: State, search: Any) -> None:
        self.recognizer = recognizer
        """Who created it, and alone can decode it."""
        self.encoder = encoder
        self.search = search
        self.decoded = 0
        """Feature frames decoded so far."""
        self.segment = 0
        """How many segments with a transcript were ended by a reset."""
        self._input = model_input
        self._fbank: StreamingFbank | None = None
        self._features = np.zeros((0, model_input.dim), np.float32)
        self._finished = False

    def accept_waveform(self, sample_rate: int, samples: ArrayLike) -> None:
        """Append samples (S,), floats in [-1, 1] or int16, of any rate, the same for the whole stream.

        Raises DataError for a model that takes features, for a rate outside 1 kHz to 768 kHz or one whose resampling
        filter is too large, for samples that are not finite or not one channel, after features or after the end; the
        stream is then as it was.
        """
        if self._input.settings is None:
            raise DataError(f"this model takes features ({self._input.dim} values a frame), not waveforms")
        if self.decoded + len(self._features) and self._fbank is None:
            raise DataError("this stream already took features: it cannot take a waveform too")
        self._check_open()
        fbank = StreamingFbank(self._input.settings) if self._fbank is None else self._fbank
        fbank.accept_waveform(sample_rate, samples)
        self._fbank = fbank

    def accept_features(self, features: ArrayLike) -> None:
        """Append feature frames, float (T, F), computed as the model's input settings say.

        Raises DataError for another F, for values that are not finite, after a waveform or after the end.
        """
        if self._fbank is not None:
            raise DataError("this stream already took a waveform: it cannot take features too")
        self._check_open()
        self._features = np.concatenate([self._features, checked_features(features, self._input.dim)])

    def input_finished(self) -> None:
        """Say that no more input comes; the last frames of a waveform become ready. Calling it again does nothing."""
        if self._fbank is not None and not self._finished:
            self._fbank.input_finished()
        self._finished = True

    @property
    def pending(self) -> int:
        """Feature frames that are ready and not yet decoded."""
        return len(self._features) if self._fbank is None else self._fbank.frames_ready - self.decoded

    def take(self, count: int) -> Floats:
        """The next count pending frames, float32 (count, F); they count as decoded from now on."""
        if self._fbank is None:
            frames, self._features = self._features[:count], self._features[count:]
        else:
            frames = self._fbank.frames(self.decoded, count)
        self.decoded += count
        return frames

    def _check_open(self) -> None:
        if self._finished:
            raise DataError("this stream is finished: create another one for more input")
