"""Recognizers at one width and at bits chosen layer by layer, in files of equal bytes: what each costs in word errors.

    python benchmarks/mixed_precision_rnnt.py --data an4:DIR --data synth [--seeds 3] [--split test|dev]
        [--plan FILE] [--quick] [--work DIR] [--results FILE] [--table] [--page FILE]

Rows and their settings are those of benchmarks/mixed_precision_rnnt.yaml, frozen before a test set was scored with
them. A search runs on the converged float32 model of its seed; its budget is the model bytes of the file of one width,
everything but the tokenizer counted. Rounded rows round that model; trained ones fork from its snapshot, like the rows
of benchmarks/s8bqat_rnnt.py, whose working folder and finished arms are shared (--work). Scores are those of packed
files run with int8 activations and the recipe's blank penalty. Differences pool corpora and seeds, paired: from float32
with the verdict of its margin, and from the uniform row that is made in the same way, with whether the two-sided
interval leaves out zero. Finished cells are not run again; ``--table`` only prints them (of all corpora of the plan,
unless ``--data`` names some), ``--page`` puts them into a page's region ``PLAN SPLIT``.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arms import Corpus, base_hours, cell_config, model_of, place_of, run_arm, train_base
from cells import Cells, print_machine, run_script
from mixed_rnnt_arms import FP32, Plan, Row, load_plan, run_search, tasks_of
from options import add_options, kept_cells
from places import Place
from s8bqat_rnnt import Results, corrected, order, record, spread
from tables import Tables, shown

from sottovoce.evaluation.bootstrap import RelativeDifference
from sottovoce.evaluation.noninferiority import verdict, wer_margin
from sottovoce.training.comparison import Arm
from sottovoce.training.workers import Task, run_tasks

HERE = Path(__file__).parent


def results_of(cells: Cells, places: Sequence[Place[Corpus]], plan: Plan, split: str) -> Results:
    """Figures of the plan's rows, each by its arm."""
    rows = {row.arm().name: row for row in plan.rows}

    def config(place: Place[Corpus], arm: Arm, split: str) -> dict[str, Any]:
        row = rows.get(arm.name)
        return cell_config(place, arm, split) if row is None else row.config(place, split)

    return Results(cells, tuple(places), split, config)


def table(results: Results, plan: Plan) -> list[list[str]]:
    """One line a row that is there, float32 first: sizes, WERs of all seeds, differences, MAPSSWE's p of seed 0."""
    corpora = list(plan.corpora)
    if not any(results.seeds([corpus], FP32) for corpus in corpora):
        return []
    mixed = [row.arm() for row in plan.rows if row.search is not None]
    p = corrected(results, corpora, [row.arm() for row in plan.rows])
    p_uniform = corrected(results, corpora, mixed, "mapsswe_p_uniform")
    lines = [["fp32", "32", *_sizes(results, corpora, FP32), *_wers(results, corpora, FP32), *[""] * 4]]
    for row in plan.rows:
        arm = row.arm()
        if not any(results.seeds([corpus], arm) for corpus in corpora):
            continue
        uniform = None if row.search is None else results.difference(corpora, arm, row.uniform.arm())
        lines.append(
            [
                row.name,
                _bits(results, corpora, row),
                *_sizes(results, corpora, arm),
                *_wers(results, corpora, arm),
                _judged(results.difference(corpora, arm), row),
                _number(p.get(arm.name)),
                "" if uniform is None else f"{spread(uniform[0])}: {order(uniform[0])}{_seeds(uniform[1])}",
                _number(p_uniform.get(arm.name)),
            ]
        )
    return lines


def _judged(found: tuple[RelativeDifference, int] | None, row: Row) -> str:
    """By the margin of the width whose bytes the row has."""
    if found is None:
        return ""
    margin = wer_margin(row.bits)
    return f"{spread(found[0])}, margin {100 * margin:g} %: {verdict(found[0], margin).words}{_seeds(found[1])}"


def _seeds(count: int) -> str:
    return f" ({count} seed{'s' * (count > 1)})"


def _number(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}"


def _figures(results: Results, corpus: Corpus, arm: Arm, key: str) -> list[Any]:
    """Of the first fold, seeds in order."""
    found = [results.figures(corpus, corpus.folds[0], seed, arm) or {} for seed in results.seeds([corpus], arm)]
    return [figures[key] for figures in found]


def _bits(results: Results, corpora: Sequence[Corpus], row: Row) -> str:
    means = [statistics.mean(found) for c in corpora if (found := _figures(results, c, row.arm(), "average_bits"))]
    return " ".join(f"{mean:.2f}" for mean in means)


def _sizes(results: Results, corpora: Sequence[Corpus], arm: Arm) -> list[str]:
    """Model bytes of each corpus, the most of all seeds."""
    return [f"{max(found):,}" if (found := _figures(results, c, arm, "model_bytes")) else "" for c in corpora]


def _wers(results: Results, corpora: Sequence[Corpus], arm: Arm) -> list[str]:
    return [" ".join(f"{results.wer(c, seed, arm):.2f}" for seed in results.seeds([c], arm)) for c in corpora]


