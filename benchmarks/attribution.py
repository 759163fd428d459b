"""Where a rounded recognizer's errors come from: by component, by kind of error, and what a blank penalty regains.

    python benchmarks/attribution.py RUN [RUN ...] --data PREPARED [--split test|dev] [--plan FILE] [--quick]
        [--work DIR] [--results FILE] [--table] [--page FILE]
    python benchmarks/attribution.py --table [--recipe NAME] [--split test|dev] [--page FILE]

RUN is a folder made by 'sottovoce train', several are seeds of one recipe; PREPARED is a folder made by 'sottovoce
data prepare'. Systems, widths and penalties: benchmarks/attribution.yaml, frozen before a test set was scored. Encoder,
predictor and joiner are rounded alone and together; what is not rounded stays float32. Nothing is trained. Each system
is a packed file, run with int8 activations where its weights are packed, with a greedy search; all components together
are run with float activations too, which tells what weights lose from what activations lose.

Every system is reported without a blank penalty, with the one that is best on dev for float32 ("frozen"), and with the
one that is best on dev for itself ("own"). Differences are paired with float32 of the same seed, decoded alike ("own"
against float32's own, which is the frozen one). Errors are averaged over seeds; speakers, or recordings where those are
fewer than eight, and seeds are drawn. Upper ends are one-sided, intervals in brackets two-sided, 95 %. The share
regained is (errors with the frozen penalty - with the own one) / (errors with the frozen one - those of float32); "-"
where the errors added are not significantly above zero. Finished cells are not measured again; ``--table`` only prints
them, without RUNs those of the seeds of one recipe that were measured last; ``--page`` puts them into a page's region
``attribution RECIPE SPLIT``, without what single seeds lose by component.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from attribution_arms import (
    ALL,
    FLOAT,
    FLOAT_SYSTEM,
    FROZEN,
    NONE,
    OWN,
    PARTS,
    Plan,
    Scored,
    System,
    Trained,
    cell_config,
    expected_hours,
    load_plan,
    open_runs,
    run_cells,
    scored_runs,
)
from cells import Cells, print_machine, run_script
from mixed_precision_lm import verdict_sentence
from numpy.typing import NDArray
from options import add_options, kept_cells
from tables import Tables, shown

from sottovoce.errors import ConfigError
from sottovoce.evaluation.bootstrap import RelativeDifference, relative_difference, share_of_gain_kept
from sottovoce.evaluation.noninferiority import CONFIDENCE, verdict, wer_margin

HERE = Path(__file__).parent
MODES = {NONE: "no penalty", FROZEN: "frozen", OWN: "own"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """Figures of some runs, seeds of one recipe, as far as they are there. Counts are (S, N): seeds and utterances."""

    cells: Cells
    runs: tuple[Scored, ...]
    plan: Plan

    def figures(self, system: System, scored: Scored) -> dict[str, Any] | None:
        row = self.cells.done(cell_config(scored, system, self.plan), scored.seed)
        return None if row is None else row["figures"]

    def only(self, systems: Sequence[System]) -> "Results":
        """The same with the runs for which all these systems and float32 are there."""
        wanted = (FLOAT_SYSTEM, *systems)
        there = tuple(r for r in self.runs if all(self.figures(s, r) is not None for s in wanted))
        return Results(self.cells, there, self.plan)

    def penalties(self, system: System, mode: str) -> list[float]:
        """Of each run."""
        return [(self.figures(system, one) or {})["penalties"][mode] for one in self.runs]

    def counts(self, system: System, mode: str, parts: Sequence[str] = PARTS) -> Floats:
        """Errors of these parts together."""
        rows = []
        for one, penalty in zip(self.runs, self.penalties(system, mode), strict=True):
            found = (self.figures(system, one) or {})["counts"][f"{penalty:g}"]
            rows.append(np.sum([found[part] for part in parts], axis=0))
        return np.array(rows, np.float64)

    @cached_property
    def words(self) -> Floats:
        """(S, N), the same for all seeds."""
        row = (self.figures(FLOAT_SYSTEM, self.runs[0]) or {})["words_each"]
        return np.tile(np.array(row, np.float64), (len(self.runs), 1))

    @cached_property
    def clusters(self) -> NDArray[np.intp]:
        return np.array((self.figures(FLOAT_SYSTEM, self.runs[0]) or {})["clusters"], np.intp)

    def percent(self, counts: Floats) -> float:
        """Per hundred words, seeds together."""
        return float(100 * counts.sum() / self.words.sum())

    def per_word(self, counts: Floats) -> RelativeDifference:
        """Counts, or differences of counts, a reference word, with draws."""
        # (words + counts - words) / words: errors beside their own words, drawn together.
        return relative_difference(self.words, self.words + counts, self.clusters)

    def difference(self, system: System, mode: str) -> RelativeDifference:
        """Of all errors, relative to float32."""
        return relative_difference(self.counts(FLOAT_SYSTEM, mode), self.counts(system, mode), self.clusters)

    def added(self, system: System, mode: str, parts: Sequence[str] = PARTS) -> Floats:
        """Errors more than float32's."""
        return self.counts(system, mode, parts) - self.counts(FLOAT_SYSTEM, mode, parts)


