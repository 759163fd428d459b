"""Per-channel energy normalization, frame by frame: the definition."""

from __future__ import annotations

import numpy as np

from sottovoce.packed import Pcen
from sottovoce.runtime.arithmetic import Floats, exp, log


def pcen_start(n: int, bins: int) -> Floats:
    """What n streams have smoothed before their first frame, float32 (n, bins)."""
    return np.full((n, bins), Pcen.START, np.float32)


def pcen(features: Floats, mean: Floats, settings: Pcen) -> tuple[Floats, Floats]:
    """Log-mel features float32 (N, T, F) and the running mean (N, F) -> normalized (N, T, F) and the new mean.

    In float32, in this order: E = exp(x); M = M * (1 - smoothing) + E * smoothing, frame by frame; then
    sqrt(E * exp(log(M + floor) * -gain) + bias) - sqrt(bias). See ``packed.Pcen``.
    """
    keep, share = np.float32(1 - settings.smoothing), np.float32(settings.smoothing)
    energy = exp(features)
    weighted = energy * share
    means = np.empty_like(energy)
    for t in range(energy.shape[1]):
        mean = mean * keep + weighted[:, t]
        means[:, t] = mean
    bias = np.float32(settings.bias)
    y = energy * exp(log(means + np.float32(Pcen.FLOOR)) * np.float32(-settings.gain))
    return np.sqrt(y + bias) - np.sqrt(bias), mean