def bits_by_cluster(results: Results, plan: Plan, corpus: Corpus) -> tuple[list[str], list[list[str]]]:
    """Bits of each matrix, gate by gate where it stacks gates, in every plan of seed 0: the columns and the lines."""
    columns, chosen = [], []
    for row in plan.rows:
        figures = results.figures(corpus, corpus.folds[0], 0, row.arm()) if row.search is not None else None
        column = "" if row.search is None else f"{row.search.name}, {row.bits}"
        if figures is not None and column not in columns:  # rounded and trained rows share their plan
            columns.append(column)
            chosen.append(by_matrix(figures["cluster_bits"]))
    names = list(chosen[0]) if chosen else []
    return ["matrix (gates i f g o)", *columns], [[name, *(bits.get(name, "") for bits in chosen)] for name in names]


def by_matrix(bits: dict[str, int]) -> dict[str, str]:
    """Bits by matrix; an LSTM's gates side by side, in PyTorch's order (cells have names sorted)."""
    found: dict[str, list[str]] = {name.partition("[")[0]: [] for name in bits}
    for name in sorted(bits, key=lambda name: "ifgo".find(name.partition("[")[2][:1])):
        found[name.partition("[")[0]].append(str(bits[name]))
    return {name: " ".join(some) for name, some in found.items()}


def searches(results: Results, plan: Plan) -> list[list[str]]:
    """What each search took: seconds of all seeds that are there."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in plan.rows:
        for corpus in plan.corpora if row.search is not None else ():
            arm = row.arm()
            seconds = _figures(results, corpus, arm, "search_seconds")
            if not seconds or row.search is None:
                continue
            figures = results.figures(corpus, corpus.folds[0], results.seeds([corpus], arm)[0], arm) or {}
            budget = f"{row.search.name}, {row.bits}" if row.search.settings["metric"] == "nas" else row.search.name
            told = [str(len(figures["cluster_bits"])), str(figures["widths"]), " ".join(f"{s:.0f}" for s in seconds)]
            lines.setdefault((budget, corpus.name), [budget, corpus.name, *told])
    return list(lines.values())


def show(results: Results, plan: Plan, what: str, emit: Tables) -> None:
    """The tables of what is there; ``what``: the split that was scored."""
    corpora = plan.corpora
    columns = ["row", "bits", *(f"{c.name}: bytes" for c in corpora), *(f"{c.name}: WER % of seeds" for c in corpora)]
    columns += ["from fp32", "p (Holm)", "from uniform", "p (Holm)"]
    emit(f"mixed precision, {what}", columns, table(results, plan))
    for corpus in corpora:
        names, lines = bits_by_cluster(results, plan, corpus)
        if lines:
            emit(f"{corpus.name}, seed 0: bits of each matrix", names, lines)
    found = searches(results, plan)
    if found:
        emit("searches", ["search", "corpus", "clusters", "widths", "seconds of seeds"], found)
    arms = {"fp32": FP32, **{row.name: row.arm() for row in plan.rows}}
    missing = [
        f"{name} ({corpus.name}, seed {place.seed})"
        for name, arm in arms.items()
        for corpus in corpora
        for place in results.places
        if place.source == corpus and results.figures(corpus, place.fold, place.seed, arm) is None
    ]
    if missing:
        emit.text(f"Still to be measured: {len(missing)} cells, {missing[0]} first.")


def hours_of(task: Task, plan: Plan) -> float:
    """CPU hours to expect; what other benchmarks left in the working folder is not done again."""
    place = task.arguments[0]
    if task.run is train_base:
        return base_hours(place)
    if task.run is run_search:
        return plan.search_hours
    if task.run is run_arm:
        return plan.score_hours
    row = task.arguments[1]
    made = row.search is None and model_of(place, row.arm()).exists()
    rounds = row.section["scheme"] == "ptq"
    return plan.score_hours + (0.0 if rounds or made else float(place.source.arm_hours))


def run(places: Sequence[Place[Corpus]], plan: Plan, cells: Cells, options: argparse.Namespace) -> None:
    """Do what is still to be done, seed by seed."""
    tasks = [task for place in places for task in tasks_of(place, plan, cells, options.split)]
    hours = sum(hours_of(task, plan) for task in tasks) * (0.1 if options.quick else 1)
    print(f"estimated: {hours:.1f} CPU hours, {len(tasks)} tasks", flush=True)
    print_machine()
    for name, result in run_tasks(tasks, options.workers):
        print(f"{name}: {record(cells, result)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", help="NAME, or NAME:DIR; repeatable")
    parser.add_argument("--plan", type=Path, default=HERE / "mixed_precision_rnnt.yaml")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--seeds", type=int, default=3)
    shared = "shared with s8bqat_rnnt.py"
    add_options(parser, quick="one corpus and seed, two epochs", work="runs/s8bqat_rnnt", holds=shared, workers=1)
    options = parser.parse_args()
    if not (options.data or options.table):
        parser.error("--data is needed")
    plan = load_plan(options.plan, options.data, options.quick)
    if options.quick:
        plan = replace(plan, corpora=plan.corpora[:1])
    work = options.work / ("quick" if options.quick else "full")
    places = [
        place_of(corpus, fold, seed, True, work, options.quick)
        for seed in range(1 if options.quick else options.seeds)
        for corpus in plan.corpora
        for fold in corpus.folds
    ]
    cells = kept_cells(options, "mixed_precision_rnnt")
    if not options.table:
        run(places, plan, cells, options)
    what = options.split + (": QUICK CHECK, no figures" if options.quick else "")
    with shown(__file__, f"{options.plan.stem} {options.split}", cells, options) as emit:
        show(results_of(cells, places, plan, options.split), plan, what, emit)


if __name__ == "__main__":
    run_script(main)
