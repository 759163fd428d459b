"""Language models at one width and at bits chosen layer by layer: what each costs in perplexity, and in bytes.

    python benchmarks/mixed_precision_lm.py --data DIR [--model lstm --model transformer] [--seeds 3]
        [--split validation|dev] [--plan FILE] [--only TEXT] [--quick] [--work DIR] [--results FILE]
        [--table] [--page FILE]

DIR is SwDA as it comes (or prepared). Rows and their settings are those of benchmarks/mixed_precision_lm.yaml, frozen
before a validation conversation was scored with them; all was chosen on dev, conversations cut from training. Every row
starts from the float32 model of its seed; rows that train see the same batches for one epoch, headline rows for two.
Figures are those of the packed file, run with int8 activations: perplexity alone, and mixed with a 4-gram model of the
same text at the weight that is best on dev. Sizes count everything in the file but the word list; a ratio is to four
bytes a parameter. Differences are paired, from a bootstrap over conversations and seeds: the upper end is that of the
one-sided 95 % interval. Finished cells are not run again; ``--table`` only prints them, ``--page`` puts them into a
page's region ``PLAN SPLIT``.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cells, Result, print_machine, run_script
from lm_arms import Model, Plan, Row, cell_config, load_plan, tasks_of, train_base
from options import add_options, kept_cells
from places import Place
from tables import Tables, shown

from sottovoce.errors import ConfigError
from sottovoce.evaluation.bootstrap import RelativeDifference, relative_perplexity_difference
from sottovoce.evaluation.noninferiority import Verdict, verdict
from sottovoce.training.workers import Task, run_tasks

HERE = Path(__file__).parent
CONTROL = "fp32"
COLUMNS = ["row", "bits", "bytes", "times smaller", "PPL", "with 4-gram", "alone", "with 4-gram, difference"]


@dataclass(frozen=True)
class Results:
    """Figures of one model by row and seed, as far as they are there."""

    cells: Cells
    places: tuple[Place[Model], ...]
    plan: Plan
    split: str

    def figures(self, row: Row, seed: int) -> dict[str, Any] | None:
        place = next(p for p in self.places if p.seed == seed)
        found = self.cells.done(cell_config(place, row, self.split), seed)
        return None if found is None else found["figures"]

    def seeds(self, row: Row) -> list[int]:
        """Seeds for which the row is there, and its control too."""
        control = self.plan.row(CONTROL)
        return [
            place.seed
            for place in self.places
            if place.seed < row.seeds and self.figures(row, place.seed) and self.figures(control, place.seed)
        ]

    def all(self, row: Row, key: str) -> list[Any]:
        return [(self.figures(row, seed) or {})[key] for seed in self.seeds(row)]

    def judged(self, row: Row, key: str, margin: float) -> Verdict | None:
        """The verdict on ``nats`` or ``mixed_nats`` over the seeds that are there."""
        found = self.difference(row, self.plan.row(CONTROL), key)
        return None if found is None or row.name == CONTROL else verdict(found, margin)

    def difference(self, row: Row, against: Row, key: str) -> RelativeDifference | None:
        """Of the row's perplexity to that of another, by conversation, over the seeds that both are there for."""
        seeds = [seed for seed in self.seeds(row) if seed in self.seeds(against)]
        if not seeds:
            return None
        other, own = ([(self.figures(one, seed) or {})[key] for seed in seeds] for one in (against, row))
        words = np.array((self.figures(row, seeds[0]) or {})["words"])
        return relative_perplexity_difference(other, own, words, np.arange(len(words)))


def table(results: Results, rows: Sequence[Row]) -> list[list[str]]:
    """One line a row that is there: size, perplexities of all seeds, and the verdicts."""
    lines = []
    for row in rows:
        if not results.seeds(row):
            continue
        size = results.all(row, "model_bytes")[0]
        ratio = results.all(row, "fp32_bytes")[0] / size
        margins = row.margins or results.plan.margins
        lines.append(
            [
                row.name,
                f"{statistics.mean(results.all(row, 'average_bits')):.2f}",
                f"{size:,}",
                f"{ratio:.2f}",
                " ".join(f"{value:.2f}" for value in results.all(row, "perplexity")),
                " ".join(f"{value:.2f}" for value in results.all(row, "mixed")),
                verdict_sentence(results.judged(row, "nats", margins[0])),
                verdict_sentence(results.judged(row, "mixed_nats", margins[1])),
            ]
        )
    return lines


def beside(results: Results, rows: Sequence[Row]) -> list[list[str]]:
    """One line a pair of the plan whose rows are both there: how the first differs from the second."""
    names, lines = {row.name for row in rows}, []
    for one, other in (pair for pair in results.plan.pairs if names.issuperset(pair)):
        row, against = results.plan.row(one), results.plan.row(other)
        found = [results.difference(row, against, key) for key in ("nats", "mixed_nats")]
        seeds = str(len(set(results.seeds(row)) & set(results.seeds(against))))
        spreads = [spread(x) for x in found if x is not None]
        lines += [[one, other, seeds, *spreads]] if spreads else []
    return lines


def spread(found: RelativeDifference) -> str:
    """The difference with its two-sided 95 % interval, and which of the two is better."""
    low, high = found.lower(0.975), found.upper(0.975)
    told = "better" if high < 0 else "worse" if low > 0 else "not told apart"
    return f"{100 * found.estimate:+.2f} % [{100 * low:+.2f}, {100 * high:+.2f}]: {told}"


def verdict_sentence(found: Verdict | None) -> str:
    if found is None:
        return ""
    difference, upper, margin = (100 * x for x in (found.relative_difference, found.upper, found.margin))
    return f"{difference:+.2f} %, upper {upper:+.2f} %, margin {margin:g} %: {found.words}"


