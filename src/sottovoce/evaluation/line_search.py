"""Word errors of n-best lists along a line of weights, exactly.

Och, "Minimum error rate training in statistical machine translation", ACL 2003, section 4: along weights w + t d the
score of each entry is a straight line in t, so the entry that wins changes only where the upper envelope of these lines
has a corner, and the errors of all lists together are a step function of t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Features:
    """One n-best list as numbers: ``values`` float64 (K, F) of K entries, ``errors`` int64 (K,) of each against the
    reference."""

    values: Floats
    errors: Integers


@dataclass(frozen=True, eq=False)
class Steps:
    """A step function: ``errors`` int64 (M + 1,) in the intervals that ``corners`` float64 (M,), rising, cut."""

    corners: Floats
    errors: Integers

    def at(self, t: float) -> int:
        """Errors at t; on a corner those to its right."""
        return int(self.errors[np.searchsorted(self.corners, t, side="right")])


def upper_envelope(intercepts: Floats, slopes: Floats) -> tuple[Floats, Integers]:
    """Which of the lines (K,) is on top: corners (M,) in rising t, and the line of each interval, (M + 1,).

    Of equal lines the first counts.
    """
    order = np.lexsort((np.arange(len(slopes)), -intercepts, slopes))
    a, b = intercepts[order].tolist(), slopes[order].tolist()
    top: list[int] = []
    corners: list[float] = []
    for i in range(len(order)):
        if top and b[i] == b[top[-1]]:
            continue  # parallel and not higher
        while top:
            corner = (a[top[-1]] - a[i]) / (b[i] - b[top[-1]])
            if not corners or corner > corners[-1]:
                corners.append(corner)
                break
            top.pop()
            corners.pop()
        top.append(i)
    return np.array(corners[: len(top) - 1] if top else [], np.float64), order[np.array(top, np.int64)]


def errors_along(lists: Sequence[Features], weights: Floats, direction: Floats) -> Steps:
    """Total errors of the best entries at weights (F,) + t direction (F,), for every t."""
    start, corners, changes = 0, [np.empty(0)], [np.empty(0, np.int64)]
    for item in lists:
        at, winners = upper_envelope(item.values @ weights, item.values @ direction)
        errors = item.errors[winners]
        start += int(errors[0])
        corners.append(at)
        changes.append(np.diff(errors))
    where, change = np.concatenate(corners), np.concatenate(changes)
    places, back = np.unique(where, return_inverse=True)
    steps = np.rint(np.bincount(back, weights=change, minlength=len(places))).astype(np.int64)
    moved = np.flatnonzero(steps)
    return Steps(places[moved], np.concatenate([[start], start + np.cumsum(steps[moved])]))


def best_points(steps: Steps, low: float, high: float) -> Floats:
    """The middle of each interval within (low, high) that has the fewest errors; the outermost ones are taken as no
    wider than 1, or as half of what is at their inner end."""
    inside = (steps.corners > low) & (steps.corners < high)
    corners = steps.corners[inside]
    first = int(np.searchsorted(steps.corners, low, side="right"))
    errors = steps.errors[first : first + len(corners) + 1]
    if not len(corners):
        return np.array([_bounded(low, high)])
    reach = np.maximum(1.0, np.abs(corners[[0, -1]]) / 2)
    edges = np.concatenate([[max(low, corners[0] - reach[0])], corners, [min(high, corners[-1] + reach[1])]])
    middles: Floats = (edges[:-1] + edges[1:]) / 2
    # Corners that rounding alone tells apart enclose nothing.
    real = np.diff(edges) > 1e-9 * (1.0 + np.abs(middles))
    fewest: Floats = middles[real & (errors == errors[real].min(initial=errors.max()))]
    return fewest if len(fewest) else middles[:1]


def _bounded(low: float, high: float) -> float:
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2
    return float(np.clip(0.0, low, high))
