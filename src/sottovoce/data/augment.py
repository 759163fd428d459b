"""Augmentation of padded feature batches, all random numbers from one generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from sottovoce.data import options as check
from sottovoce.data.vtlp import warp_cepstra, warp_filterbanks
from sottovoce.errors import ConfigError, did_you_mean

_DOMAINS = ("filterbank", "cepstrum")


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to a training batch; zeros (and speeds of 1) switch a part off.

    SpecAugment masks (Park et al. 2019, section 2): ``time_masks`` of 0 to ``time_mask_frames`` frames, at most
    ``time_mask_share`` of the utterance each, and ``frequency_masks`` of 0 to ``frequency_mask_bins`` bins, filled
    with the utterance's mean. ``noise``: standard deviation of Gaussian noise on each value. ``channel``: standard
    deviation of an offset per utterance and bin; ``normalized``: both in units of each feature's own standard deviation
    over the training data, as cepstra need, whose first and last differ by orders of magnitude. ``tilt``: for
    filterbanks, an offset that is smooth over the bins, as another microphone gives it: the standard deviation, in
    nats, of each of its first four cosines. ``slowest`` to ``fastest``: speed factor an utterance, by interpolation
    between frames. ``vtlp``: the frequency axis of an utterance is stretched by 1 - vtlp to 1 + vtlp (Jaitly and Hinton
    2013); ``vtlp_domain`` says whether features are a ``filterbank`` or a ``cepstrum`` of ``cepstrum_filters`` filters.
    ``concatenate``: share of the batches in which a second utterance of the batch, drawn at random, is appended to each
    before all else; such a batch holds twice ``data.max_duration``.
    """

    time_masks: int = 2
    time_mask_frames: int = 12
    time_mask_share: float = 0.2
    frequency_masks: int = 2
    frequency_mask_bins: int = 15
    noise: float = 0.1
    channel: float = 0.1
    tilt: float = 0.0
    slowest: float = 1.0
    fastest: float = 1.0
    normalized: bool = False
    vtlp: float = 0.0
    vtlp_domain: str = "filterbank"
    cepstrum_filters: int = 40
    concatenate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins"):
            check.integer(f"augment.{name}", getattr(self, name), 0, 1000)
        limits = {"time_mask_share": 1.0, "noise": 10.0, "channel": 10.0, "tilt": 10.0, "vtlp": 0.5, "concatenate": 1.0}
        for name, high in limits.items():
            check.number(f"augment.{name}", getattr(self, name), 0.0, high)
        check.integer("augment.cepstrum_filters", self.cepstrum_filters, 1, 1000)
        if not isinstance(self.normalized, bool):
            raise ConfigError(f"augment.normalized must be true or false, found {self.normalized!r}")
        if self.vtlp_domain not in _DOMAINS:
            raise ConfigError(f"augment.vtlp_domain must be one of {', '.join(_DOMAINS)}, found {self.vtlp_domain!r}")
        check.span("augment.slowest and augment.fastest", (self.slowest, self.fastest), 0.5, 2.0)

    def check_width(self, features: int) -> None:
        """Raises ConfigError for settings that do not fit so many features a frame."""
        if self.vtlp and self.vtlp_domain == "cepstrum" and features > self.cepstrum_filters:
            raise ConfigError(
                f"augment.cepstrum_filters: {self.cepstrum_filters} filters give no cepstrum of {features} coefficients"
                " (for filterbanks, augment.vtlp_domain=filterbank)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AugmentConfig:
        """The configuration in ``values``. Raises ConfigError on unknown keys or bad values."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            hint = did_you_mean(unknown[0], known)
            raise ConfigError(f"augment: unknown option {unknown[0]!r}; known are {', '.join(known)}{hint}")
        return cls(**values)


def augment(
    features: Tensor,
    lengths: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
    deviation: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A changed copy of ``features`` (N, T, F) float32 with ``lengths`` (N,) int64, and its lengths.

    In this order: speed, VTLP, tilt, channel, noise, masks; what ``concatenate`` appends comes from the dataset,
    before. ``deviation`` (F,): standard deviation of each feature, for ``normalized``. Frames from an utterance's
    length on come back as zeros. The same generator state gives the same result. Raises ConfigError for settings that
    do not fit the features, or a deviation that is not given.
    """
    unit = _unit(config, deviation)
    if config.slowest != 1.0 or config.fastest != 1.0:
        features, lengths = _change_speed(features, lengths, config, generator)
    if config.vtlp:
        features = _warp(features, config, generator)
    if config.tilt:
        features = features + config.tilt * _smooth(len(features), features.shape[2], generator)
    valid = torch.arange(features.shape[1]) < lengths[:, None]  # (N, T)
    if config.channel:
        shape = (len(features), 1, features.shape[2])
        features = features + config.channel * unit * torch.randn(shape, generator=generator)
    if config.noise:
        features = features + config.noise * unit * torch.randn(features.shape, generator=generator)
    masked = _time_masks(lengths, features.shape[1], config, generator)[:, :, None]
    masked = masked | _frequency_masks(len(features), features.shape[2], config, generator)[:, None, :]
    kept = valid[:, :, None]
    mean = (features * kept).sum(dim=1, keepdim=True) / lengths.clamp(min=1)[:, None, None]  # (N, 1, F)
    return torch.where(masked, mean, features) * kept, lengths


def _unit(config: AugmentConfig, deviation: Tensor | None) -> Tensor | float:
    """What noise and channel are measured in: (F,), or 1."""
    if not config.normalized:
        return 1.0
    if deviation is None:
        raise ConfigError("augment.normalized needs the standard deviation of the training features")
    return deviation


def _smooth(count: int, bins: int, generator: torch.Generator) -> Tensor:
    """(N, 1, F) random offsets: the first four cosines over the bins, each of standard deviation 1."""
    order = torch.arange(1, 5)[:, None]
    cosines = torch.cos(torch.pi * order * (torch.arange(bins) + 0.5) / bins)  # (4, F)
    return (torch.randn((count, 4), generator=generator) @ cosines)[:, None, :]


def _warp(features: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    config.check_width(features.shape[2])
    factors = 1 + config.vtlp * (2 * torch.rand(len(features), generator=generator) - 1)  # (N,)
    if config.vtlp_domain == "cepstrum":
        return warp_cepstra(features, factors, config.cepstrum_filters)
    return warp_filterbanks(features, factors)


def _change_speed(
    features: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    spread = config.fastest - config.slowest
    factors = config.slowest + spread * torch.rand(len(features), generator=generator)  # (N,)
    changed = (lengths / factors).round().long().clamp(min=1)
    changed = torch.where(lengths > 0, changed, lengths)
    frames = int(changed.max())
    # Output frame j of n lies at (j + 1/2) * T / n - 1/2 in the input: ends stay at ends.
    ratio = (lengths / changed.clamp(min=1))[:, None]
    place = ((torch.arange(frames) + 0.5) * ratio - 0.5).clamp(min=0)
    place = torch.minimum(place, (lengths - 1).clamp(min=0)[:, None].to(place.dtype))  # (N, T')
    low = place.floor().long()
    high = torch.minimum(low + 1, (lengths - 1).clamp(min=0)[:, None])
    share = (place - low)[:, :, None]
    width = features.shape[2]
    first = features.gather(1, low[:, :, None].expand(-1, -1, width))
    second = features.gather(1, high[:, :, None].expand(-1, -1, width))
    return first + share * (second - first), changed


def _time_masks(lengths: Tensor, frames: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    longest = (lengths * config.time_mask_share).clamp(max=config.time_mask_frames)
    return _spans(lengths, longest, frames, config.time_masks, generator)


def _frequency_masks(count: int, bins: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    sizes = torch.full((count,), bins)
    longest = sizes.clamp(max=config.frequency_mask_bins)
    return _spans(sizes, longest, bins, config.frequency_masks, generator)


def _spans(sizes: Tensor, longest: Tensor, width: int, masks: int, generator: torch.Generator) -> Tensor:
    """(N, width) bool: ``masks`` random spans a row of 0 to ``longest`` (N,) places inside the first ``sizes`` (N,)."""
    draws = torch.rand((2, len(sizes), masks), generator=generator)
    length = (draws[0] * (longest[:, None] + 1)).floor()  # (N, masks)
    length = torch.minimum(length, longest[:, None].floor())
    start = (draws[1] * (sizes[:, None] - length + 1)).floor()
    place = torch.arange(width)  # (width,)
    inside = (place >= start[:, :, None]) & (place < (start + length)[:, :, None])  # (N, masks, width)
    return inside.any(dim=1)