def error_table(results: Results) -> list[list[str]]:
    """One line a system that is there: WER in its three parts under each penalty, and the penalties of its runs."""
    lines = []
    for system in results.plan.systems:
        found = results.only([system])
        if not found.runs:
            continue
        own = " ".join(f"{penalty:g}" for penalty in found.penalties(system, OWN))
        lines.append([system.name, *(_wer(found, system, mode) for mode in MODES), own])
    return lines


def _wer(results: Results, system: System, mode: str) -> str:
    parts = "/".join(f"{results.percent(results.counts(system, mode, [part])):.2f}" for part in PARTS)
    return f"{results.percent(results.counts(system, mode)):.2f} ({parts})"


def difference_table(results: Results) -> list[list[str]]:
    """One line a system that is there, against float32 on the same seeds."""
    lines = []
    for system in results.plan.systems:
        found = results.only([system])
        if not found.runs or system.component == FLOAT:
            continue
        judged = [verdict(found.difference(system, mode), wer_margin(system.bits)) for mode in MODES]
        lines.append([system.name, *map(verdict_sentence, judged), regained(found, system)])
    return lines


def part_table(results: Results) -> list[list[str]]:
    """One line a system that is there: deletions, insertions and substitutions more than float32's."""
    lines = []
    for system in results.plan.systems:
        found = results.only([system])
        if not found.runs or system.component == FLOAT:
            continue
        wanted = [(mode, "deletions") for mode in MODES] + [(FROZEN, "insertions"), (FROZEN, "substitutions")]
        rates = [found.per_word(found.added(system, mode, [part])) for mode, part in wanted]
        lines.append([system.name, *map(_rate, rates)])
    return lines


def regained(results: Results, system: System) -> str:
    """The share of the errors added under the frozen penalty that the own one takes away again."""
    if results.difference(system, FROZEN).lower(CONFIDENCE) <= 0:
        return "-"
    control, frozen = (results.counts(one, FROZEN) for one in (FLOAT_SYSTEM, system))
    share = share_of_gain_kept(frozen, control, results.counts(system, OWN), results.clusters)
    low, high = share.interval()
    return f"{100 * (share.estimate or 0.0):.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def component_table(results: Results, pooled: bool = False) -> list[list[str]]:
    """Under the frozen penalty, one line a width for each run, and for all of them together; ``pooled``: of several
    runs only the latter."""
    lines = []
    for bits in results.plan.widths:
        found = results.only(results.plan.at(bits))
        each = [Results(found.cells, (one,), found.plan) for one in found.runs]
        if len(found.runs) == 1 or not pooled:
            lines += [[one.runs[0].name, str(bits), *_shares(one, bits)] for one in each]
        if len(found.runs) > 1:
            lines.append([f"all {len(found.runs)}", str(bits), *_shares(found, bits)])
    return lines


def _shares(results: Results, bits: int) -> list[str]:
    """Errors added per hundred words: by each component, with its share of their sum where that is significantly above
    zero; the sum; all rounded together; what that is more than the sum; weights; activations."""
    *alone, whole, float_activations = (results.added(system, FROZEN) for system in results.plan.at(bits))
    total: Floats = np.sum(alone, axis=0)
    is_loss = results.per_word(total).lower(CONFIDENCE) > 0
    components = [
        f"{results.percent(part):+.2f}" + (f" ({100 * part.sum() / total.sum():.0f} %)" if is_loss else "")
        for part in alone
    ]
    interaction = results.per_word(whole - total)
    rest = [_rate(results.per_word(counts)) for counts in (float_activations, whole - float_activations)]
    return [
        *components, _rate(results.per_word(total)), _rate(results.per_word(whole)),
        f"{_rate(interaction)}: {_sense(interaction)}", *rest,
    ]  # fmt: skip


def _sense(interaction: RelativeDifference) -> str:
    low, high = _ends(interaction)
    if low > 0:
        return "more than the sum"
    return "less than the sum" if high < 0 else "not told from the sum"


def _rate(found: RelativeDifference) -> str:
    low, high = _ends(found)
    return f"{100 * found.estimate:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def _ends(found: RelativeDifference) -> tuple[float, float]:
    """Two-sided."""
    tail = (1 - CONFIDENCE) / 2
    return found.lower(1 - tail), found.upper(1 - tail)


def at_the_end(results: Results) -> list[str]:
    """Systems whose best penalty is the least or the greatest that was tried: a better one may lie beyond."""
    ends = {min(results.plan.penalties), max(results.plan.penalties)}
    found = []
    for system in results.plan.systems:
        some = results.only([system])
        found += [
            f"{one.name}, {system.name} ({penalty:g})"
            for one, penalty in zip(some.runs, some.penalties(system, OWN), strict=True)
            if penalty in ends
        ]
    return found


