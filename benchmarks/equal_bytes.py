"""A larger recognizer in fewer bits against a smaller one in eight: word errors at equal bytes, and at equal latency.

    python benchmarks/equal_bytes.py --data an4:DIR --data fsdd:DIR --data swda-synth:DIR [--seeds 1] [--chosen]
        [--size SIZE] [--quick] [--work DIR] [--results FILE] [--speeds] [--table] [--page FILE]

Networks of several sizes (benchmarks/equal_bytes.yaml) are trained alike in 32 bits and written in 8, 5, 4, 3 and 2
bits: so each larger network at few bits has among its rivals the smaller ones in 8 bits, and the *wide 8-bit control*,
itself in 8 bits. In 8 bits each is there rounded and trained by the preset too, so that what the preset's training
gives is not taken for a gain of bits. At each budget, the bytes of an 8-bit file, the rival is the 8-bit point within
it that is best on dev; ours is the point of fewer bits within it that is best on dev; test compares the two, paired.
``--speeds`` times all files of seed 0 in turns, step by step, one thread, the 8-bit ones in PyTorch's and ONNX
Runtime's int8 too: a rival's latency is that of the fastest of the three. As fast: the best on dev of the points of
fewer bits that are within the budget and no slower than that. Dev chooses by the seeds that all points have, and test
compares on those that both of a pair have: when all is measured and timed, ``--chosen`` trains, on the seeds after
these, only what dev has chosen at some budget.
Finished cells are not run again; ``--table`` only prints them (of all corpora of the plan, unless ``--data`` names
some), ``--page`` puts them into a page's region named as the plan's file.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from arms import Corpus, arm_of, base_hours, cell_config, load_plan, model_of, place_of, tasks_of, train_base
from cells import Cells, config_hash, print_machine, run_script
from options import add_options, kept_cells
from places import Place
from s8bqat_rnnt import Results, record
from tables import Tables, shown

from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import relative_difference
from sottovoce.evaluation.turns import CYCLE, Steps, interleaved
from sottovoce.packed import load_model
from sottovoce.peers import INT8_PEERS, make_peer
from sottovoce.report.systems import TIE
from sottovoce.runtime import make_network
from sottovoce.training.comparison import CONTROL, Arm
from sottovoce.training.workers import Task, run_tasks

HERE = Path(__file__).parent
KEYS = ("int8", "tolerance")  # of its plan, beside corpora and arms
OURS = "sottovoce"
STEPS = 400
TIMING_HOURS = 0.02  # of one corpus
SCORE_HOURS = 0.01  # of a file on one split

Part = tuple[Place[Corpus], Sequence[Arm], str]  # what is done in one place for one split


@dataclass(frozen=True)
class Point:
    """One size of a corpus's network at one width: what its file is, and what it hears."""

    corpus: Corpus
    arm: Arm
    bytes: int
    dev: float
    test: tuple[float, ...]
    latency: float | None

    @property
    def name(self) -> str:
        return f"{self.corpus.size}, {self.arm.system}, {self.arm.bits} bits"


@dataclass(frozen=True)
class Pair:
    """What dev has chosen within a budget in bytes: in 8 bits, in fewer, and in fewer as fast as the one in 8."""

    budget: int
    rival: Point
    ours: Point
    fast: Point | None


