"""Error over size or time as points, with the front of those that no other one beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.report.markup import Markup, element
from sottovoce.report.placing import place
from sottovoce.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, figure, path
from sottovoce.report.systems import TIE

# One for each series, about a point, as large as a circle of radius 4; the style cuts the keys of text the same way.
_SHAPES = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-5.2L4.8,3.6H-4.8z",
    "M0,-5L5,0L0,5L-5,0z",
    "M0,5.2L4.8,-3.6H-4.8z",
    "M-4.8,-1.7h3.1v-3.1h3.4v3.1h3.1v3.4h-3.1v3.1h-3.4v-3.1h-3.1z",
    "M-2.4,-4.4h4.8L4.8,0L2.4,4.4h-4.8L-4.8,0z",
    "M-5,-2.6h10v5.2h-10z",
)
_APART = 4.0  # units between two whiskers


@dataclass(frozen=True)
class Point:
    """One system: ``label`` stands beside it, ``title`` is told when pointed at, ``series`` is its shape and colour."""

    x: float
    y: float
    label: str
    title: str
    series: int
    low: float | None = None
    high: float | None = None


def scatter(points: Sequence[Point], x_title: str, y_title: str, *, label: str) -> Markup:
    """Points over a logarithmic x with the front of those that no other one beats in both, and whiskers."""
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None and math.isfinite(v)]
    xs = [p.x for p in points]
    x = _padded(min(xs), max(xs), LEFT, WIDTH - RIGHT, log=True)
    y = _padded(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    corners = [(x(u), y(v)) for u, v in front(points)]
    marks = [path([*corners, (x.stop, corners[-1][1])], class_="front")]
    places = [(x(p.x), y(p.y)) for p in points]
    marks += [_whisker(p, left, y) for p, left in zip(points, _side_by_side([at for at, _ in places]), strict=True)]
    for p, (left, top) in zip(points, places, strict=True):
        at = f"translate({left:.1f},{top:.1f})"
        marks.append(
            element("path", element("title", p.title), d=_SHAPES[p.series], transform=at, class_=f"dot s{p.series}")
        )
    within = (LEFT, 0.0, WIDTH, HEIGHT - BOTTOM)
    for p, (left, top) in zip(points, place(places, [p.label for p in points], within), strict=True):
        marks.append(element("text", p.label, x=left, y=top, class_=f"mark s{p.series}", text_anchor="middle"))
    return figure(x, y, x_title, y_title, marks, label)


def front(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Corners of the Pareto front as steps from the smallest point on; of nearly equal sizes the best counts."""
    corners: list[tuple[float, float]] = []
    best, equal = math.inf, -math.inf
    for p in sorted(points, key=lambda p: (p.x, p.y)):
        if p.y >= best:
            continue
        if p.x <= equal:  # as small as the corner before, and better
            del corners[-2 if len(corners) > 1 else -1 :]
            best = corners[-1][1] if corners else math.inf
        else:
            equal = p.x * (1 + TIE)
        corners += [(p.x, best)] if corners else []
        corners.append((p.x, p.y))
        best = p.y
    return corners


def _side_by_side(places: Sequence[float]) -> list[float]:
    """Where whiskers stand, so that those of points that are nearly above each other do not lie on one another."""
    found = list(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    while order:
        together = [k for k in order if places[k] - places[order[0]] < _APART]
        for step, k in enumerate(together):
            found[k] = places[k] + _APART * (step - (len(together) - 1) / 2)
        order = order[len(together) :]
    return found


def _whisker(p: Point, left: float, y: Axis) -> Markup:
    ends = [v for v in (p.low, p.high) if v is not None and math.isfinite(v)]
    if len(ends) < 2:
        return Markup()
    d = "".join(f"M{left - 2.5:.1f},{y(v):.1f}h5" for v in ends) + f"M{left:.1f},{y(ends[0]):.1f}V{y(ends[1]):.1f}"
    return element("path", d=d, class_=f"whisker s{p.series}")


def _padded(low: float, high: float, start: float, stop: float, *, log: bool = False) -> Axis:
    if log:
        factor = max((high / low) ** 0.08, 1.15)
        return Axis(low / factor, high * factor, start, stop, log=True)
    margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
    return Axis(max(low - margin, 0.0), high + margin, start, stop)
