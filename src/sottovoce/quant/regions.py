"""The paper's level set: up to three regions of uniform spacing, approximating Lloyd-Max on the int8 grid."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sottovoce.quant.lloyd_max import GRID


def region_levels(weight: Tensor, bits: int, scale: float = 1.0, regions: int = 3) -> Tensor:
    """Symmetric int8 levels (2**bits - 1,) in at most ``regions`` regions, of least squared error on ``weight``.

    Spacings s_1 < .. < s_R in units of scale / 128, n_r levels a region; every border is a multiple of the spacing
    beyond it, because an unphased ``|cos(pi theta w)|`` has its maxima only at multiples of 1 / theta. Exhaustive:
    cell edges are half-units, so sums over 256 half-unit bins give each candidate's error exactly.
    Source: S8BQAT, section 2.2 and figure 1; the choice of borders is ours.
    """
    candidates = _candidates(2 ** (bits - 1) - 1, regions)
    errors = _errors(weight, scale, candidates)
    positive = torch.from_numpy(candidates[int(errors.argmin())].astype(np.int64))
    return torch.cat([-positive.flip(0), torch.zeros(1, dtype=torch.int64), positive]).to(torch.int8)


@lru_cache(maxsize=32)
def _candidates(count: int, regions: int) -> np.ndarray:
    """Every allowed set of positive levels, int16 (M, count), those of fewer regions first."""
    found = sorted(_grids(count, regions), key=lambda grid: len(set(np.diff(grid, prepend=0).tolist())))
    return np.array(found, dtype=np.int16)


def _grids(count: int, regions: int, border: int = 0, inner: int = 0) -> Iterator[list[int]]:
    """Levels of ``count`` steps beyond a border, in at most ``regions`` regions of spacings wider than ``inner``."""
    for step in range(inner + 1, GRID):
        if border % step:
            continue
        levels = list(range(border + step, GRID, step))[:count]
        if len(levels) == count:
            yield levels
        if regions > 1:
            for n in range(1, min(count, len(levels) + 1)):
                yield from (levels[:n] + outer for outer in _grids(count - n, regions - 1, levels[n - 1], step))


def _errors(weight: Tensor, scale: float, candidates: np.ndarray) -> np.ndarray:
    """Squared error of each candidate (M,), in squared grid units, from half-unit bins of |w|."""
    units = weight.detach().abs().flatten().double().mul_(GRID / scale).cpu().numpy()
    bins = np.minimum((2 * units).astype(np.int64), 2 * GRID)
    moments = [np.concatenate([[0.0], np.bincount(bins, w, 2 * GRID + 1).cumsum()]) for w in (None, units, units**2)]
    levels = np.concatenate([np.zeros((len(candidates), 1), np.int64), candidates.astype(np.int64)], 1)
    edges = levels[:, :-1] + levels[:, 1:]  # midpoints in half-units
    ends = np.full((len(levels), 1), 2 * GRID + 1)
    border = np.concatenate([np.zeros_like(ends), edges, ends], 1)
    count, first, second = (np.diff(m[border], axis=1) for m in moments)
    errors: np.ndarray = (second - 2 * levels * first + levels**2 * count).sum(1)
    return errors
