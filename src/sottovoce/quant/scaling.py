"""Scales: rounding them to what the file stores, and fitting them to weights by least squares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_HALF = torch.finfo(torch.float16)


def group_count(grouping: str, rows: int, gates: int) -> int:
    """Scales of a weight of ``rows`` output rows: 1 per ``tensor`` (or whole ``model``), one per ``gate``, one per
    ``row``."""
    return {"model": 1, "tensor": 1, "gate": gates, "row": rows}[grouping]


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

    weight: (R, C) float; levels: (K,) sorted, any numbers. Returns float32 (groups,). The error has many local minima:
    it tries ``candidates`` scales between a clipping one and the one that covers the largest weight, as many again
    around the best of them, and from there alternates assignment and the closed form ``<w, v> / <v, v>``.
    """
    w = weight.reshape(groups, -1).float()
    levels = levels.to(w).float()
    outer = levels.abs().max()
    largest = w.abs().amax(1).clamp_min(1e-30)
    spread = w.square().mean(1).sqrt().clamp_min(1e-30)
    # The best range of evenly spaced levels grows with their number, from 0.8 standard deviations at two of them.
    low = torch.minimum((0.15 + 0.35 * math.log2(len(levels))) * spread, 0.5 * largest) / outer
    step = (largest / outer / low) ** (1 / candidates)
    best = largest / outer
    error = _error(w, levels, best)
    for i in range(candidates):
        best, error = _better(w, levels, best, error, low * step**i)
    centre = best
    for i in range(candidates):
        best, error = _better(w, levels, best, error, centre * step ** (2 * (i + 0.5) / candidates - 1))
    return alternate(w, levels, best, rounds)


def alternate(weight: Tensor, levels: Tensor, scale: Tensor, rounds: int = 20) -> Tensor:
    """Scales (G,) after ``rounds`` of assigning each weight to its nearest level and refitting the scale to that.

    weight: (R, C) float, in G groups of rows; levels: (K,) sorted. Neither step can raise the squared error; it stops
    where no code changes (the inner loop of ADMM quantization, Xu et al. 2021, arXiv 2112.11438, section III-C).
    """
    w = weight.reshape(len(scale), -1).float()
    levels = levels.to(w).float()
    value = _nearest(w / scale[:, None], levels)
    for _ in range(rounds):
        power = value.square().sum(1)
        fitted = (w * value).sum(1) / power.clamp_min(1e-30)
        scale = torch.where((power > 0) & (fitted > 0), fitted, scale)
        before, value = value, _nearest(w / scale[:, None], levels)
        if torch.equal(before, value):
            break
    return scale


def squared_error(weight: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """Squared error of rounding each of G groups of an (R, C) weight to ``scale * levels``: (G,)."""
    w = weight.reshape(len(scale), -1).float()
    return _error(w, levels.to(w).float(), scale)


def _better(w: Tensor, levels: Tensor, best: Tensor, error: Tensor, trial: Tensor) -> tuple[Tensor, Tensor]:
    trial_error = _error(w, levels, trial)
    return torch.where(trial_error < error, trial, best), torch.minimum(error, trial_error)


def _nearest(units: Tensor, levels: Tensor) -> Tensor:
    gaps = levels.diff()
    if bool((gaps == gaps[0]).all()):  # evenly spaced: several times faster than a search
        return ((units - levels[0]) / gaps[0]).round_().clamp_(0, len(levels) - 1).mul_(gaps[0]).add_(levels[0])
    edges = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(units, edges)]


def _error(w: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    return (w - _nearest(w / scale[:, None], levels) * scale[:, None]).square().sum(1)
