"""One byte budget for a recognizer and its language model, or one for each: what the split costs in word errors.

    python benchmarks/joint_budget.py --recognizer RUN --lm RUN [--data DIR] [--ngram FILE] [--split test|dev]
        [--quick] [--plan FILE] [--work DIR] [--results FILE] [--table] [--page FILE]

RUN: finished runs of 'sottovoce train', of a recognizer and of a language model of its words; --data is prepared
speech, by default the recognizer's own. Budgets and settings: benchmarks/joint_budget.yaml, frozen before test was
scored. A budget is the bytes of both files with as many bits for every weight. It is split as it is there (uniform);
as 'sottovoce search --models asr=RUN,lm=RUN --max-bytes' does (joint), by how far one cluster's rounding moves the
posterior of the word errors of dev's n-best lists, or by how much it raises the expected ones (joint, word errors); or
in proportion to the models' float32 bytes, each model's bits then chosen
within its own part: by the same sensitivities (separate), or by the divergence of its own output, as one searches
models that know nothing of each other (separate, KL). Nothing is trained. Test is scored by the rounded recognizer's
beam search and a second pass of the rounded language model (--ngram: interpolated with that n-gram model, which the
search does not know), its weights tuned on the same recognizer's lists of dev, and once more with those of the 32-bit
models; rounded matrices run with int8 activations, float32 ones in float32. Differences are paired, with a bootstrap
over conversations. Finished cells are not run again; ``--table`` only prints them, without RUNs those of the runs that
were measured last; ``--page`` puts them into a page's region ``PLAN SPLIT``.
"""

import argparse
from pathlib import Path
from typing import Any

from cells import Cells, Result, print_machine, run_script
from joint_arms import (
    ASR,
    FLOAT,
    JOINT,
    LM,
    SPLITS,
    Cell,
    Setting,
    cells_of,
    choose,
    load_plan,
    setting_of_cells,
    tasks_of,
)
from options import add_options, kept_cells
from s8bqat_rnnt import order, spread
from tables import Tables, shown

from sottovoce.evaluation.bootstrap import RelativeDifference, cluster_ids, relative_difference, wer_interval
from sottovoce.evaluation.noninferiority import holm
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors
from sottovoce.training.run import Run
from sottovoce.training.searching import open_trained
from sottovoce.training.workers import Task, run_tasks

HERE = Path(__file__).parent
SIZES = ["budget", "split", "recognizer: bytes (bits)", "language model: bytes (bits)", "together"]
SIZES += ["errors expected of the lists"]
COLUMNS = ["budget", "split", "first pass WER %", "WER %", "95 %", "from fp32", "joint from this", "p (Holm)"]
COLUMNS += ["WER %, fp32's weights", "joint from this, fp32's weights"]


def sizes(cells: Cells, setting: Setting) -> list[list[str]]:
    """One line a cell that is there: bytes, bits, and what the search expected."""
    lines = []
    for cell in cells_of(setting):
        figures = figures_of(cells, cell)
        if figures is not None:
            models = [figures["models"][role] for role in (ASR, LM)]
            each = [f"{x['model_bytes']:,} ({x['average_bits']:.2f})" for x in models]
            lines.append([*_named(cell), *each, f"{sum(x['model_bytes'] for x in models):,}", _expected(figures)])
    return lines


def table(cells: Cells, setting: Setting) -> list[list[str]]:
    """One line a cell that is there: errors, and what the joint split of the same budget makes of them."""
    lines = []
    p = _corrected(cells, setting)
    control = figures_of(cells, Cell(setting, None, FLOAT))
    for cell in cells_of(setting):
        figures = figures_of(cells, cell)
        if figures is None:
            continue
        compressed = cell.bits is not None
        joint = figures_of(cells, Cell(setting, cell.bits, JOINT)) if compressed and cell.split != JOINT else None
        lines.append(
            [
                *_named(cell),
                f"{figures['first']['wer']:.2f}",
                f"{figures['wer']:.2f}",
                _interval(figures),
                "" if control is None or not compressed else spread(difference(control, figures)),
                "" if joint is None else _gain(figures, joint),
                "" if cell.name not in p else f"{p[cell.name]:.3f}",
                f"{figures['fixed']['wer']:.2f}" if compressed else "",
                "" if joint is None else _gain(_fixed(figures), _fixed(joint)),
            ]
        )
    return lines


def _named(cell: Cell) -> list[str]:
    return ["" if cell.bits is None else f"{cell.bits} bits", cell.split]


def figures_of(cells: Cells, cell: Cell) -> dict[str, Any] | None:
    found = cells.done(cell.config, 0)
    return None if found is None else found["figures"]


def difference(control: dict[str, Any], system: dict[str, Any]) -> RelativeDifference:
    """Of the system's errors to the control's, paired, by conversation."""
    names = control["conversations"]
    ids = [str(i) for i in range(len(names))]
    clusters = cluster_ids(ids, None, dict(zip(ids, names, strict=True)))
    return relative_difference([control["errors"]], [system["errors"]], clusters)


def _gain(separate: dict[str, Any], joint: dict[str, Any]) -> str:
    points, found = joint["wer"] - separate["wer"], difference(separate, joint)
    return f"{points:+.2f} points, {spread(found)}: {order(found)}"


