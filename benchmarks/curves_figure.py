"""A picture of size against error, and of latency against error, from the committed cells of ``equal_bytes.py``,
of the corpora whose sizes are all measured.

python benchmarks/curves_figure.py [--data NAME]... [--plan FILE] [--results FILE] [--out FILE]
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import matplotlib.ticker
from arms import load_plan
from cells import Cells, run_script
from equal_bytes import HERE, KEYS, Curves, Point, arms_of, curves_of, missing, places_of
from figure import save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sottovoce.errors import DataError

SEEDS = 3
STYLES = {
    "int8": ("o", "--", "#555555", "8 bits, rounded"),
    "S8BQAT-8": ("s", "--", "#000000", "8 bits, preset"),
    "ptq-5": ("v", "-", "#c08020", "5 bits, rounded"),
    "S8BQAT-4": ("D", "-", "#2060c0", "4 bits, preset"),
    "S8BQAT-3": ("^", "-", "#409060", "3 bits, preset"),
    "S8BQAT-2": ("P", "-", "#8060a0", "2 bits, preset"),
}


def draw(axes: Axes, points: Sequence[Point], along: Callable[[Point], float | None]) -> None:
    """A line a system over the sizes of its network. Raises ValueError for one that has no style."""
    if missing := {point.arm.name for point in points} - set(STYLES):
        raise ValueError(f"expected a style for each system, found none for {', '.join(sorted(missing))}")
    for name, (marker, line, colour, label) in STYLES.items():
        found = [(along(point), mean(point.test)) for point in points if point.arm.name == name]
        there = sorted((x, wer) for x, wer in found if x is not None)
        if there:
            xs, wers = zip(*there, strict=True)
            axes.plot(xs, wers, marker=marker, linestyle=line, color=colour, label=label, linewidth=1, markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)


def columns(found: dict[str, Curves]) -> Figure:
    """A column a corpus, bytes above and latency below where it was timed."""
    timed = any(point.latency is not None for curves in found.values() for point in curves.points)
    figure = Figure(figsize=(3.9 * len(found), 6.2 if timed else 3.4), layout="constrained")
    panels = figure.subplots(2 if timed else 1, len(found), squeeze=False)
    for column, (name, curves) in enumerate(found.items()):
        draw(panels[0, column], curves.points, lambda point: point.bytes / 1e3)
        panels[0, column].set_title(name, fontsize=10)
        panels[0, column].set_xlabel("model, kB")
        if timed:
            draw(panels[1, column], curves.points, lambda point: point.latency and 1e3 * point.latency)
            panels[1, column].set_xlabel("a step, µs, one thread (8 bits: fastest engine)")
    for axes in panels[:, 0]:
        axes.set_ylabel("word error rate on test, %")
    panels[0, 0].legend(fontsize=8, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", help="a corpus of the plan; repeatable; default: all")
    parser.add_argument("--plan", type=Path, default=HERE / "equal_bytes.yaml")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "s8bqat_rnnt.jsonl")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "images" / "equal_bytes.svg")
    options = parser.parse_args()
    corpora, plan = load_plan(options.plan, options.data, KEYS)
    arms, cells = arms_of(plan), Cells(options.results)
    places = places_of(corpora, plan, Path("unused"), SEEDS)  # nothing is trained here
    names = dict.fromkeys(corpus.prepared for corpus in corpora)
    found = {name: curves_of(name, corpora, arms, plan, cells, places) for name in names}
    found = {name: curves for name, curves in found.items() if curves.points and not missing(curves)}
    if not found:
        raise DataError(f"{options.results}: expected all sizes of a corpus of {options.plan}, found none")
    save(columns(found), options.out)


if __name__ == "__main__":
    run_script(main)