def show(results: Results, emit: Tables) -> None:
    """The tables, and what does not stand in them."""
    there = results.only([])
    if not there.runs:
        emit.text("Still to be measured: float32, and all that is compared with it.")
        return
    first = there.runs[0]
    title = f"{first.recipe}, {first.split}, {len(there.runs)} seed{'s' * (len(there.runs) > 1)}"
    title = f"QUICK CHECK, some dev utterances, no figures: {title}" if first.quick else title
    penalties = " ".join(f"{penalty:g}" for penalty in there.penalties(FLOAT_SYSTEM, FROZEN))
    emit.text(
        f"{title}: {int(there.words[0].sum()):,} words, {there.clusters.max() + 1} clusters. Blank penalties: none; "
        f"frozen, the best on dev for float32 ({penalties} nats); own, the best on dev for the system."
    )
    if first.split == "dev":
        emit.text("Penalties were chosen on these same utterances.")
    columns = ["system", *MODES.values(), "own penalty of seeds"]
    emit(f"{title}: WER % (substitutions/insertions/deletions)", columns, error_table(results))
    emit(
        f"{title}: all errors, relative to float32", ["system", *MODES.values(), "regained"], difference_table(results)
    )
    columns = ["system", *(f"deletions, {mode}" for mode in MODES.values()), "insertions, frozen"]
    columns += ["substitutions, frozen"]
    emit(f"{title}: errors added per 100 words, by part", columns, part_table(results))
    columns = ["run", "bits", *results.plan.components, "their sum", ALL, f"{ALL} less the sum"]
    columns += [f"{ALL}: weights", f"{ALL}: activations"]
    emit(
        f"{title}: errors added per 100 words, by component (share of their sum), frozen penalty",
        columns,
        component_table(results, pooled=emit.keep),
    )
    if found := at_the_end(results):
        emit.text(f"At an end of the penalties tried: {'; '.join(found)}.")
    missing = [s.name for s in results.plan.systems if len(results.only([s]).runs) < len(results.runs)]
    if missing:
        emit.text(f"Still to be measured, of some seed: {'; '.join(missing)}.")


def run(cells: Cells, runs: Sequence[Trained], plan: Plan) -> None:
    """Measure what has yet to be measured, run by run."""
    hours = sum(expected_hours(cells, trained, plan) for trained in runs)
    print(f"estimated: {hours:.2f} CPU hours", flush=True)
    print_machine()
    for trained in runs:
        for name, row in run_cells(cells, trained, plan):
            figures = row["figures"]
            penalty = figures["penalties"][OWN]
            errors = sum(map(sum, figures["counts"][f"{penalty:g}"].values()))
            print(f"{name}: best penalty {penalty:g}, with it {errors} errors, {row['seconds']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders of 'sottovoce train'")
    parser.add_argument("--data", type=Path, help="what 'sottovoce data prepare' made for them")
    parser.add_argument("--recipe", help="with --table and no RUN: whose cells, where there are several")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--plan", type=Path, default=HERE / "attribution.yaml")
    add_options(parser, quick="one run, some dev utterances", work="runs/attribution", holds="files and hypotheses")
    options = parser.parse_args()
    alone = options.table and not (options.runs or options.data or options.quick)
    if not (alone or (options.runs and options.data)) or (options.recipe and not alone):
        parser.error("RUN and --data are needed, or --table without --quick; --recipe goes with --table alone")
    plan = load_plan(options.plan)
    cells = kept_cells(options, "attribution")
    if alone:
        recipe, runs = chosen(scored_runs(cells, options.split, plan), options.recipe)
    else:
        plan = plan.reduced() if options.quick else plan
        trained = opened(options, plan)
        if not options.table:
            run(cells, trained, plan)
        recipe, runs = trained[0].recipe.name, tuple(one.scored for one in trained)
    with shown(__file__, f"attribution {recipe} {options.split}", cells, options) as emit:
        show(Results(cells, runs, plan), emit)


def opened(options: argparse.Namespace, plan: Plan) -> list[Trained]:
    """The runs that are there, for a quick check the first. Raises ConfigError as ``open_runs`` does."""
    quick = plan.quick["utterances"] if options.quick else None
    folders = options.runs[:1] if options.quick else options.runs
    return open_runs(folders, options.data, options.split, options.work, quick)


def chosen(found: Mapping[str, tuple[Scored, ...]], recipe: str | None) -> tuple[str, tuple[Scored, ...]]:
    """The recipe that was asked for, if only by being alone, and its runs; none where nothing is measured yet."""
    if recipe is not None:
        return recipe, found.get(recipe, ())
    if len(found) != 1:
        raise ConfigError(f"--recipe: expected a name, found cells of {', '.join(sorted(found)) or 'no recipe'}")
    return next(iter(found.items()))


if __name__ == "__main__":
    run_script(main)
