"""Histograms of weights, before compression and trained, with the levels that they ended on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.packed import PackedMatrix
from sottovoce.report.markup import Markup, element, join
from sottovoce.report.plots import svg

_WIDTH, _HEIGHT, _BASE = 176.0, 96.0, 78.0
_SHOWN = 0.9995  # share of the weights between the sides of a plot: a few far out would leave no room
_STICKS = 64  # more levels are drawn as a curve

Floats = NDArray[np.float64]


def histogram(name: str, matrix: PackedMatrix, stages: Mapping[str, Any]) -> Markup:
    """One weight: ``stages`` are its histograms ``before`` and, where training moved it, ``trained``.

    Heights are densities, so that sticks as high as the curve hold as many weights as the curve above their cell.
    Raises DataError for histograms that hold no counts.
    """
    curves = {stage: _density(name, found) for stage, found in stages.items()}
    reach = _reach(*curves["before"])
    values, counts = np.unique(matrix.decode(), return_counts=True)
    centres = values.astype(np.float64)
    levels = _levels_density(centres, counts.astype(np.float64), curves["before"][0])
    tallest = max(float(density.max()) for _, density in curves.values())
    if len(centres) > 1:
        tallest = max(tallest, float(np.quantile(levels, 0.95)))
    marks = [
        element("path", d=_outline(*curves["before"], reach, tallest), class_="before"),
        *(
            element("path", d=_outline(*curves[stage], reach, tallest), class_="trained")
            for stage in curves
            if stage != "before"
        ),
        _sticks(centres, levels, reach, tallest),
        element("line", x1=0, x2=_WIDTH, y1=_BASE, y2=_BASE, class_="axis"),
        element("text", f"−{reach:.2g}", x=1, y=_BASE + 12, class_="tick"),
        element("text", "0", x=_WIDTH / 2, y=_BASE + 12, class_="tick", text_anchor="middle"),
        element("text", f"{reach:.2g}", x=_WIDTH - 1, y=_BASE + 12, class_="tick", text_anchor="end"),
    ]
    drawing = svg(_WIDTH, _HEIGHT, join(*marks), label=f"weights of {name}", class_="histogram")
    bits = "+".join(dict.fromkeys(str(band.bits) for band in matrix.bands))
    return element("figure", drawing, element("figcaption", name, " ", element("b", f"{bits} bits")))


def _density(name: str, found: Any) -> tuple[Floats, Floats]:
    """Edges (B + 1,) and densities (B,) of a recorded histogram."""
    try:
        counts = np.asarray(found["counts"], np.float64)
        low, high = float(found["low"]), float(found["high"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"weights.json: {name}: expected low, high and counts ({error})") from error
    if counts.ndim != 1 or not counts.sum() > 0:
        raise DataError(f"weights.json: {name}: expected counts of weights, found none")
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, len(counts) + 1)
    return edges, counts / counts.sum() / (edges[1] - edges[0])


def _reach(edges: Floats, density: Floats) -> float:
    """Half the width of a plot, about zero."""
    magnitudes = np.abs(edges[:-1] + edges[1:]) / 2
    order = np.argsort(magnitudes)
    share = np.cumsum(density[order]) / density.sum()
    return float(magnitudes[order][min(int(np.searchsorted(share, _SHOWN)), len(order) - 1)]) * 1.05 or 1.0


def _levels_density(levels: Floats, counts: Floats, edges: Floats) -> Floats:
    """Weights on each level over the width of its cell, which ends half-way to its neighbours."""
    inner = (levels[1:] + levels[:-1]) / 2
    first = min(float(edges[0]), float(levels[0])) if len(levels) else 0.0
    last = max(float(edges[-1]), float(levels[-1])) if len(levels) else 1.0
    if len(levels) > 1:  # the outer cells are as wide as the gap inside: the tails are few, and long
        first, last = levels[0] - (inner[0] - levels[0]), levels[-1] + (levels[-1] - inner[-1])
    cells = np.diff(np.concatenate([[first], inner, [last]]))
    density: Floats = counts / counts.sum() / np.maximum(cells, 1e-12)
    return density


def _outline(edges: Floats, density: Floats, reach: float, tallest: float) -> str:
    """A closed staircase; nothing where all of it lies beyond the plot."""
    inside = np.flatnonzero((edges[1:] > -reach) & (edges[:-1] < reach))
    if not len(inside):
        return ""
    x = np.clip((edges / reach + 1) / 2, 0, 1) * _WIDTH
    y = _BASE - np.minimum(density / tallest, 1) * (_BASE - 6)
    steps = "".join(f"V{y[i]:.1f}H{x[i + 1]:.1f}" for i in inside)
    return f"M{x[inside[0]]:.1f},{_BASE:g}{steps}V{_BASE:g}Z"


def _sticks(levels: Floats, density: Floats, reach: float, tallest: float) -> Markup:
    x = (levels / reach + 1) / 2 * _WIDTH
    y = _BASE - np.minimum(density / tallest, 1) * (_BASE - 6)
    inside: Sequence[int] = np.flatnonzero(np.abs(levels) <= reach).tolist()
    if len(inside) > _STICKS:
        return element("path", d=_many(x[inside], y[inside]), class_="levels many")
    stems = "".join(f"M{x[i]:.1f},{_BASE:g}V{y[i]:.1f}" for i in inside)
    heads = "".join(f"M{x[i] - 1.7:.1f},{y[i]:.1f}h3.4" for i in inside)
    return element("path", d=stems + heads, class_="levels")


def _many(x: Floats, y: Floats) -> str:
    """Levels too close to tell apart: the mean height of those in each of many columns."""
    columns = np.minimum((x / _WIDTH * 128).astype(int), 127)
    points = [(float(x[columns == c].mean()), float(y[columns == c].mean())) for c in np.unique(columns)]
    return "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in points)
