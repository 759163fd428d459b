"""What a recognizer returns, and what it takes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sottovoce.errors import ConfigError, FormatError
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.runtime.words import Word


@dataclass(frozen=True)
class Result:
    """One transcript of a stream, or of its present segment once it was reset.

    tokens: pieces of text; ids: their numbers; times: seconds from the start of the stream at which the encoder frame
    that emitted each token begins; log_probs: the model's, of each token, nats; score: of the whole, nats, less the
    blank penalty of each blank, with the bonus of hotwords and the share of a language model; words: with times and
    confidences; segment: how many segments with a transcript came before; start_time: seconds from the start of the
    stream to that of the segment.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    times: tuple[float, ...]
    log_probs: tuple[float, ...]
    score: float
    words: tuple[Word, ...] = ()
    segment: int = 0
    start_time: float = 0.0


@dataclass(frozen=True)
class ModelInput:
    """What goes into a model: features of ``dim`` values, ``rate`` frames a second, and how to compute them.

    settings is None for a model that takes features only.
    """

    dim: int
    rate: float
    settings: FeatureSettings | None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelInput:
        """Reads {"kind": "waveform", **FeatureSettings} or {"kind": "features", "dim", "rate"} (frames a second).

        Raises FormatError for anything else.
        """
        fields = dict(data)
        kind = fields.pop("kind", None)
        if kind == "waveform":
            return cls._waveform(fields)
        if kind == "features":
            return cls._features(fields)
        raise FormatError(f"input: expected kind 'waveform' or 'features', found {kind!r}")

    @classmethod
    def _waveform(cls, fields: dict[str, Any]) -> ModelInput:
        try:
            settings = FeatureSettings.from_dict(fields)
        except ConfigError as error:
            raise FormatError(f"input: {error}") from error
        return cls(settings.bins, 1000.0 / settings.shift_ms, settings)

    @classmethod
    def _features(cls, fields: dict[str, Any]) -> ModelInput:
        dim, rate = fields.get("dim"), fields.get("rate")
        numbers = isinstance(dim, int) and isinstance(rate, int | float) and not isinstance(dim, bool)
        if set(fields) != {"dim", "rate"} or not numbers or dim < 1 or not 0 < rate < 1e6:  # type: ignore[operator]
            raise FormatError(f"input: expected a dim of 1 or more and a rate above 0, found {fields}")
        return cls(dim, float(rate), None)  # type: ignore[arg-type]
