"""Plots that set runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sottovoce.errors import DataError
from sottovoce.report.markup import Markup, element, join
from sottovoce.report.plots import Line, legend, lines
from sottovoce.report.runs import RunFolder, series_of
from sottovoce.report.scatter import Point, scatter
from sottovoce.report.systems import Group, System


def error_against_size(group: Group) -> Markup:
    """Error over bytes, and where it was measured over latency, with the fronts."""
    series = series_of([system.run for system in group.systems])
    y_title = "WER %" if group.measure == "WER" else "perplexity"
    sizes = [(system, system.bytes / 1e6) for system in group.systems]
    drawn = [scatter(_points(sizes, group, series), "MB, without the tokenizer", y_title, label="error against size")]
    timed = [(system, latency[0]) for system in group.systems if (latency := system.run.latency)]
    if timed:
        points = _points(timed, group, series)
        drawn.append(scatter(points, "median ms a frame, here", y_title, label="error against latency"))
    used = [(name, k) for name, k in series.items() if any(system.run.scheme == name for system in group.systems)]
    plots = element("div", *(element("figure", drawing) for drawing in drawn), class_="columns")
    return element("div", legend(used), plots, element("p", _explained(group, bool(timed)), class_="note"))


def _explained(group: Group, timed: bool) -> str:
    better = "smaller, or faster, and better" if timed else "both smaller and better"
    text = f"Numbers are bits a weight. The dotted line is the front: nothing measured here is {better}. "
    text += "Sizes within 0.1 % count as equal. "
    if len(group.systems) > 1:
        text += f"Whiskers are the paired 95 % interval of the difference from {group.control.run.name}. "
    return text


def _points(found: Sequence[tuple[System, float]], group: Group, series: dict[str, int]) -> list[Point]:
    points = []
    for system, x in found:
        d, name = system.difference, system.run.name
        ends = (None, None) if d is None else tuple(group.control.error * (1 + v) for v in (d.low, d.high))
        title = f"{name}: {group.written(system.error)}, {x:.3g}"
        label = f"{system.run.bits:.3g}"
        points.append(Point(x, system.error, label, title, series[system.run.scheme], ends[0], ends[1]))
    return points


def level_shares(runs: Sequence[RunFolder], start: str) -> Markup:
    """Share of the weights on a level over training, of every run that recorded it. ``start``: the folder that
    compression would begin from."""
    series, curves, seen = series_of(runs), [], dict[str, int]()
    for run in runs:
        rows = run.json_lines("levels.jsonl")
        try:
            points = [(float(row["step"]), float(row["share"])) for row in rows]
            if not all(math.isfinite(v) for point in points for v in point):
                raise ValueError("a number")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{run.folder / 'levels.jsonl'}: expected step and share ({error})") from error
        if points:
            dash = seen[run.scheme] = seen.get(run.scheme, -1) + 1
            curves.append(Line(run.name, series[run.scheme], points, dash % 3))
    if not curves:
        command = f"sottovoce compress {start} --scheme s8bqat"
        return element(
            "p",
            "None of the runs recorded it; compressing a 32-bit run by training does: ",
            element("code", command),
            class_="absent",
        )
    text = (
        "Share of the weights within 1/1024 of a level while training goes on. What is left is rounded at the end, so "
        "that in the file every weight is on a level. Methods that train through rounded weights need not bring the "
        "weights beneath to a level."
    )
    drawing = lines(curves, "optimizer steps", "on a level", label="share of weights on a level over training")
    return join(element("p", text, class_="note"), element("figure", drawing))
