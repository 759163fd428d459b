"""Second passes by language models at many widths: what each costs in word errors, and in bytes.

    python benchmarks/rescoring.py --data DIR [--recognizer DIR] [--lists speech|confusions] [--split test|dev]
        [--model lstm --model transformer] [--seeds 3] [--ready] [--quick] [--work DIR] [--results FILE]
        [--table] [--page FILE]

DIR is SwDA as it comes. The lists: of the corpus swda-synth, as the float32 file of a recognizer's run (trained by its
recipe where --recognizer names none) hears it; or, for want of speech, what a confusion channel makes of SwDA's text.
Language models are those of benchmarks/mixed_precision_lm.py under --work, made where they are missing (--ready: rows
whose files are missing stay missing). Rows and settings: benchmarks/rescoring.yaml, frozen before test was
scored, but for the recognizer's second round.

Every row is what ``sottovoce rescore`` makes of the lists: the language model interpolated with a 4-gram model in the
probability domain, by equal shares or by those that are likeliest on dev, then mixed with the acoustic scores by the
weight and word penalty that an exact line search finds on dev. Differences are paired with the fp32 row of the same
seed; intervals are from a bootstrap over conversations and seeds, that of a WER over conversations. Rows without a
neural model stand beside fp32 too: where what they lose is within a margin, being within it says little. The gain is
what the fp32 row has fewer errors than the row without a neural model (or the first pass); a row keeps the share of it
that is its own gain over that of fp32.
Packed files score through the runtime, with int8 activations. Finished cells are not run again; ``--table`` only prints
them, ``--page`` puts them into a page's region ``rescoring LISTS SPLIT``.
"""

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rescoring_arms
from cells import Cells, Result, print_machine, run_script
from lm_arms import Model, ngram_file, train_base
from mixed_precision_lm import verdict_sentence
from numpy.typing import NDArray
from options import add_options, kept_cells
from places import Place
from rescoring_arms import (
    CONFUSIONS,
    CONTROL,
    FIRST,
    LISTS,
    MIXINGS,
    NGRAM,
    REPLACED,
    SPEECH,
    TUNED,
    Cell,
    Lists,
    Plan,
    Row,
    cells_of,
    load_plan,
    tasks_of,
)
from tables import Tables, shown

from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.bootstrap import (
    RelativeDifference,
    ShareKept,
    cluster_ids,
    relative_difference,
    share_of_gain_kept,
    wer_interval,
)
from sottovoce.evaluation.noninferiority import Verdict, holm, verdict, wer_margin
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors
from sottovoce.training.workers import Task, run_tasks

HERE = Path(__file__).parent
COLUMNS = ["row", "bits", "file bytes", "times smaller", "WER % of seeds", "95 %", "relative to fp32", "p (Holm)"]
COLUMNS += ["gain over 4-gram kept", "gain over first pass kept"]