def searches(results: Results, rows: Sequence[Row], epoch: float | None) -> list[list[str]]:
    """What each search took, once each."""
    lines: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        figures = results.figures(row, 0) if row.search else None
        if figures is None or row.search is None:
            continue
        name = row.search["metric"] + (" of prototypes" if row.search.get("prototypes") else "")
        key = (name, figures["clusters"], figures["widths"], figures["search_seconds"])
        share = "" if not epoch else f"{figures['search_seconds'] / epoch:.2f}"
        lines[key] = [name, str(figures["clusters"]), str(figures["widths"]), f"{figures['search_seconds']:.0f}", share]
    return list(lines.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="SwDA; needed unless --table is given")
    parser.add_argument("--model", action="append", help="repeatable; by default all of the plan")
    parser.add_argument("--plan", type=Path, default=HERE / "mixed_precision_lm.yaml")
    parser.add_argument("--split", choices=("validation", "dev"), default="validation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", help="a row's name, or what rows' names hold; repeatable")
    add_options(parser, quick="few rows after one epoch", work="runs/mixed_precision_lm", workers=1)
    options = parser.parse_args()
    if options.data is None and not options.table:
        parser.error("--data is needed")
    plan = load_plan(options.plan)
    names = options.model or list(plan.models)
    unknown = [name for name in names if name not in plan.models]
    if unknown:
        raise ConfigError(f"--model {unknown[0]}: expected one of {', '.join(plan.models)}")
    cells = kept_cells(options, "mixed_precision_lm")
    if not options.table:
        run(plan, names, cells, options)
    with shown(__file__, f"{options.plan.stem} {options.split}", cells, options) as emit:
        for name in names:
            show(plan, name, cells, options, emit)


def places_of(plan: Plan, name: str, options: argparse.Namespace) -> tuple[Place[Model], ...]:
    work = options.work / "quick" if options.quick else options.work
    seeds = range(1 if options.quick else options.seeds)
    return tuple(Place(plan.models[name], seed, options.data or Path(), work, options.quick) for seed in seeds)


def rows_of(plan: Plan, name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of a model, few of them for a quick check."""
    rows = [row for row in plan.rows if row.models is None or name in row.models]
    names = {row.name for row in rows}
    if options.only:
        rows = [row for row in rows if any(t == row.name if t in names else t in row.name for t in options.only)]
    return [row for row in rows if row.quick] if options.quick else rows


def run(plan: Plan, names: Sequence[str], cells: Cells, options: argparse.Namespace) -> None:
    """Do what is still to be done: for each model rows of several seeds, then the others of seed 0."""
    tasks: dict[str, Task] = {}
    hours = 0.0
    for name in names:
        rows = rows_of(plan, name, options)
        order = [
            (place, [row for row in rows if place.seed < row.seeds > 1]) for place in places_of(plan, name, options)
        ]
        order += [(place, rows) for place in places_of(plan, name, options)[:1]]
        for place, due in order:
            model = place.source
            for task in tasks_of(place, plan, due, cells, options.split):
                if task.name not in tasks:
                    tasks[task.name] = task
                    trained = place.base.model.exists()
                    base = 0.0 if trained else model.base_hours
                    hours += base if task.run is train_base else model.epoch_hours * task.arguments[2].hours + 0.01
    known = set(tasks)
    due = [Task(t.name, t.run, t.arguments, t.needs & known) for t in tasks.values()]
    print(f"estimated: {hours:.1f} CPU hours, {len(due)} tasks", flush=True)
    print_machine()
    for name, result in run_tasks(due, options.workers):
        print(f"{name}: {record(cells, result)}", flush=True)


def record(cells: Cells, result: Result | None) -> str:
    """Keep a finished cell, and say what it found; a 32-bit training is no cell."""
    if result is None:
        return "done"
    cells.keep(result)
    _, _, figures, seconds = result
    found = f"perplexity {figures['perplexity']:.2f}, with the 4-gram {figures['mixed']:.2f}"
    return f"{found}, {figures['model_bytes']:,} bytes, {seconds:.0f} s"


def show(plan: Plan, name: str, cells: Cells, options: argparse.Namespace, emit: Tables) -> None:
    """The tables of what is there for one model."""
    results = Results(cells, places_of(plan, name, options), plan, options.split)
    rows = rows_of(plan, name, options)
    for group, members in groupby(rows, lambda row: row.group):
        lines = table(results, list(members))
        if lines:
            emit(f"{name}, {options.split}: {group}", COLUMNS, lines)
    pairs = beside(results, rows)
    if pairs:
        title = f"{name}, {options.split}: one row from another, two-sided 95 %, not corrected"
        emit(title, ["row", "against", "seeds", "alone", "with 4-gram"], pairs)
    found = searches(results, rows, _epoch_seconds(results, rows))
    if found:
        emit(f"{name}: searches", ["search", "clusters", "widths", "seconds", "of a training epoch"], found)
    missing = [row.name for row in rows if len(results.seeds(row)) < min(row.seeds, len(results.places))]
    if missing:
        emit.text(f"{name}: still to be measured, of some seed: {'; '.join(missing)}.")


def _epoch_seconds(results: Results, rows: Sequence[Row]) -> float | None:
    """Seconds of an epoch of plain training, from the row that is trained on in 32 bits."""
    row = next((row for row in rows if row.scheme == "train"), None)
    figures = None if row is None else results.figures(row, 0)
    return None if row is None or figures is None else figures["made_seconds"] / row.epochs


if __name__ == "__main__":
    run_script(main)
