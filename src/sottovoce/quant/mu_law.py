"""Levels spaced by the mu-law, dense near zero, with mu (and if asked the range) fitted to a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sottovoce.quant.lloyd_max import GRID, power_of_two_scale, snap_to_grid

MUS = (1, 2, 4, 8, 16, 32, 64, 128)
_HALVINGS = 12  # ranges tried below the one that covers the largest weight


def mu_law_levels(count: int, mu: float) -> Tensor:
    """Symmetric int8 levels (count,): ``sign(t) ((1 + mu)**|t| - 1) / mu`` at ``count`` even steps t from -1 to 1.

    In units of 1 / 128, within +-127, strictly increasing: ``rint(128 z)``, with duplicates moved outward by one as
    ``snap_to_grid`` does. An even count leaves zero out, so its innermost pair is at least +-1.
    Source: GQ (Zhen et al. 2022, arXiv 2210.09188), where the warp is printed over 1 + mu; over mu its ends stay +-1.

    Raises ValueError for fewer than 2 or more than 255 levels.
    """
    if not 2 <= count <= 2 * GRID - 1:
        raise ValueError(f"mu-law levels are 2 to {2 * GRID - 1} numbers, found {count}")
    odd = count % 2
    t = torch.linspace(-1, 1, count, dtype=torch.float64)[count // 2 :]
    half = ((1 + mu) ** t - 1) / mu
    return snap_to_grid(torch.cat([-half[odd:].flip(0), half]), symmetric=True)


def fit_mu_law(weight: Tensor, count: int, ranges: Sequence[float] = (1.0,)) -> tuple[Tensor, float]:
    """Levels (count,) int8 and range R, of the least squared error of rounding ``weight`` to ``R / 128 * levels``.

    weight: any shape, float; ``ranges``: powers of two. Tries each of MUS with each range. Edges between cells are
    half-units, and those of a wide range are among those of a narrow one, so one histogram of |w| in half-units of
    the narrowest range gives each candidate's error exactly.
    """
    fine = 2 * GRID / min(ranges)  # half-units of the narrowest range in one
    units = weight.detach().abs().flatten().double().mul_(fine).cpu().numpy()
    last = int(max(ranges) * fine)  # what lies beyond the widest range shares the last bin
    bins = np.minimum(units, last).astype(np.int64)
    moments = [np.concatenate([[0.0], np.bincount(bins, w, last + 1).cumsum()]) for w in (None, units)]
    tables = [mu_law_levels(count, mu) for mu in MUS]
    candidates = [
        (_error(table[count // 2 :].numpy().astype(np.int64), round(width * fine) // GRID, moments), table, width)
        for width in ranges
        for table in tables
    ]
    _, levels, width = min(candidates, key=lambda x: x[0])
    return levels, width


def power_of_two_ranges(weight: Tensor) -> list[float]:
    """Powers of two from the mean of |w|, rounded down, to the first that covers the largest; widest first.

    A symmetric set whose outermost level is at most the mean magnitude never loses by widening: hence the lower end.
    """
    magnitude = weight.detach().abs()
    top = power_of_two_scale(magnitude.max()[None])
    mean = max(float(magnitude.double().mean()), top * 2.0**-_HALVINGS)
    return [top / 2.0**k for k in range(round(math.log2(top)) - math.floor(math.log2(mean)) + 1)]


def _error(half: NDArray[np.int64], step: int, moments: list[NDArray[np.float64]]) -> float:
    """Squared error in squared half-units of the narrowest range, less the sum of squares that all candidates share.

    half: levels that are not negative; step: width of one level in those half-units; moments: running counts and sums.
    """
    edges = (half[1:] + half[:-1]) * step // 2
    border = np.concatenate([[0], edges, [len(moments[0]) - 1]])
    count, total = (np.diff(m[border]) for m in moments)
    values = half * step
    return float((values**2 * count - 2 * values * total).sum())
