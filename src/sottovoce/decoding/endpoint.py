"""Where an utterance ends: rules over trailing blanks, those of Kaldi and sherpa-onnx, with sherpa-onnx's defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from sottovoce.decoding.nbest import Trace
from sottovoce.errors import ConfigError


@dataclass(frozen=True)
class EndpointRule:
    """Holds when all of it holds; times in seconds.

    must_contain_nonsilence: a token was emitted in this segment. min_trailing_silence: so much was decoded after the
    frame of the last token (or since the segment began, where there is none). min_utterance_length: so much was
    decoded since the segment began. Raises ConfigError for times that are negative or not finite.
    """

    must_contain_nonsilence: bool = True
    min_trailing_silence: float = 2.0
    min_utterance_length: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_trailing_silence", "min_utterance_length"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ConfigError(f"endpoint rule: {name} must be seconds of 0 or more, found {value!r}")

    def holds(self, nonsilence: bool, trailing_silence: float, length: float) -> bool:
        """Whether a segment of ``length`` seconds that ends in ``trailing_silence`` seconds of blanks is at its end."""
        return (
            (nonsilence or not self.must_contain_nonsilence)
            and trailing_silence >= self.min_trailing_silence
            and length >= self.min_utterance_length
        )


@dataclass(frozen=True)
class EndpointRules:
    """An endpoint is where any of the three holds: by default after 2.4 s of silence, after 1.2 s of silence that
    follows a token, or after 20 s whatever they hold."""

    rule1: EndpointRule = EndpointRule(False, 2.4, 0.0)
    rule2: EndpointRule = EndpointRule(True, 1.2, 0.0)
    rule3: EndpointRule = EndpointRule(False, 0.0, 20.0)

    def hold(self, segment: Segment, frame_seconds: float) -> bool:
        """Whether the segment is at its end; frame_seconds is the time from one encoder frame to the next."""
        silence = frames_to_seconds(segment.trailing_blanks, frame_seconds)
        length = frames_to_seconds(segment.frames, frame_seconds)
        return any(getattr(self, rule.name).holds(segment.nonsilence, silence, length) for rule in fields(self))


DEFAULT_RULES = EndpointRules()


@dataclass(frozen=True)
class Segment:
    """The part of a stream since it was last reset: where it began and its length in encoder frames, how many of the
    last are without a token in the best hypothesis, and whether that has a token at all."""

    start: int
    frames: int
    trailing_blanks: int
    nonsilence: bool

    @classmethod
    def of(cls, start: int, seen: int, trace: Trace) -> Segment:
        """The segment that began after ``start`` frames, once ``seen`` are decoded, of a hypothesis that ends so."""
        nonsilence = trace.parent is not None
        return cls(start, seen - start, seen - (trace.time + 1 if nonsilence else start), nonsilence)


def frames_to_seconds(frames: int, frame_seconds: float) -> float:
    """Seconds to the microsecond, so that 30 frames of 0.04 s are 1.2 s."""
    return round(frames * frame_seconds, 6)
