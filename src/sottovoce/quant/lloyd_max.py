"""Lloyd-Max levels: one-dimensional k-means, exact by sorting, and their snap to the int8 grid."""

from __future__ import annotations

import torch
from torch import Tensor

GRID = 128  # levels of an 8-bit accelerator are k / 128, k an int8 (S8BQAT, section 2.1)


def lloyd_max(
    weight: Tensor, count: int, *, symmetric: bool = False, iterations: int = 200, tolerance: float = 1e-6
) -> Tensor:
    """Levels that minimize the squared error of rounding ``weight`` to the nearest of ``count`` of them.

    weight: any shape, float. Returns float64 (count,), non-decreasing. ``symmetric`` mirrors the levels about zero, an
    odd count with zero among them. Starts from mid-quantiles; each round takes the mean of every cell, cells being
    intervals of the sorted weights, so a round costs a binary search an edge; an empty cell splits the one with the
    largest squared error. Stops when no level moves by more than ``tolerance`` times the weights' RMS.
    Source: S8BQAT, section 2.2; Lloyd 1982; Max 1960.

    Raises ValueError for fewer than two levels or an empty weight.
    """
    if count < 2 or weight.numel() == 0:
        raise ValueError(
            f"Lloyd-Max wants at least 2 levels and 1 weight, found {count} levels and {weight.numel()} weights"
        )
    if symmetric:
        return _symmetric(weight, count, iterations, tolerance)
    return _fit(_Sorted(weight.flatten()), count, pinned_zero=False, iterations=iterations, tolerance=tolerance)


def _symmetric(weight: Tensor, count: int, iterations: int, tolerance: float) -> Tensor:
    magnitude = _Sorted(weight.flatten().abs())
    odd = count % 2 == 1
    half = _fit(magnitude, count // 2 + odd, pinned_zero=odd, iterations=iterations, tolerance=tolerance)
    return torch.cat([-half.flip(0)[: count // 2], half])


class _Sorted:
    """Sorted weights with running sums, so that the count, sum and squared error of any interval cost two look-ups."""

    def __init__(self, weight: Tensor) -> None:
        self.values = weight.detach().float().sort().values
        double = self.values.double()
        zero = double.new_zeros(1)
        self.sums = torch.cat([zero, double.cumsum(0)])
        self.squares = torch.cat([zero, double.square().cumsum(0)])
        self.spread = float((self.squares[-1] / max(len(double), 1)).sqrt())

    def cells(self, edges: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Borders (K + 1,), counts (K,), sums (K,) and squares (K,) of the cells between edges (K - 1,)."""
        cut = torch.searchsorted(
            self.values.double() if self.values.device.type != "cpu" else self.values, edges.to(self._key())
        )
        border = torch.cat([cut.new_zeros(1), cut, cut.new_full((1,), len(self.values))])
        return border, border.diff(), self.sums[border].diff(), self.squares[border].diff()

    def _key(self) -> torch.dtype:
        return torch.float64 if self.values.device.type != "cpu" else torch.float32


def _fit(data: _Sorted, count: int, *, pinned_zero: bool, iterations: int, tolerance: float) -> Tensor:
    n = len(data.values)
    quantiles = (torch.arange(count, device=data.values.device) + 0.5) / count
    levels = data.values[(quantiles * n).long().clamp_max(n - 1)].double()
    for _ in range(iterations):
        levels, _ = levels.sort()
        if pinned_zero:
            levels[0] = 0.0
        moved = _round(data, levels, pinned_zero)
        change = float((moved - levels).abs().max())
        levels = moved
        if change <= tolerance * data.spread:
            break
    return levels.sort().values


def _round(data: _Sorted, levels: Tensor, pinned_zero: bool) -> Tensor:
    """One alternation: cells by midpoints, levels by means; an empty cell takes half of the worst one."""
    border, counts, sums, squares = data.cells((levels[1:] + levels[:-1]) / 2)
    means = torch.where(counts > 0, sums / counts.clamp_min(1), levels)
    if pinned_zero:
        means[0] = 0.0
    empty = (counts == 0).nonzero().flatten().tolist()
    error = squares - 2 * means * sums + means.square() * counts
    for cell in empty:
        worst = int(error.argmax())
        if cell == worst or float(error[worst]) <= 0 or (pinned_zero and cell == 0):
            continue
        middle = (border[worst] + border[worst + 1]) // 2
        upper = int(border[worst + 1]) - int(middle)
        means[cell] = (data.sums[border[worst + 1]] - data.sums[middle]) / max(upper, 1)
        error[worst] /= 4
    return means


def power_of_two_scale(levels: Tensor) -> float:
    """Smallest power of two s for which every level lies on the grid ``s * k / 128``, k in [-127, 127] after
    rounding."""
    largest = max(float(levels.abs().max()), 2.0**-20)
    exponent = torch.tensor(largest * GRID / 127.5, dtype=torch.float64).log2().ceil()
    return float(2.0**exponent)


def snap_to_grid(levels: Tensor, scale: float = 1.0, *, symmetric: bool = False) -> Tensor:
    """Levels (K,) to distinct int8 grid points: ``k = rint(128 c / scale)``, duplicates moved outward by one.

    Returns int8 (K,), strictly increasing. ``symmetric``: the upper half of the levels is snapped and mirrored, within
    +-127; an odd count has zero in the middle, an even one leaves it out, so its innermost pair is at least +-1.
    Source: S8BQAT, section 2.2, with our rule for duplicates. Raises ValueError for more than 256 levels.
    """
    count = len(levels)
    if symmetric:
        odd = count % 2
        half = levels.double().sort().values[count // 2 :]
        points_above = snap_to_grid(half.clamp((1 - odd) * scale / GRID, (GRID - 1) * scale / GRID), scale)
        return torch.cat([-points_above[odd:].flip(0), points_above])
    if count > 256:
        raise ValueError(f"an int8 grid holds at most 256 levels, found {count}")
    points = [int(x) for x in (levels.double() * (GRID / scale)).round().clamp(-GRID, GRID - 1).sort().values.tolist()]
    positive = next((i for i, x in enumerate(points) if x >= 0), count)
    for i in range(positive + 1, count):
        points[i] = max(points[i], points[i - 1] + 1)
    for i in range(positive - 1, -1, -1):
        above = points[i + 1] if i + 1 < count else GRID
        points[i] = min(points[i], above - 1)
    for i in range(count):  # what was pushed beyond the ends moves back inside
        points[i] = max(points[i], i - GRID)
    for i in range(count - 1, -1, -1):
        points[i] = min(points[i], GRID - 1 - (count - 1 - i))
    return torch.tensor(points, dtype=torch.int8)
