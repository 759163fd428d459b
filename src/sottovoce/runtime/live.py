"""The transcript of sound that is still coming, utterance by utterance."""

from __future__ import annotations

from numpy.typing import ArrayLike

from sottovoce.runtime.recognizer import Recognizer
from sottovoce.runtime.result import Result


class LiveTranscript:
    """One stream of a recognizer and what of it was shown: after each piece of sound, ask for the change.

    ``endpoints=False`` leaves the whole recording one segment, whose text is that of ``Recognizer.transcribe``.
    """

    def __init__(self, recognizer: Recognizer, *, endpoints: bool = True) -> None:
        self._recognizer, self._endpoints = recognizer, endpoints
        self._stream = recognizer.create_stream()
        self._shown = ""
        self._finished = False

    def accept(self, rate: int, samples: ArrayLike) -> None:
        """Decode the next samples (S,) at ``rate`` Hz; raises DataError as ``Stream.accept_waveform`` does."""
        self._stream.accept_waveform(rate, samples)
        self._recognizer.decode_stream(self._stream)

    def finish(self) -> None:
        """No more sound comes: decode its last frames."""
        self._stream.input_finished()
        self._recognizer.decode_stream(self._stream)
        self._finished = True

    @property
    def ended(self) -> bool:
        """Whether the present segment is at its end, by an endpoint or with the sound."""
        return self._finished or (self._endpoints and self._recognizer.is_endpoint(self._stream))

    def result(self) -> Result:
        """The transcript of the present segment so far."""
        return self._recognizer.get_result(self._stream)

    def change(self) -> tuple[Result, bool] | None:
        """The present segment and whether it is at its end, where that is news; an ended one makes way for the next."""
        result, ended = self.result(), self.ended
        news = (result, ended) if result.text and (ended or result.text != self._shown) else None
        self._shown = "" if ended else result.text
        if ended and not self._finished:
            self._recognizer.reset(self._stream)
        return news
