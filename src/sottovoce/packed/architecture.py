"""What a packed network is made of: the sizes that the trainer's model and the runtime both read from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from sottovoce.errors import FormatError


@dataclass(frozen=True)
class Pcen:
    """Per-channel energy normalization of log-mel features (Wang et al. 2017, arXiv 1607.05666, equations 1 and 2).

    The energy of each bin, E = exp(x), is divided by what it lately was, which takes away much of what a microphone, a
    room and a loudness put there: y = sqrt(E / (1e-6 + M)**gain + bias) - sqrt(bias), where M = (1 - smoothing) * M +
    smoothing * E runs along the frames, from 1e-3 before the first one. ``smoothing`` is per feature frame; ``gain``
    is the share of the level that is taken away, in nats; the root is the paper's power of one half.
    """

    smoothing: float = 0.008
    gain: float = 0.8
    bias: float = 2.0

    FLOOR: ClassVar[float] = 1e-6
    START: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        for name, low, high in (("smoothing", 1e-6, 1.0), ("gain", 0.0, 1.0), ("bias", 0.0, 1e3)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise FormatError(f"architecture: pcen.{name} must be a number in [{low}, {high}], found {value!r}")


@dataclass(frozen=True)
class RnntArchitecture:
    """A streaming LSTM RNN-T.

    The encoder normalizes features (by ``pcen`` if there is one, then by mean and deviation), stacks ``stack`` frames
    every ``stride`` frames (output j sees input frames ``j * stride - (stack - stride)`` to ``j * stride + stride -
    1``; frames before the first are zeros after normalization), runs ``encoder_layers`` LSTMs of ``encoder_units``,
    joins ``reduction`` neighbouring outputs after layer ``reduction_after`` (1-based; 0 = none), and projects to
    ``joiner_units``. Frames that do not fill a stack or a reduction at the end are dropped. The predictor embeds the
    last token (a zero vector for "no history", id -1), runs ``predictor_layers`` LSTMs of ``predictor_units`` and
    projects to ``joiner_units``. The joiner is ``W tanh(encoder + predictor) + b``. Blank is id 0; ``blank_penalty`` is
    what a search takes off its log-probability, in nats, unless it is told otherwise.
    """

    features: int
    vocabulary: int
    stack: int = 4
    stride: int = 2
    encoder_layers: int = 2
    encoder_units: int = 256
    layer_norm: bool = True
    reduction: int = 2
    reduction_after: int = 1
    embedding: int = 128
    predictor_layers: int = 1
    predictor_units: int = 128
    joiner_units: int = 128
    pcen: Pcen | None = None
    blank_penalty: float = 0.0

    MOST_PENALTY: ClassVar[float] = 1e3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in ("layer_norm", "pcen", "blank_penalty"):
                continue
            low, high = (0, 64) if name == "reduction_after" else (1, 1_000_000)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise FormatError(f"architecture: {name} must be an integer in [{low}, {high}], found {value!r}")
        if not isinstance(self.pcen, Pcen | None):
            raise FormatError(f"architecture: pcen must be a mapping of its settings, found {self.pcen!r}")
        most, penalty = self.MOST_PENALTY, self.blank_penalty
        if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not abs(penalty) <= most:
            raise FormatError(
                f"architecture: blank_penalty must be a number in [{-most:g}, {most:g}], found {penalty!r}"
            )
        if self.stack < self.stride:
            raise FormatError(
                f"architecture: stack {self.stack} is less than stride {self.stride}: frames would be lost"
            )
        if self.reduction_after > self.encoder_layers:
            raise FormatError(
                f"architecture: reduction_after {self.reduction_after} exceeds the {self.encoder_layers} encoder layers"
            )

    @property
    def subsampling(self) -> int:
        """Feature frames (10 ms each) for one encoder frame."""
        return self.stride * (self.reduction if self.reduction_after else 1)

    def layer_inputs(self) -> list[int]:
        """Input width of each encoder layer, shape (encoder_layers,)."""
        widths = [self.features * self.stack] + [self.encoder_units] * (self.encoder_layers - 1)
        if 0 < self.reduction_after < self.encoder_layers:
            widths[self.reduction_after] *= self.reduction
        return widths

    @property
    def encoder_width(self) -> int:
        """Width of what the encoder's projection reads: the last layer's output, widened if a reduction follows it."""
        last = self.reduction_after == self.encoder_layers
        return self.encoder_units * (self.reduction if last else 1)

    def output_frames(self, frames: int) -> int:
        """Encoder frames for a number of feature frames."""
        return frames // self.subsampling

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without ``pcen`` and ``blank_penalty`` where there is none, as files had it before
        there was any."""
        fields = asdict(self)
        for name in ("pcen", "blank_penalty"):
            if not fields[name]:
                del fields[name]
        return {"type": "rnnt", **fields}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RnntArchitecture:
        """Raises FormatError for another type of network, an unknown key or a size out of range."""
        fields = dict(data)
        kind = fields.pop("type", None)
        if kind != "rnnt":
            raise FormatError(f"architecture: expected type 'rnnt', found {kind!r}")
        try:
            if isinstance(fields.get("pcen"), Mapping):
                fields["pcen"] = Pcen(**fields["pcen"])
            return cls(**fields)
        except TypeError as error:
            raise FormatError(f"architecture: {error}") from error