def _fixed(figures: dict[str, Any]) -> dict[str, Any]:
    """The same files with float32's weights of the second pass."""
    return {**figures, **figures["fixed"]}


def _expected(figures: dict[str, Any]) -> str:
    """Word errors expected of the lists that bits were chosen on, in percent of their words, beside float models'."""
    found = figures.get("search")
    if found is None:
        return ""
    shares = [100 * found[key] / found["words"] for key in ("expected_errors", "float_errors")]
    return f"{shares[0]:.2f} % (fp32 {shares[1]:.2f} %)"


def _interval(figures: dict[str, Any]) -> str:
    pairs = zip(figures["errors"], figures["words_each"], strict=True)
    scored = [ScoredUtterance(str(i), WordErrors(substitutions=e, words=w)) for i, (e, w) in enumerate(pairs)]
    low, high = wer_interval(scored, None, {str(i): name for i, name in enumerate(figures["conversations"])})
    return f"[{low:.2f}, {high:.2f}]"


def _corrected(cells: Cells, setting: Setting) -> dict[str, float]:
    """MAPSSWE's p of each split against the joint one of its budget, corrected over the table, by cell."""
    found = {}
    for cell in cells_of(setting):
        figures = figures_of(cells, cell) if cell.split == JOINT else None
        for other, p in ({} if figures is None else figures["mapsswe_p"]).items():
            if other != FLOAT:
                found[Cell(setting, cell.bits, other).name] = p
    return dict(zip(found, holm(list(found.values())).tolist(), strict=True))


def show(cells: Cells, setting: Setting, emit: Tables) -> None:
    """The tables of what is there."""
    lines = table(cells, setting)
    what = "QUICK CHECK, no figures" if setting.quick else setting.split
    if lines:
        emit(f"one budget or two: bytes, {what}", SIZES, sizes(cells, setting))
        emit(f"one budget or two: word errors, {what}", COLUMNS, lines)
    control = figures_of(cells, Cell(setting, None, FLOAT))
    if control is not None:
        told = spread(difference({**control, **control["first"]}, control))
        emit.text(f"In 32 bits the second pass is {told} from the first, MAPSSWE's p {control['mapsswe_p_first']:.3f}.")
    for cell in cells_of(setting):
        figures = figures_of(cells, cell)
        if figures is not None and "search" in figures:
            emit.text(f"The joint sensitivities of both models took {figures['search']['seconds']:.0f} s.")
            break
    missing = [cell.name for cell in cells_of(setting) if figures_of(cells, cell) is None]
    if missing:
        emit.text(f"Still to be measured: {'; '.join(missing)}.")


def run(cells: Cells, setting: Setting, workers: int) -> None:
    """Do what is still to be done, and keep each cell as it comes."""
    tasks = list(tasks_of(setting, cells))
    hours = sum(hours_of(task, setting) for task in tasks) * (0.05 if setting.quick else 1)
    print(f"estimated: {hours:.2f} CPU hours, {len(tasks)} tasks", flush=True)
    for split, meaning in SPLITS.items():
        print(f"{split}: {meaning}")
    print_machine()
    for name, result in run_tasks(tasks, workers):
        print(f"{name}: {record(cells, result)}", flush=True)


def hours_of(task: Task, setting: Setting) -> float:
    plan = setting.plan
    return float(plan["search_hours"] if task.run is choose else plan["pass_hours"] + plan["cell_hours"])


def record(cells: Cells, result: Result | None) -> str:
    """Keep a finished cell, and say what it found; plans are no cell."""
    if result is None:
        return "done"
    cells.keep(result)
    _, _, figures, seconds = result
    return f"WER {figures['wer']:.2f} %, first pass {figures['first']['wer']:.2f} %, {seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recognizer", type=Path, help="a run folder; needed unless --table is given")
    parser.add_argument("--lm", type=Path, help="a run folder; needed unless --table is given")
    parser.add_argument("--data", type=Path, help="prepared speech; by default the recognizer's own")
    parser.add_argument("--ngram", type=Path, help="an n-gram model, interpolated with the language model")
    parser.add_argument("--plan", type=Path, default=HERE / "joint_budget.yaml")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    add_options(parser, quick="one budget, a narrow beam, dev alone", work="runs/joint_budget", workers=1)
    options = parser.parse_args()
    cells = kept_cells(options, "joint_budget")
    if options.table and not (options.recognizer or options.lm or options.quick):
        setting = setting_of_cells(cells, load_plan(options.plan), options.split)
    elif options.recognizer and options.lm:
        setting = setting_of(options)
    else:
        parser.error("--recognizer and --lm are needed, or --table without --quick")
    if not options.table:
        run(cells, setting, options.workers)
    with shown(__file__, f"{options.plan.stem} {setting.split}", cells, options) as emit:
        show(cells, setting, emit)


def setting_of(options: argparse.Namespace) -> Setting:
    """Raises ConfigError for folders that are no finished runs."""
    runs = {ASR: options.recognizer, LM: options.lm}
    data = options.data or Run.open(options.recognizer)[2]
    for folder in runs.values():
        open_trained(folder)
    plan = load_plan(options.plan, options.quick)
    split = "dev" if options.quick else options.split
    return Setting(plan, runs, data, options.ngram, split, options.work, options.quick)


if __name__ == "__main__":
    run_script(main)