@dataclass(frozen=True)
class Results:
    """Figures of one model's rows in one mixture, as far as they are there and of the same lists."""

    cells: Cells
    lists: Lists
    plan: Plan
    places: tuple[Place[Model], ...]
    mixing: str

    def _found(self, cell: Cell) -> dict[str, Any] | None:
        found = self.cells.done(cell.config, cell.seed)
        return None if found is None else found["figures"]

    def without(self, name: str) -> dict[str, Any] | None:
        """Figures without a neural model: of the first pass, or with the n-gram."""
        found = self._found(Cell(self.lists, self.plan, self.places[0], None, name))
        same = name == FIRST or found is None or found["lists"] == (self.without(FIRST) or {}).get("lists")
        return found if same else None

    def figures(self, row: Row, place: Place[Model]) -> dict[str, Any] | None:
        """``fp32's weights`` are those that it was tuned to: it stands in that table with them."""
        mixing = TUNED if row.name == CONTROL and self.mixing == REPLACED else self.mixing
        found = self._found(Cell(self.lists, self.plan, place, row, mixing))
        return found if found and found["lists"] == (self.without(FIRST) or {}).get("lists") else None

    @property
    def control(self) -> Row:
        return next(row for row in self.plan.rows if row.name == CONTROL)

    def pairs(self, row: Row) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Figures of fp32 and of the row, of the seeds for which both are there."""
        found = [(self.figures(self.control, place), self.figures(row, place)) for place in self.places]
        return [(a, b) for a, b in found if a is not None and b is not None]

    @cached_property
    def clusters(self) -> NDArray[np.intp]:
        names = (self.without(FIRST) or {})["conversations"]
        ids = [str(i) for i in range(len(names))]
        return cluster_ids(ids, None, dict(zip(ids, names, strict=True)))

    def interval(self, errors: Sequence[Sequence[int]]) -> tuple[float, float]:
        """Of the WER in percent, seeds together; errors (S, N)."""
        words = (self.without(FIRST) or {})["words_each"]
        sums = np.sum(errors, axis=0).tolist()
        scored = [
            ScoredUtterance(str(i), WordErrors(substitutions=e, words=w * len(errors)))
            for i, (e, w) in enumerate(zip(sums, words, strict=True))
        ]
        return wer_interval(scored, None, {str(i): str(c) for i, c in enumerate(self.clusters)})

    def judged(self, row: Row) -> Verdict | None:
        pairs = self.pairs(row)
        if not pairs or row.name == CONTROL:
            return None
        control, system = ([pair[side]["errors"] for pair in pairs] for side in (0, 1))
        margin = wer_margin(max(found["average_bits"] for _, found in pairs))
        return verdict(relative_difference(control, system, self.clusters), margin)

    def lost(self, name: str) -> RelativeDifference | None:
        """What the row without a neural model makes more than fp32: the most that a verdict on the others can tell."""
        pairs, without = self.pairs(self.control), self.without(name)
        if not pairs or without is None:
            return None
        control = [figures["errors"] for figures, _ in pairs]
        return relative_difference(control, [without["errors"]] * len(pairs), self.clusters)

    def kept(self, row: Row, before: str) -> ShareKept | None:
        """The share of fp32's gain over ``before``, a row without a neural model."""
        pairs, without = self.pairs(row), self.without(before)
        if not pairs or without is None:
            return None
        control, system = ([pair[side]["errors"] for pair in pairs] for side in (0, 1))
        return share_of_gain_kept([without["errors"]] * len(pairs), control, system, self.clusters)


def table(results: Results) -> list[list[str]]:
    """One line a row that is there, those without a neural model first."""
    lines = [_without(results, name) for name in (FIRST, NGRAM) if results.without(name)]
    p = _corrected(results)
    for row in results.plan.rows:
        pairs = results.pairs(row)
        if not pairs:
            continue
        found = [figures for _, figures in pairs]
        lines.append(
            [
                row.name,
                f"{statistics.mean(f['average_bits'] for f in found):.2f}",
                f"{found[0]['file_bytes']:,}",
                f"{found[0]['fp32_bytes'] / found[0]['model_bytes']:.2f}",
                " ".join(f"{f['wer']:.2f}" for f in found),
                _interval(results.interval([f["errors"] for f in found])),
                verdict_sentence(results.judged(row)),
                " ".join(f"{value:.3f}" for value in p.get(row.name, [])),
                *(_share(results, row, before) for before in (NGRAM, FIRST)),
            ]
        )
    return lines


def _without(results: Results, name: str) -> list[str]:
    figures = results.without(name) or {}
    size = f"{figures['file_bytes']:,}" if "file_bytes" in figures else ""
    lost = results.lost(name)
    beside = "" if lost is None else f"{100 * lost.estimate:+.2f} %, upper {100 * lost.upper():+.2f} %"
    interval = _interval(results.interval([figures["errors"]]))
    return [name, "", size, "", f"{figures['wer']:.2f}", interval, beside, *[""] * 3]