@dataclass(frozen=True)
class Curves:
    """The points of one corpus, as far as they are there."""

    sizes: tuple[Corpus, ...]
    arms: tuple[Arm, ...]
    dev: Results
    test: Results
    speeds: dict[str, dict[str, float]]
    tolerance: float

    @cached_property
    def points(self) -> list[Point]:
        return [point for corpus in self.sizes for arm in self.arms if (point := self._point(corpus, arm)) is not None]

    @cached_property
    def seeds(self) -> list[int]:
        """Those that all points have: what dev chooses by, and what curves show."""
        found = [set(self._measured(corpus, arm)) for corpus in self.sizes for arm in self.arms]
        there = [seeds for seeds in found if seeds]
        return sorted(set.intersection(*there)) if there else []

    def _measured(self, corpus: Corpus, arm: Arm) -> list[int]:
        """Seeds with both splits: test has more, of what ``--chosen`` trained and of the other benchmark's cells."""
        seeds = self.dev.seeds([corpus], arm)
        needed = [(fold, system) for fold in corpus.folds for system in (Arm(CONTROL, None), arm)]
        return [s for s in seeds if all(self.test.figures(corpus, fold, s, one) is not None for fold, one in needed)]

    def _point(self, corpus: Corpus, arm: Arm) -> Point | None:
        if not self.seeds or not self._measured(corpus, arm):
            return None
        figures = self.test.figures(corpus, corpus.folds[0], self.seeds[0], arm) or {}
        dev, test = ([results.wer(corpus, seed, arm) for seed in self.seeds] for results in (self.dev, self.test))
        times = self.speeds.get(label(corpus, arm), {})
        latency = min(times.values()) if times else None
        return Point(corpus, arm, int(figures["model_bytes"]), mean(dev), tuple(test), latency)

    @property
    def rivals(self) -> list[Point]:
        return [point for point in self.points if point.arm.bits == 8]

    def best(self, budget: int, eight: bool, latency: float | None = None) -> Point | None:
        """The point within so many bytes, and milliseconds a step, that is best on dev; 8 bits, or fewer."""
        slack = 1 + self.tolerance
        within = [
            point
            for point in self.points
            if (point.arm.bits == 8) == eight
            and point.bytes <= slack * budget
            and (latency is None or (point.latency is not None and point.latency <= slack * latency))
        ]
        return min(within, key=lambda point: point.dev, default=None)

    @cached_property
    def pairs(self) -> list[Pair]:
        """At the bytes of each 8-bit file: the best of 8 bits, the best of fewer, and of those the best as fast."""
        found = []
        for budget in _apart(point.bytes for point in self.rivals):
            rival, ours = (self.best(budget, eight) for eight in (True, False))
            if rival is not None and ours is not None:
                fast = self.best(budget, eight=False, latency=rival.latency) if rival.latency else None
                found.append(Pair(budget, rival, ours, fast))
        return found

    def chosen(self, corpus: Corpus) -> list[Arm]:
        """What dev has chosen of a size at some budget, in the plan's order."""
        points = [point for pair in self.pairs for point in (pair.rival, pair.ours, pair.fast) if point is not None]
        names = {point.arm.name for point in points if point.corpus == corpus}
        return [arm for arm in self.arms if arm.name in names]

    def compared(self, rival: Point, ours: Point) -> list[str]:
        """Test WERs of both and the relative difference of errors with both one-sided 95 % bounds, on the seeds that
        both have."""
        tested = (self.test.seeds([point.corpus], point.arm) for point in (rival, ours))
        seeds = sorted(set.intersection(*map(set, tested)))
        errors = [
            np.array([self.test.joined([point.corpus], seed, point.arm, "errors") for seed in seeds], float)
            for point in (rival, ours)
        ]
        found = relative_difference(errors[0], errors[1], self.test.clusters([rival.corpus], seeds[0]))
        told = f"{100 * found.estimate:+.1f} % [{100 * found.lower():+.1f}, {100 * found.upper():+.1f}]"
        wers = [" ".join(f"{self.test.wer(p.corpus, seed, p.arm):.2f}" for seed in seeds) for p in (rival, ours)]
        return [*wers, f"{told} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"]


def curve(curves: Curves) -> list[list[str]]:
    """A line a point, smallest file first."""
    lines = []
    for point in sorted(curves.points, key=lambda p: p.bytes):
        times = curves.speeds.get(label(point.corpus, point.arm), {})
        peers = [f"{1e3 * times[name]:.0f}" for name in INT8_PEERS if name in times]
        ours = f"{1e3 * times[OURS]:.0f}" if times else ""
        wers = " ".join(f"{wer:.2f}" for wer in point.test)
        kilobytes = f"{point.bytes / 1e3:,.0f}"
        lines.append([
            point.corpus.size, point.arm.system, str(point.arm.bits), kilobytes, f"{point.dev:.2f}", wers, ours,
            " / ".join(peers),
        ])  # fmt: skip
    return lines


