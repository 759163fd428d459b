"""Where plots put points, fronts and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.report.placing import place
from sottovoce.report.plots import Line, lines
from sottovoce.report.scatter import Point, front, scatter

Places = Sequence[tuple[float, float]]


def points(*places: tuple[float, float]) -> list[Point]:
    return [Point(x, y, "4", "", k % 8) for k, (x, y) in enumerate(places)]


@given(st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(1, 9).map(float)), min_size=1, max_size=12))
def test_the_front_is_of_the_points_that_no_other_beats(places: Places) -> None:
    kept = {
        (x, y)
        for x, y in places
        if not any((u <= x and v < y) or (u < x and v <= y) for u, v in places)
    }  # fmt: skip
    corners = front(points(*places))
    assert set(corners[::2]) == kept and corners == sorted(corners, key=lambda c: (c[0], -c[1]))


def test_sizes_that_differ_by_a_header_are_equal() -> None:
    assert front(points((1.0, 9.0), (2.0, 7.0), (2.001, 5.0), (3.0, 6.0))) == [(1.0, 9.0), (2.001, 9.0), (2.001, 5.0)]
    assert front(points((857.144, 28.6), (857.152, 24.5))) == [(857.152, 24.5)]


def test_points_stand_at_their_own_values_in_shapes_of_their_own() -> None:
    page = scatter([Point(2.0, 5.0, "4", "a", 1), Point(2.0, 6.0, "4", "b", 2)], "x", "y", label="plot")
    found = re.findall(r'd="([^"]*)" transform="translate\(([\d.]+),', page)
    assert len({shape for shape, _ in found}) == 2 and len({x for _, x in found}) == 1


@pytest.mark.parametrize("count", [1, 4, 9])
def test_labels_lie_on_no_point_and_on_no_other(count: int) -> None:
    places = [(100.0 + 3 * (k % 3), 100.0 + 6 * k) for k in range(count)]
    boxes = [(x - 2.75, y - 8, x + 2.75, y) for x, y in place(places, ["4"] * count, (0.0, 0.0, 360.0, 250.0))]
    boxes += [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    labels = range(count)
    for k in labels:
        for j, other in enumerate(boxes):
            own = boxes[k]
            apart = own[2] <= other[0] or other[2] <= own[0] or own[3] <= other[1] or other[3] <= own[1]
            assert j == k or apart


@given(st.lists(st.tuples(st.floats(45, 341), st.floats(19, 209)), min_size=1, max_size=6), st.integers(1, 20))
def test_labels_stay_inside_the_drawing(places: Places, letters: int) -> None:
    labels = ["4" * letters] * len(places)
    half = 2.75 * letters
    for x, y in place(places, labels, (40.0, 14.0, 346.0, 214.0)):
        assert x - half >= 40 and x + half <= 346 and y - 8 >= 14 and y <= 214


def test_whiskers_of_equal_sizes_stand_side_by_side() -> None:
    found = [Point(x, 5.0, "4", "", k, 4.0, 6.0) for k, x in enumerate((2.0, 2.0, 2.0, 9.0))]
    page = scatter(found, "x", "y", label="plot")
    stems = [float(left) for left in re.findall(r'M([\d.]+),[\d.]+V[\d.]+" class="whisker', page)]
    dots = [float(left) for left in re.findall(r"translate\(([\d.]+),", page)]
    assert [left - dot for left, dot in zip(stems, dots, strict=True)] == pytest.approx([-4, 0, 4, 0], abs=0.11)


@pytest.mark.parametrize("count", [3, 40])
def test_names_of_curves_stay_inside_the_drawing(count: int) -> None:
    curves = [Line(f"runs/a-long-name-of-a-run-{k}", 1, [(0.0, 0.0), (9.0, 0.001)]) for k in range(count)]
    page = lines(curves, "x", "y", label="shares")
    high = float(page.split('viewBox="0 0 360 ')[1].split('"')[0])
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="mark', page))
    assert len(heights) == count and heights[0] > 5 and heights[-1] < high - 30
    assert all(b - a > 10 for a, b in pairwise(heights))
    names = re.findall(r'x="([\d.]+)" y="[\d.]+" class="mark s1">([^<]*)<', page)
    assert all(float(x) + 5.5 * len(name) <= 360 for x, name in names)
