"""Plots as inline SVG, 360 units wide so that their text can be read on a phone; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.report.markup import Markup, element, join

WIDTH, HEIGHT = 360.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 14.0, 14.0, 36.0
LETTER = 5.5  # units, of a letter of a label
_GAP = 11.0  # units from one label to the next
_LONGEST = 22  # letters of a label


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
class Line:
    """A curve with its name at the end; ``dash`` tells lines of one colour apart."""

    name: str
    series: int
    points: Sequence[tuple[float, float]]
    dash: int = 0


def lines(curves: Sequence[Line], x_title: str, y_title: str, *, label: str) -> Markup:
    """Curves over a linear x from 0, y from 0 to 1 at most as percent; as high as the names at their ends need."""
    highest = max(v for curve in curves for _, v in curve.points)
    names = [_shortened(curve.name) for curve in curves]
    height = max(HEIGHT, TOP + BOTTOM + _GAP * len(curves))
    right = WIDTH - 12 - LETTER * max(map(len, names))
    x = Axis(0, max(max(u for curve in curves for u, _ in curve.points), 1e-9), LEFT, right)
    y = Axis(0, highest * 1.06 or 1, height - BOTTOM, TOP)
    marks = [
        element(
            "g",
            path([(x(u), y(v)) for u, v in c.points], class_=f"curve s{c.series} d{c.dash}"),
            element("title", c.name),
        )
        for c in curves
    ]
    heights = _apart([y(c.points[-1][1]) for c in curves], TOP, height - BOTTOM)
    for c, name, at in zip(curves, names, heights, strict=True):
        end = x(c.points[-1][0])
        marks.append(element("text", name, x=end + 7, y=at + 3.5, class_=f"mark s{c.series}"))
    return figure(x, y, x_title, y_title, marks, label, percent=True)


def _shortened(name: str) -> str:
    """A name that leaves room for its curve; both ends of it tell runs apart."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}"


def _apart(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Heights near the wanted ones, in their order, a line of text from each other, between low and high where there is
    room."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    found = list(wanted)
    for before, k in zip([None, *order], order, strict=False):
        found[k] = max(found[k], low if before is None else found[before] + _GAP)
    for after, k in zip([None, *order[::-1]], order[::-1], strict=False):
        found[k] = min(found[k], high if after is None else found[after] - _GAP)
    return found


def key(series: int) -> Markup:
    """The shape and colour of a series, for text."""
    return element("span", class_=f"key s{series}")


def legend(names: Sequence[tuple[str, int]]) -> Markup:
    """Names beside their shapes and colours."""
    items = [element("li", key(series), name) for name, series in names]
    return element("ul", *items, class_="legend")


def figure(
    x: Axis, y: Axis, x_title: str, y_title: str, marks: Sequence[Markup], label: str, *, percent: bool = False
) -> Markup:
    """Marks over a grid, with ticks and titles; as high as ``y`` reaches."""
    ground, height = [], y.start + BOTTOM
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
        element("text", x_title, x=(x.start + x.stop) / 2, y=height - 4, class_="title", text_anchor="middle")
    )
    ground.append(element("text", y_title, x=4, y=10, class_="title"))
    return svg(WIDTH, height + 4, join(*ground, *marks), label=label, class_="plot")


def svg(width: float, height: float, content: Markup, *, label: str, class_: str) -> Markup:
    """A drawing with a name for those who cannot see it."""
    return element("svg", content, viewBox=f"0 0 {width:g} {height:g}", class_=class_, role="img", aria_label=label)


def path(points: Sequence[tuple[float, float]], *, class_: str) -> Markup:
    """A line through points."""
    return element("path", d="M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=class_)
