"""Plots as inline SVG, 360 units wide so that their text can be read on a phone; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.report.markup import Markup, element, join

WIDTH, HEIGHT = 360.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 14.0, 14.0, 36.0
SERIES = 8  # colours that the style knows


@dataclass(frozen=True)
class Axis:
    """Maps [low, high] to [start, stop], evenly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round numbers inside, four or so; 1, 2, 5 of each decade on a logarithmic axis that is long enough."""
        found = self._of_decades() if self.log else []
        if len(found) < 3:
            rough = (self.high - self.low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            found = [k * step for k in range(first, last + 1)]
        return found

    def _of_decades(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [v for d in decades for m in (1, 2, 5) if self.low <= (v := m * 10.0**d) <= self.high]


@dataclass(frozen=True)
class Point:
    """One system: ``label`` stands beside it, ``title`` is told when it is pointed at, ``series`` is its colour."""

    x: float
    y: float
    label: str
    title: str
    series: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A curve with its name at the end; ``dash`` tells lines of one colour apart."""

    name: str
    series: int
    points: Sequence[tuple[float, float]]
    dash: int = 0


def scatter(points: Sequence[Point], x_title: str, y_title: str, *, label: str) -> Markup:
    """Points over a logarithmic x with the front of those that no other one beats in both, and whiskers."""
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None and math.isfinite(v)]
    xs = [p.x for p in points]
    x = _padded(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, log=True)
    y = _padded(min(ys), max(ys), HEIGHT - _BOTTOM, _TOP)
    names = sorted({p.series for p in points})
    shift = {series: 5.0 * (k - (len(names) - 1) / 2) for k, series in enumerate(names)}
    places = [(x(p.x) + shift[p.series], y(p.y)) for p in points]
    marks = [_front(points, x, y)]
    for p, (left, top) in zip(points, places, strict=True):
        dot = element("circle", cx=left, cy=top, r=4, class_=f"dot s{p.series}")
        marks.append(element("g", _whisker(p, left, y), dot, element("title", p.title)))
    # Beside the rightmost of the points that stand together, so that no label lies on a dot.
    sides = [max(other for other, _ in places if abs(other - left) <= 5.0 * len(names)) for left, _ in places]
    ends = [(side, top, p.label, p.series) for p, side, (_, top) in zip(points, sides, places, strict=True)]
    return _figure(x, y, x_title, y_title, [*marks, *_labels(ends)], label)


def _whisker(p: Point, left: float, y: Axis) -> Markup | None:
    if p.low is None or p.high is None or not (math.isfinite(p.low) and math.isfinite(p.high)):
        return None
    return element("line", x1=left, x2=left, y1=y(p.low), y2=y(p.high), class_=f"whisker s{p.series}")


def lines(curves: Sequence[Line], x_title: str, y_title: str, *, label: str) -> Markup:
    """Curves over a linear x from 0, y from 0 to 1 at most as percent."""
    highest = max(v for curve in curves for _, v in curve.points)
    x = Axis(0, max(max(u for curve in curves for u, _ in curve.points), 1e-9), _LEFT, WIDTH - 84)
    y = Axis(0, highest * 1.06 or 1, HEIGHT - _BOTTOM, _TOP)
    marks = [
        element(
            "g",
            _path([(x(u), y(v)) for u, v in c.points], class_=f"curve s{c.series} d{c.dash}"),
            element("title", c.name),
        )
        for c in curves
    ]
    ends = [(x(c.points[-1][0]), y(c.points[-1][1]), c.name, c.series) for c in curves]
    return _figure(x, y, x_title, y_title, [*marks, *_labels(ends, gap=11)], label, percent=True)


def legend(names: Sequence[tuple[str, int]]) -> Markup:
    """Names beside their colours."""
    items = [element("li", element("span", class_=f"key s{series}"), name) for name, series in names]
    return element("ul", *items, class_="legend")


def _padded(low: float, high: float, start: float, stop: float, *, log: bool = False) -> Axis:
    if log:
        factor = max((high / low) ** 0.08, 1.15)
        return Axis(low / factor, high * factor, start, stop, log=True)
    margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
    return Axis(max(low - margin, 0.0), high + margin, start, stop)


def _front(points: Sequence[Point], x: Axis, y: Axis) -> Markup:
    """The Pareto front as steps from the smallest point on."""
    corners: list[tuple[float, float]] = []
    best = math.inf
    for p in sorted(points, key=lambda p: (p.x, p.y)):
        if p.y < best:
            corners += [(x(p.x), y(best))] if corners else []
            corners.append((x(p.x), y(p.y)))
            best = p.y
    corners.append((x.stop, y(best)))
    return _path(corners, class_="front")


def _labels(places: Sequence[tuple[float, float, str, int]], gap: float = 10.0) -> list[Markup]:
    """Texts to the right of their places, pushed apart where they would lie on each other."""
    placed: list[tuple[float, float, float]] = []
    found = []
    for x, y, text, series in sorted(places, key=lambda place: place[1]):
        width, at = 5.5 * len(text), y
        near = [other for left, other, w in placed if abs(left - x) < max(w, width)]
        for other in sorted(near):
            if abs(at - other) < gap:
                at = other + gap
        placed.append((x, at, width))
        found.append(element("text", text, x=x + 7, y=at + 3.5, class_=f"mark s{series}"))
    return found


def _figure(
    x: Axis, y: Axis, x_title: str, y_title: str, marks: Sequence[Markup], label: str, *, percent: bool = False
) -> Markup:
    ground = []
    for tick in y.ticks():
        text = f"{100 * tick:g} %" if percent else f"{tick:g}"
        ground.append(element("line", x1=x.start, x2=x.stop, y1=y(tick), y2=y(tick), class_="grid"))
        ground.append(element("text", text, x=x.start - 6, y=y(tick) + 3.5, class_="tick", text_anchor="end"))
    for tick in x.ticks():
        ground.append(element("line", x1=x(tick), x2=x(tick), y1=y.start, y2=y.start + 4, class_="axis"))
        ground.append(
            element(
                "text",
                f"{tick:,g}" if tick < 1e5 else f"{tick:,.0f}",
                x=x(tick),
                y=y.start + 15,
                class_="tick",
                text_anchor="middle",
            )
        )
    ground.append(element("line", x1=x.start, x2=x.stop, y1=y.start, y2=y.start, class_="axis"))
    ground.append(
        element("text", x_title, x=(x.start + x.stop) / 2, y=HEIGHT - 4, class_="title", text_anchor="middle")
    )
    ground.append(element("text", y_title, x=4, y=10, class_="title"))
    return svg(WIDTH, HEIGHT + 4, join(*ground, *marks), label=label, class_="plot")


def svg(width: float, height: float, content: Markup, *, label: str, class_: str) -> Markup:
    """A drawing with a name for those who cannot see it."""
    return element("svg", content, viewBox=f"0 0 {width:g} {height:g}", class_=class_, role="img", aria_label=label)


def _path(points: Sequence[tuple[float, float]], *, class_: str) -> Markup:
    return element("path", d="M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=class_)