def _corrected(results: Results) -> dict[str, list[float]]:
    """MAPSSWE's p-values against fp32, a list of seeds a row, corrected over the table."""
    found = {
        row.name: [figures["mapsswe_p"][CONTROL] for _, figures in results.pairs(row)]
        for row in results.plan.rows
        if row.name != CONTROL
    }
    values = iter(holm([p for some in found.values() for p in some]).tolist())
    return {name: [next(values) for _ in some] for name, some in found.items()}


def _share(results: Results, row: Row, before: str) -> str:
    """Of fp32 the gain itself, in points of WER, and whether it is one; of others how much of it is kept."""
    found, without = results.kept(row, before), results.without(before)
    if found is None or without is None:
        return ""
    if row.name == CONTROL:
        figures = [figures for figures, _ in results.pairs(row)]
        points = without["wer"] - statistics.mean(f["wer"] for f in figures)
        return f"{points:.2f} points, p at most {max(f['mapsswe_p'][before] for f in figures):.1g}"
    if found.estimate is None:
        return "fp32 gains nothing"
    return f"{100 * found.estimate:.1f} % {_interval(tuple(100 * x for x in found.interval()))}"


def _interval(ends: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{x:.2f}" if math.isfinite(x) else ("∞" if x > 0 else "-∞") for x in ends) + "]"


def show(results: Results, model: str, emit: Tables) -> None:
    first = results.without(FIRST)
    if first is None:
        return
    lines = table(results)
    missing = [row.name for row in results.plan.rows if len(results.pairs(row)) < len(results.places)]
    if len(lines) > 2 or results.mixing == TUNED:
        emit(f"{model}, {title(results.lists)}: {MIXINGS[results.mixing]}", COLUMNS, lines)
    if missing:
        emit.text(f"{model}, {results.mixing}: still to be measured, of some seed: {'; '.join(missing)}.")


def title(lists: Lists) -> str:
    if lists.quick is not None:
        return "QUICK CHECK, a confusion channel's lists of some dev utterances, no speech and no figures"
    what = {SPEECH: "swda-synth", CONFUSIONS: "a confusion channel's lists, no speech"}[lists.kind]
    return f"{what}, {lists.split}" + (" (weights were found on these same lists)" if lists.split == "dev" else "")


def describe(results: Results, emit: Tables) -> None:
    """What the lists are."""
    first = results.without(FIRST)
    if first is None:
        emit.text("no lists yet")
        return
    words, dev = sum(first["words_each"]), first["dev"]
    oracle = 100 * first["oracle_errors"] / words
    emit.text(
        f"{len(first['words_each']):,} lists of {words:,} words; best entries {oracle:.2f} % WER; "
        f"dev: {dev['errors']} errors in the first pass, {dev['oracle_errors']} in the best entries"
    )
    if "recognizer" in first:
        file, config = first["recognizer"], results.lists.config
        settings = ", ".join(f"{name} {value}" for name, value in config.items() if name not in ("lists", "split"))
        emit.text(f"recognizer: {file['average_bits']:g} bits, {file['file_bytes']:,} bytes; {settings}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="SwDA, as 'sottovoce train' takes it; needed unless --table is given")
    parser.add_argument(
        "--recognizer", type=Path, help="a finished run of recipes/swda-synth.yaml; else one is trained"
    )
    parser.add_argument("--lists", choices=(SPEECH, CONFUSIONS), default=SPEECH)
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--model", action="append", help="repeatable; by default all of the plan")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plan", type=Path, default=HERE / "rescoring.yaml")
    parser.add_argument("--ready", action="store_true", help="train no language model: only rows whose files are there")
    add_options(
        parser, quick="few rows, few dev utterances", work="runs/mixed_precision_lm", holds="LM runs", workers=1
    )
    parser.add_argument("--out", type=Path, default=Path("runs/rescoring"), help="lists and hypotheses go here")
    options = parser.parse_args()
    if options.data is None:
        if not options.table:
            parser.error("--data is needed")
        options.data = Path()
    plan = load_plan(options.plan)
    names = options.model or (list(plan.models)[:1] if options.quick else list(plan.models))
    unknown = [name for name in names if name not in plan.models]
    if unknown:
        raise ConfigError(f"--model {unknown[0]}: expected one of {', '.join(plan.models)}")
    if options.quick:
        plan = plan.reduced()
    places = {name: places_of(plan, name, options) for name in names}
    lists = lists_of(plan, next(iter(places.values()))[0], options)
    cells = kept_cells(options, "rescoring")
    if not options.table:
        run(cells, cells_of(lists, plan, places), plan, options)
    found = [Results(cells, lists, plan, some, mixing) for some in places.values() for mixing in MIXINGS]
    with shown(__file__, f"rescoring {options.lists} {options.split}", cells, options) as emit:
        describe(found[0], emit)
        for results in found:
            show(results, results.places[0].source.name, emit)


