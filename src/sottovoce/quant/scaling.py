"""Scales: rounding them to what the file stores, and fitting them to weights by least squares."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = torch.finfo(torch.float16)


def group_count(grouping: str, rows: int, gates: int) -> int:
    """Scales of a weight of ``rows`` output rows: 1 per ``tensor``, one per ``gate``, one per ``row``."""
    return {"tensor": 1, "gate": gates, "row": rows}[grouping]


def storable(scale: Tensor) -> Tensor:
    """Scales (G,) rounded to float16, as float32; left in float32 where one lies outside float16's normal range."""
    if bool(((scale < _HALF.tiny) | (scale > _HALF.max)).any()):
        return scale.float()
    return scale.half().float()


def scale_dtype(scale: Tensor) -> torch.dtype:
    """float16 where that holds every scale exactly, else float32."""
    return torch.float16 if torch.equal(scale.half().float(), scale.float()) else torch.float32


def least_squares_scale(weight: Tensor, levels: Tensor, groups: int, candidates: int = 24, rounds: int = 4) -> Tensor:
    """Scale of each group that minimizes the squared error of rounding to ``scale * levels``.

    weight: (R, C) float; levels: (K,) sorted, any numbers. Returns float32 (groups,). Tries ``candidates`` scales
    between a clipping one and the one that covers the largest weight, then alternates assignment and the closed form
    ``<w, v> / <v, v>`` (the inner loop of ADMM quantization, Xu et al. 2021, section III-C).
    """
    w = weight.reshape(groups, -1).float()
    levels = levels.to(w).float()
    outer = levels.abs().max()
    largest = w.abs().amax(1).clamp_min(1e-30)
    spread = w.square().mean(1).sqrt().clamp_min(1e-30)
    low = torch.minimum(0.5 * spread / outer, 0.5 * largest / outer)
    best = largest / outer
    error = _error(w, levels, best)
    for i in range(candidates):
        trial = low * (largest / outer / low) ** (i / candidates)
        trial_error = _error(w, levels, trial)
        best = torch.where(trial_error < error, trial, best)
        error = torch.minimum(error, trial_error)
    for _ in range(rounds):
        value = _nearest(w / best[:, None], levels)
        power = value.square().sum(1)
        fitted = (w * value).sum(1) / power.clamp_min(1e-30)
        best = torch.where((power > 0) & (fitted > 0), fitted, best)
    return best


def _nearest(units: Tensor, levels: Tensor) -> Tensor:
    edges = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(units, edges)]


def _error(w: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    return (w - _nearest(w / scale[:, None], levels) * scale[:, None]).square().sum(1)