def budgets(curves: Curves) -> list[list[str]]:
    """A line a budget: the pair, and the one that is as fast."""
    lines = []
    for pair in curves.pairs:
        rival, ours, fast = pair.rival, pair.ours, pair.fast
        eight, fewer, difference = curves.compared(rival, ours)
        line = [f"{pair.budget / 1e3:,.0f}", rival.name, eight, ours.name, fewer, difference]
        line.append(f"{ours.latency / rival.latency:.2f}" if ours.latency and rival.latency else "")
        line += [fast.name, *curves.compared(rival, fast)[1:]] if fast else ["", "", ""]
        lines.append(line)
    return lines


def _apart(sizes: Iterable[int]) -> list[int]:
    """Ascending; of files of one shape, which differ by names in their headers, the largest."""
    found: list[int] = []
    for size in sorted(sizes, reverse=True):
        if not found or size * (1 + TIE) < found[-1]:
            found.append(size)
    return found[::-1]


def label(corpus: Corpus, arm: Arm) -> str:
    """What names a file among those that are timed together."""
    return f"{corpus.name} {arm.name}"


def measure_speeds(places: Sequence[Place[Corpus]], arms: Sequence[Arm]) -> dict[str, dict[str, float]]:
    """Milliseconds a step, medians, by place and arm and engine; all files take turns. Raises DataError for one that
    is not there."""
    systems: dict[tuple[str, str], Steps] = {}
    for place in places:
        for arm in arms:
            path, name = model_of(place, arm), label(place.source, arm)
            if not path.exists():
                raise DataError(f"{path}: expected the file of {name} to be timed beside the others, found none")
            model = load_model(path)
            systems[name, OURS] = Steps(make_network(model))
            if arm.bits == 8:
                systems |= {(name, peer): Steps(make_peer(peer, model)) for peer in INT8_PEERS}
    found: dict[str, dict[str, float]] = {}
    keys = {f"{name}\n{engine}": (name, engine) for name, engine in systems}
    timed = interleaved({key: systems[pair] for key, pair in keys.items()}, cycles=STEPS // CYCLE)
    for key, times in timed.items():
        name, engine = keys[key]
        found.setdefault(name, {})[engine] = 1e3 * times.percentile(50)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", help="NAME, or NAME:DIR; repeatable")
    parser.add_argument("--plan", type=Path, default=HERE / "equal_bytes.yaml")
    parser.add_argument("--size", action="append", help="train only networks of these sizes; repeatable")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--chosen", action="store_true", help="on seeds after the first, what dev chose by the first")
    parser.add_argument("--speeds", action="store_true", help="time the files, which have to be there, and print")
    add_options(
        parser,
        quick="two sizes and widths, two epochs",
        work="runs/s8bqat_rnnt",
        holds="shared with s8bqat_rnnt.py",
        workers=2,
    )
    options = parser.parse_args()
    if not (options.data or options.table):
        parser.error("--data is needed")
    if options.speeds and (options.size or options.chosen):
        parser.error("--speeds times all files of seed 0: expected neither --size nor --chosen beside it")
    if options.table and (options.speeds or options.chosen or options.size):
        parser.error("--table only prints: expected neither --speeds, --chosen nor --size beside it")
    if options.chosen and (options.quick or options.seeds < 2):
        parser.error("--chosen trains on seeds after the first: expected --seeds of 2 or more, and no --quick")
    corpora, plan = load_plan(options.plan, options.data, KEYS)
    if unknown := set(options.size or []) - {corpus.size for corpus in corpora}:
        parser.error(f"--size: expected sizes of the plan, found {', '.join(sorted(unknown))}")
    arms = arms_of(plan)
    if options.quick:
        corpora, arms = [c for c in corpora if options.size is None or c.size in options.size][:2], arms[:3]
    places = places_of(corpora, plan, options.work, options.seeds, options.quick)
    cells = kept_cells(options, "s8bqat_rnnt")
    names = dict.fromkeys(corpus.prepared for corpus in corpora)
    curves = {name: curves_of(name, corpora, arms, plan, cells, places) for name in names}
    sized = [place for place in places if options.size is None or place.source.size in options.size]
    if options.speeds:
        time_all(cells, sized, arms)
    elif not options.table:
        run(cells, of_chosen(sized, curves) if options.chosen else of_all(sized, arms), options)
    with shown(__file__, options.plan.stem, cells, options) as emit:
        for name in names:
            show(name, curves_of(name, corpora, arms, plan, cells, places), emit)


def curves_of(
    name: str,
    corpora: Sequence[Corpus],
    arms: Sequence[Arm],
    plan: dict[str, Any],
    cells: Cells,
    places: tuple[Place[Corpus], ...],
) -> Curves:
    """What the cells hold of the sizes of one corpus."""
    return Curves(
        sizes=tuple(corpus for corpus in corpora if corpus.prepared == name),
        arms=tuple(arm for arm in arms if arm.name != CONTROL),
        dev=Results(cells, places, "dev"),
        test=Results(cells, places, "test"),
        speeds=speeds_of(cells, timed(places, name), arms),
        tolerance=float(plan["tolerance"]),
    )


def arms_of(plan: dict[str, Any]) -> list[Arm]:
    """The control, 8 bits, and each width of each arm."""
    arms = [Arm(CONTROL, None), arm_of("int8", plan["int8"], 8)]
    return arms + [arm_of(name, arm["settings"], bits) for name, arm in plan["arms"].items() for bits in arm["bits"]]


def places_of(
    corpora: Sequence[Corpus], plan: dict[str, Any], work: Path, seeds: int = 1, quick: bool = False
) -> tuple[Place[Corpus], ...]:
    """Every corpus, fold and seed in its folder of ``work``; quick: the first seed and fold."""
    converged = plan.get("converged", [])
    return tuple(
        place_of(corpus, fold, seed, corpus.prepared not in converged, work / ("quick" if quick else "full"), quick)
        for seed in range(1 if quick else seeds)
        for corpus in corpora
        for fold in (corpus.folds[:1] if quick else corpus.folds)
    )


def of_all(places: Sequence[Place[Corpus]], arms: Sequence[Arm]) -> list[Part]:
    """Every arm: trained and scored on test, then the same files scored on dev."""
    return [(place, arms, split) for split in ("test", "dev") for place in places]


def of_chosen(places: Sequence[Place[Corpus]], curves: dict[str, Curves]) -> list[Part]:
    """Of the seeds that dev did not choose by: the control and what dev has chosen, on test. Raises DataError where
    points or their times are lacking, for then dev cannot choose yet."""
    parts: list[Part] = []
    for place in places:
        name = place.source.prepared
        there = curves[name]
        if lacking := missing(there) or ([] if there.speeds else ["--speeds"]):
            raise DataError(f"--chosen: expected all by which dev chooses, {name} lacks {', '.join(lacking)}")
        if place.seed not in there.seeds and (chosen := there.chosen(place.source)):
            parts.append((place, [Arm(CONTROL, None), *chosen], "test"))
    return parts


def run(cells: Cells, parts: Sequence[Part], options: argparse.Namespace) -> None:
    """Do what is still to be done, one split after the other."""
    print(f"estimated: {_hours(cells, parts) * (0.1 if options.quick else 1):.1f} CPU hours", flush=True)
    print_machine()
    for split in dict.fromkeys(split for *_, split in parts):
        for name, result in run_tasks(list(_tasks(cells, parts, split)), options.workers):
            print(f"{split}, {name}: {record(cells, result)}", flush=True)


def _tasks(cells: Cells, parts: Sequence[Part], split: str) -> Iterator[Task]:
    for place, arms, of in parts:
        if of == split:
            yield from tasks_of(place, list(arms), cells, split)


def _hours(cells: Cells, parts: Sequence[Part]) -> float:
    """What is trained already, or for the other split, is only scored."""
    hours, trained = 0.0, set[str]()
    for split in dict.fromkeys(split for *_, split in parts):
        for task in _tasks(cells, parts, split):
            place, new = task.arguments[0], task.name not in trained
            trained.add(task.name)
            if task.run is train_base:
                hours += base_hours(place) if new else 0.0
                continue
            arm = task.arguments[1]
            trains = arm.compression is not None and not arm.rounds and not model_of(place, arm).exists()
            hours += place.source.arm_hours if new and trains else SCORE_HOURS
    return hours


def time_all(cells: Cells, places: Sequence[Place[Corpus]], arms: list[Arm]) -> None:
    """One cell a corpus: all its files of seed 0 and its first fold."""
    chosen = [timed(places, name) for name in dict.fromkeys(place.source.prepared for place in places)]
    due = [some for some in chosen if cells.done(speeds_config(some, arms), 0) is None]
    print(f"estimated: {TIMING_HOURS * len(due):.2f} CPU hours", flush=True)
    print_machine()
    for some in due:
        begin = time.perf_counter()
        figures = {"milliseconds": measure_speeds(some, arms[1:])}
        cells.record(speeds_config(some, arms), 0, figures, time.perf_counter() - begin)


def timed(places: Sequence[Place[Corpus]], name: str) -> list[Place[Corpus]]:
    """Where the files of a corpus lie that are timed: those of seed 0 and the first fold."""
    return [p for p in places if p.source.prepared == name and p.seed == 0 and p.fold == p.source.folds[0]]


def speeds_config(places: Sequence[Place[Corpus]], arms: Sequence[Arm]) -> dict[str, Any]:
    """What names the cell: all files that took turns, by what names their own cells."""
    files = {label(p.source, arm): config_hash(cell_config(p, arm, "test")) for p in places for arm in arms[1:]}
    return {"speeds of": files, "steps": STEPS}


def speeds_of(cells: Cells, places: Sequence[Place[Corpus]], arms: Sequence[Arm]) -> dict[str, dict[str, float]]:
    row = cells.done(speeds_config(places, arms), 0)
    return {} if row is None else row["figures"]["milliseconds"]


CURVE = (
    "parameters",
    "system",
    "bits",
    "kB",
    "dev WER %",
    "test WER % of seeds",
    "ours, µs a step",
    "PyTorch / ONNX Runtime",
)
BUDGETS = ("budget, kB", "8 bits", "WER % of seeds", "fewer bits", "WER % of seeds", "difference", "latency")
AS_FAST = ("as fast", "WER % of seeds", "difference")


def show(name: str, curves: Curves, emit: Tables) -> None:
    emit(f"{name}: size against error", CURVE, curve(curves))
    emit(f"{name}: at the bytes of each 8-bit file", BUDGETS + AS_FAST, budgets(curves))
    if left := missing(curves) or owed(curves):
        emit.text(f"{name}: still to be measured: {'; '.join(left)}.")


def missing(curves: Curves) -> list[str]:
    """Sizes that lack points, with the arms of those."""
    there = {(point.corpus, point.arm.name) for point in curves.points}
    lacking = {
        corpus.size: [arm.name for arm in curves.arms if (corpus, arm.name) not in there] for corpus in curves.sizes
    }
    return [
        f"{size} ({'all' if len(names) == len(curves.arms) else ', '.join(names)})"
        for size, names in lacking.items()
        if names
    ]


def owed(curves: Curves) -> list[str]:
    """What dev has chosen and further seeds of the places have not, on test."""
    seeds: dict[str, set[int]] = {}
    for place in curves.test.places:
        for arm in curves.chosen(place.source):
            if curves.test.figures(place.source, place.fold, place.seed, arm) is None:
                seeds.setdefault(f"{place.source.size} {arm.name}", set()).add(place.seed)
    return [f"{what} (seed{'s' * (len(of) > 1)} {', '.join(map(str, sorted(of)))})" for what, of in seeds.items()]


if __name__ == "__main__":
    run_script(main)