def places_of(plan: Plan, name: str, options: argparse.Namespace) -> tuple[Place[Model], ...]:
    """Where the language models are; for a quick check without them, where some are made in one epoch."""
    model = plan.lm.models[name]
    found = tuple(Place(model, seed, options.data, options.work) for seed in range(options.seeds))
    if not options.quick:
        return found
    made = found[0].base.model.exists() and ngram_file(found[0]).exists()
    return found[:1] if made else (Place(model, 0, options.data, options.work / "quick", quick=True),)


def lists_of(plan: Plan, text: Place[Model], options: argparse.Namespace) -> Lists:
    if options.quick:
        return Lists(CONFUSIONS, {}, "scored", text, options.out / "quick", quick=plan.quick)
    return Lists(options.lists, plan.lists[options.lists], options.split, text, options.out, options.recognizer)


def run(cells: Cells, wanted: Sequence[Cell], plan: Plan, options: argparse.Namespace) -> None:
    """Do what is still to be done, and keep each cell as it comes."""
    tasks = {task.name: task for task in tasks_of(cells, wanted, options.ready)}
    hours = sum(expected_hours(task, plan) for task in tasks.values()) * (0.2 if options.quick else 1)
    print(f"estimated: {hours:.2f} CPU hours, {len(tasks)} tasks", flush=True)
    print_machine()
    first = wanted[0]
    for name, result in run_tasks(list(tasks.values()), options.workers):
        print(f"{name}: {record(cells, first, result)}", flush=True)


def expected_hours(task: Task, plan: Plan) -> float:
    if task.run is rescoring_arms.make_lists:
        lists = task.arguments[0]
        there = lists.quick is not None or not lists.speaks or (lists.run / "model.safetensors").exists()
        return float(lists.settings.get("hours", 0.1)) + (0 if there else float(lists.settings["base_hours"]))
    if task.run is rescoring_arms.run_cell:
        return plan.cell_hours
    place, *rest = task.arguments
    return float(place.source.base_hours if task.run is train_base else place.source.epoch_hours * rest[1].hours + 0.01)


def record(cells: Cells, first: Cell, result: Result | Any) -> str:
    """Keep a finished cell, and say what it found; lists and trainings are no cells. Raises DataError for figures of
    other lists than those of the first pass that is kept."""
    if not isinstance(result, tuple) or len(result) != 4:
        return "done"
    _, _, figures, seconds = result
    before: Mapping[str, Any] | None = cells.done(first.config, first.seed)
    if before is not None and before["figures"]["lists"] != figures["lists"]:
        raise DataError(f"{cells.path}: its figures are of other lists ({LISTS}): give other --results")
    cells.keep(result)
    return f"WER {figures['wer']:.2f} %, {seconds:.0f} s"


if __name__ == "__main__":
    run_script(main)
