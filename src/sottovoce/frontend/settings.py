"""What filterbank features are made of: data that goes into the model file, so that training and device agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from sottovoce.errors import ConfigError

_LIMITS: dict[str, tuple[float, float]] = {
    "sample_rate": (2_000, 192_000),
    "bins": (3, 256),
    "low_hz": (0.0, 96_000.0),
    "high_hz": (-96_000.0, 96_000.0),
    "frame_ms": (1.0, 200.0),
    "shift_ms": (1.0, 200.0),
}
_INTEGERS = ("sample_rate", "bins")
Style = Literal["kaldi", "nemo"]
STYLES: tuple[str, ...] = get_args(Style)


@dataclass(frozen=True)
class FeatureSettings:
    """Log-mel filterbanks as sherpa-onnx computes them for its ``lstm`` type, or for its NeMo type.

    ``bins`` mel filters from ``low_hz`` to ``high_hz`` (zero or negative: an offset from the Nyquist frequency), frames
    of ``frame_ms`` every ``shift_ms``, audio at ``sample_rate`` with samples in [-1, 1]. ``style`` "kaldi": povey
    window, DC offset removed, filters on Kaldi's mel scale; "nemo": Hann window, DC offset kept, librosa's filters
    (Slaney's scale, of equal area) from 0 Hz to the Nyquist frequency. Fixed, because nothing here ever varies them: no
    dither, edges reflected, pre-emphasis 0.97, power spectrum, natural logarithm. Raises ConfigError on values out of
    range.
    """

    sample_rate: int = 16_000
    bins: int = 80
    low_hz: float = 20.0
    high_hz: float = -400.0
    frame_ms: float = 25.0
    shift_ms: float = 10.0
    style: Style = "kaldi"

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            _check_number(name, getattr(self, name), low, high)
        if self.style not in STYLES:
            raise ConfigError(f"features: style must be {' or '.join(STYLES)}, found {self.style!r}")
        if self.style == "nemo" and (self.low_hz, self.top_hz) != (0, self.sample_rate / 2):
            raise ConfigError(
                f"features: style nemo has filters from 0 to {self.sample_rate / 2} Hz (low_hz 0, high_hz 0), found "
                f"{self.low_hz} to {self.top_hz}"
            )
        if self.shift_ms > self.frame_ms:
            raise ConfigError(
                f"features: shift_ms {self.shift_ms} exceeds frame_ms {self.frame_ms}: audio would be lost"
            )
        if not self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise ConfigError(
                f"features: the band {self.low_hz} to {self.top_hz} Hz is not inside 0 to {self.sample_rate / 2} Hz"
            )
        # The lowest filter is the narrowest; one without a spectral line in it would be constant.
        if self._lowest_filter_hz() < self.sample_rate / self._fft_points():
            raise ConfigError(
                f"features: {self.bins} bins are too many for {self.frame_ms} ms at {self.sample_rate} Hz"
            )

    @property
    def top_hz(self) -> float:
        """Upper edge of the last filter in Hz."""
        return self.high_hz if self.high_hz > 0 else self.sample_rate / 2 + self.high_hz

    @property
    def shift_samples(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * 0.001 * self.shift_ms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without ``style`` where it is Kaldi's, as files had it before there was another."""
        values = asdict(self)
        if self.style == "kaldi":
            del values["style"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSettings:
        """The settings in ``values``; missing keys keep defaults. Raises ConfigError on unknown keys or bad values."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"features: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**values)

    def _fft_points(self) -> int:
        return 1 << max(1, math.ceil(math.log2(self.sample_rate * 0.001 * self.frame_ms)))

    def _lowest_filter_hz(self) -> float:
        low, top = _mel(self.low_hz), _mel(self.top_hz)
        return _hz(low + 2 * (top - low) / (self.bins + 1)) - self.low_hz


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    right_kind = isinstance(value, int if name in _INTEGERS else int | float) and not isinstance(value, bool)
    if not right_kind or not low <= value <= high:
        kind = "an integer" if name in _INTEGERS else "a number"
        raise ConfigError(f"features: {name} must be {kind} in [{low:g}, {high:g}], found {value!r}")


def _mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)


def _hz(mel: float) -> float:
    return 700.0 * (math.exp(mel / 1127.0) - 1.0)
