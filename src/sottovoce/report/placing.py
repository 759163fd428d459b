"""Places for labels beside points, where they hide neither a point nor each other."""

from __future__ import annotations

from collections.abc import Sequence

from sottovoce.report.plots import LETTER

Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

_RADIUS, _HEIGHT = 5.0, 8.0
_STEPS = (0.0, 6.0, -6.0, 11.0, -11.0, 17.0, -17.0)  # up and down from the point's own height


def place(points: Sequence[Place], labels: Sequence[str], within: Box) -> list[Place]:
    """The middle of each label's baseline: beside its point and inside the drawing, at the nearest place that is free;
    where none is, where it hides least."""
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in points]
    found = []
    for (x, y), label in zip(points, labels, strict=True):
        boxes = _candidates(x, y, LETTER * len(label))
        box = min(boxes, key=lambda box: (_outside(box, within), sum(_shared(box, other) for other in taken)))
        taken.append(box)
        found.append(((box[0] + box[2]) / 2, box[3]))
    return found


def _candidates(x: float, y: float, width: float) -> list[Box]:
    """The nearest first: right and left of the point, higher and lower, then the same farther out."""
    boxes = []
    for far in (_RADIUS + 2, _RADIUS + 10):
        for step in _STEPS:
            for left in (x + far, x - far - width):
                boxes.append((left, y + step - _HEIGHT / 2, left + width, y + step + _HEIGHT / 2))
    return boxes


def _shared(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)


def _outside(box: Box, within: Box) -> float:
    """The area of a box that is beyond another."""
    left, top, right, bottom = box
    return (right - left) * (bottom - top) - _shared(box, within)
