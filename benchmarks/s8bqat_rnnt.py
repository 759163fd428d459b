"""What low bits cost a streaming RNN-T, and which method keeps it: every arm forks from one snapshot.

    python benchmarks/s8bqat_rnnt.py --data an4:DIR --data synth --data fsdd:DIR [--start snapshot|converged]
        [--seeds 3] [--split test|dev] [--plan FILE] [--quick] [--work DIR] [--results FILE] [--table] [--page FILE]

Arms and their settings are those of benchmarks/s8bqat_rnnt.yaml, frozen before a test set was scored. ``snapshot``: all
arms fork at a quarter of the 32-bit schedule and train the rest of it with the same batches, rates and steps.
``converged``: they fork from the finished model and train the recipe's compression phase, the control too. Arms that
the plan calls headline run on all seeds, the others on seed 0. Scores are those of packed files run with int8
activations. Corpora with a test set stand in one table; each that is prepared in folds has a table of its own, with
the WER of each fold. WERs are those of the seeds in their order, a dash for one that is missing. Verdicts pool seeds,
folds and corpora: errors are averaged over seeds, speakers and seeds are drawn; beside the folds stands that on real
speech, without the folds that something was chosen on. p is MAPSSWE's against the control, of seed 0. Finished cells
are not run again; ``--table`` only prints them (of all corpora of the plan, unless ``--data`` names some), ``--page``
puts them into a page's region ``PLAN START SPLIT``.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from arms import Corpus, arm_of, base_hours, cell_config, check_base, load_plan, place_of, tasks_of, train_base
from cells import Cells, Result, print_machine, run_script
from numpy.typing import NDArray
from options import add_options, kept_cells
from places import Place
from tables import Tables, shown

from sottovoce.evaluation.bootstrap import RelativeDifference, cluster_ids, relative_difference
from sottovoce.evaluation.noninferiority import Verdict, holm, verdict, wer_margin
from sottovoce.training.comparison import CONTROL, Arm
from sottovoce.training.workers import Task, run_tasks

HERE = Path(__file__).parent
KEYS = ("int8", "widths", "headline")  # of its plans, beside corpora and arms
FP32 = Arm(CONTROL, None)


@dataclass(frozen=True)
class Results:
    """Figures by corpus, fold, arm and seed, as far as they are there; ``config``: what names a cell."""

    cells: Cells
    places: tuple[Place[Corpus], ...]
    split: str
    config: Callable[[Place[Corpus], Arm, str], dict[str, Any]] = cell_config

    def figures(self, corpus: Corpus, fold: str, seed: int, arm: Arm) -> dict[str, Any] | None:
        place = next(p for p in self.places if (p.source.name, p.fold, p.seed) == (corpus.name, fold, seed))
        row = self.cells.done(self.config(place, arm, self.split), seed)
        return None if row is None else row["figures"]

    def seeds(self, corpora: Sequence[Corpus], arm: Arm, against: Arm = FP32) -> list[int]:
        """Seeds for which the arm is on every fold of every corpus, its control and what it is set against too."""
        return [
            seed
            for seed in sorted({place.seed for place in self.places})
            if all(
                self.figures(corpus, fold, seed, one) is not None
                for corpus in corpora
                for fold in corpus.folds
                for one in (arm, against, FP32)
            )
        ]

    def joined(self, corpora: Sequence[Corpus], seed: int, arm: Arm, key: str) -> list[Any]:
        """A figure a test utterance, over folds and corpora in their order."""
        found: list[Any] = []
        for corpus in corpora:
            for fold in corpus.folds:
                figures = self.figures(corpus, fold, seed, arm) or {}
                values = figures[key]
                found += [f"{corpus.name} {value}" for value in values] if key == "speakers" else values
        return found

    def wer(self, corpus: Corpus, seed: int, arm: Arm) -> float:
        """Percent, all folds together."""
        words = sum(self.joined([corpus], seed, FP32, "words_each"))
        return 100.0 * sum(self.joined([corpus], seed, arm, "errors")) / words

    def interval(self, corpus: Corpus, arm: Arm) -> str:
        """WER in percent, mean over its seeds, and the two-sided 95 % interval over speakers and seeds."""
        seeds = self.seeds([corpus], arm)
        if not seeds:
            return ""
        words, errors = (
            np.array([self.joined([corpus], seed, one, key) for seed in seeds], float)
            for one, key in ((FP32, "words_each"), (arm, "errors"))
        )
        found = relative_difference(words, errors, self.clusters([corpus], seeds[0]))  # errors a word, less one
        mean, low, high = (100 * (1 + x) for x in (found.estimate, found.lower(0.975), found.upper(0.975)))
        return f"{mean:.2f} [{low:.1f}, {high:.1f}]"

    def clusters(self, corpora: Sequence[Corpus], seed: int) -> NDArray[np.intp]:
        """The speaker of each test utterance, or where they are fewer than eight, the utterance itself, (N,)."""
        speakers = self.joined(corpora, seed, FP32, "speakers")
        ids = [str(i) for i in range(len(speakers))]
        return cluster_ids(ids, dict(zip(ids, speakers, strict=True)))

    def difference(
        self, corpora: Sequence[Corpus], arm: Arm, against: Arm = FP32
    ) -> tuple[RelativeDifference, int] | None:
        """Of the arm's errors over all of these corpora to those of ``against``, and the seeds that it rests on."""
        seeds = self.seeds(corpora, arm, against)
        if not seeds:
            return None
        errors = [
            np.array([self.joined(corpora, seed, one, "errors") for seed in seeds], float) for one in (against, arm)
        ]
        return relative_difference(errors[0], errors[1], self.clusters(corpora, seeds[0])), len(seeds)

    def judged(self, corpora: Sequence[Corpus], arm: Arm) -> tuple[Verdict, int] | None:
        """The verdict over all of these corpora, and the seeds that it rests on."""
        found = self.difference(corpora, arm)
        return None if found is None else (verdict(found[0], wer_margin(arm.bits)), found[1])


def table(results: Results, corpora: Sequence[Corpus], arms: Sequence[Arm]) -> list[list[str]]:
    """One line an arm: WER of each seed on each corpus, size, the pooled verdict, and p over the table."""
    adjusted = corrected(results, corpora, arms)
    return [
        [
            arm.system,
            str(arm.bits),
            *(_wers(results, corpus, arm) for corpus in corpora),
            _ratio(results, corpora, arm),
            *_verdict(results, corpora, arm),
            f"{adjusted[arm.name]:.3f}" if arm.name in adjusted else "",
        ]
        for arm in _there(results, corpora, arms)
    ]


def by_fold(results: Results, corpus: Corpus, arms: Sequence[Arm], real: Sequence[Corpus]) -> list[list[str]]:
    """One line an arm: WER of each seed on each fold and on all together, and the pooled verdict on ``real``."""
    return [
        [
            arm.system,
            str(arm.bits),
            *(_wers(results, replace(corpus, folds=(fold,)), arm) for fold in corpus.folds),
            _wers(results, corpus, arm),
            *_verdict(results, real, arm),
        ]
        for arm in _there(results, [corpus], arms)
    ]


def spread(found: RelativeDifference) -> str:
    """The difference with its two-sided 95 % interval and the upper end of the one-sided one."""
    ends = ", ".join(f"{100 * x:+.1f}" for x in (found.lower(0.975), found.upper(0.975)))
    return f"{100 * found.estimate:+.1f} % [{ends}], upper {100 * found.upper():+.1f} %"


def order(found: RelativeDifference) -> str:
    """Fewer errors, more, or neither, by the two-sided interval."""
    if found.upper(0.975) < 0:
        return "fewer"
    return "more" if found.lower(0.975) > 0 else "not resolved"


def alone(
    results: Results, corpora: Sequence[Corpus], pools: Sequence[Sequence[Corpus]], headline: Sequence[Arm]
) -> list[list[str]]:
    """One line a headline arm: the verdict on each corpus by itself, and over each of the pools how the last of the
    headline arms of its width differs from it."""
    lines = []
    for arm in (arm for arm in _there(results, corpora, headline) if arm.compression is not None and arm.bits < 8):
        ours = [other for other in headline if other.bits == arm.bits][-1]
        against = [None if ours == arm else results.difference(pool, ours, arm) for pool in pools]
        lines.append(
            [
                arm.system,
                str(arm.bits),
                *(_alone(results.judged([corpus], arm)) for corpus in corpora),
                *("" if found is None else f"{spread(found[0])}: {order(found[0])}" for found in against),
            ]
        )
    return lines


def _alone(found: tuple[Verdict, int] | None) -> str:
    if found is None:
        return ""
    ends = ", ".join(f"{100 * x:+.1f}" for x in (found[0].lower, found[0].upper))
    return f"{100 * found[0].relative_difference:+.1f} % [{ends}]: {found[0].words}"


def _there(results: Results, corpora: Sequence[Corpus], arms: Sequence[Arm]) -> list[Arm]:
    """The arms that have a figure on some fold."""
    single = [replace(corpus, folds=(fold,)) for corpus in corpora for fold in corpus.folds]
    return [arm for arm in arms if any(results.seeds([one], arm) for one in single)]


def _wers(results: Results, corpus: Corpus, arm: Arm) -> str:
    """Of all seeds up to the last that is there."""
    seeds = results.seeds([corpus], arm)
    found = [f"{results.wer(corpus, s, arm):.2f}" if s in seeds else "-" for s in range(max(seeds, default=-1) + 1)]
    return " ".join(found)


def losses(results: Results, corpora: Sequence[Corpus], arms: Sequence[Arm]) -> list[list[str]]:
    """RNN-T loss of each arm, nats a token with float activations: mean over folds, mean and deviation over seeds."""
    lines = []
    for arm in _there(results, corpora, arms):
        line = [arm.system, str(arm.bits)]
        for corpus in corpora:
            found = [
                statistics.mean(
                    (results.figures(corpus, fold, seed, arm) or {})["loss_per_token"] for fold in corpus.folds
                )
                for seed in results.seeds([corpus], arm)
            ]
            spread = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
            line.append(f"{statistics.mean(found):.4f}{spread}" if found else "")
        lines.append(line)
    return lines


def _ratio(results: Results, corpora: Sequence[Corpus], arm: Arm) -> str:
    for corpus in corpora:
        figures = results.figures(corpus, corpus.folds[0], 0, arm)
        if figures:
            return f"{figures['fp32_bytes'] / figures['model_bytes']:.1f}"
    return ""


def _verdict(results: Results, corpora: Sequence[Corpus], arm: Arm) -> list[str]:
    """The pooled difference from the control, with its upper end, the margin and seeds; and the verdict."""
    if arm.name == CONTROL:
        return ["", "reference"]
    judged = results.judged(corpora, arm) if corpora else None
    if judged is None:
        return ["", ""]
    found, seeds = judged
    difference, upper, margin = (100 * x for x in (found.relative_difference, found.upper, found.margin))
    return [f"{difference:+.1f} %, {upper:+.1f} %, {margin:.0f} %, {seeds}", found.words]


def corrected(
    results: Results, corpora: Sequence[Corpus], arms: Sequence[Arm], key: str = "mapsswe_p"
) -> dict[str, float]:
    """MAPSSWE's p of seed 0, the smallest over folds and corpora times their number, corrected over the table."""
    found: dict[str, float] = {}
    for arm in arms:
        values = [
            figures[key]
            for corpus in corpora
            for fold in corpus.folds
            if arm.name != CONTROL and (figures := results.figures(corpus, fold, 0, arm)) is not None
        ]
        if values:
            found[arm.name] = min(1.0, min(values) * len(values))
    return dict(zip(found, holm(list(found.values())).tolist(), strict=True))


def missing(results: Results, corpora: Sequence[Corpus], arms: Sequence[Arm], headline: Sequence[Arm]) -> list[str]:
    """What is still to be measured, headline arms of all seeds, the others of seed 0; places that lack the same stand
    together."""
    lacking: dict[str, dict[str, list[str]]] = {}
    for place in (place for corpus in corpora for place in results.places if place.source == corpus):
        due = [arm for arm in arms if place.seed == 0 or arm in headline]
        left = [a for a in due if results.figures(place.source, place.fold, place.seed, a) is None]
        bits: dict[str, list[str]] = {}
        for arm in left:
            bits.setdefault(arm.system, []).append(str(arm.bits))
        names = ", ".join(f"{system} ({'/'.join(widths)})" for system, widths in bits.items())
        if left:
            where = lacking.setdefault("all" if len(left) == len(due) else names, {})
            where.setdefault(" ".join(filter(None, (place.source.name, place.fold))), []).append(str(place.seed))
    found = []
    for names, where in lacking.items():
        places = [f"{place} seed {'/'.join(seeds)}" for place, seeds in where.items()]
        found.append(f"{', '.join(places)}: {names}")
    return found


def arms_of(plan: dict[str, Any]) -> tuple[list[Arm], list[Arm]]:
    """All arms of the plan, and the headline ones, the control and int8 among them."""
    arms = [FP32, arm_of("int8", plan["int8"], 8)]
    headline = list(arms)
    for bits in plan["widths"]:
        for name, settings in plan["arms"].items():
            arm = arm_of(name, settings, bits)
            arms.append(arm)
            if name in plan["headline"]:
                headline.append(arm)
    return arms, headline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", help="NAME, or NAME:DIR; repeatable")
    parser.add_argument("--start", choices=("snapshot", "converged"), default="snapshot")
    parser.add_argument("--plan", type=Path, default=HERE / "s8bqat_rnnt.yaml")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--seeds", type=int, default=3)
    add_options(parser, quick="one fold and seed, two epochs", work="runs/s8bqat_rnnt", workers=2)
    options = parser.parse_args()
    if not (options.data or options.table):
        parser.error("--data is needed")
    corpora, plan = load_plan(options.plan, options.data, KEYS)
    if options.quick:
        corpora = [replace(corpora[0], folds=corpora[0].folds[:1])]
    arms, headline = arms_of(plan)
    seeds = range(1 if options.quick else options.seeds)
    snapshot = options.start == "snapshot"
    places = tuple(
        place_of(corpus, fold, seed, snapshot, options.work / ("quick" if options.quick else "full"), options.quick)
        for seed in seeds
        for corpus in corpora
        for fold in corpus.folds
    )
    cells = kept_cells(options, plan.get("results", "s8bqat_rnnt"))
    results = Results(cells, places, options.split)
    if not options.table:
        run(places, arms, headline, cells, options)
    region = f"{options.plan.stem} {options.start} {options.split}"
    with shown(__file__, region, cells, options) as emit:
        show(results, corpora, arms, headline, plan, emit)


def run(
    places: Sequence[Place[Corpus]], arms: list[Arm], headline: list[Arm], cells: Cells, options: argparse.Namespace
) -> None:
    """Do what is still to be done: headline arms of seed 0, its other arms, then headline arms of further seeds."""
    rest = [arm for arm in arms if arm not in headline]
    first, further = [p for p in places if p.seed == 0], [p for p in places if p.seed > 0]
    order = [(p, headline) for p in first] + [(p, rest) for p in first] + [(p, headline) for p in further]
    tasks: dict[str, Task] = {}
    hours = 0.0
    for place, due in order:
        for task in tasks_of(place, due, cells, options.split):
            if task.name not in tasks:
                hours += base_hours(place) if task.run is train_base else place.source.arm_hours
                tasks[task.name] = task
    print(f"estimated: {hours * (0.1 if options.quick else 1):.1f} CPU hours, {len(tasks)} tasks", flush=True)
    print_machine()
    for name, result in run_tasks(list(tasks.values()), options.workers):
        print(f"{name}: {record(cells, result)}", flush=True)


def record(cells: Cells, result: Result | None) -> str:
    """Keep a finished cell, and say what it found; a 32-bit training is no cell."""
    if result is None:
        return "done"
    check_base(cells, result)
    cells.keep(result)
    _, _, figures, seconds = result
    return f"WER {figures['wer']:.2f} %, {figures['loss_per_token']:.4f} nats a token, {seconds:.0f} s"


def _named(corpus: Corpus) -> str:
    """Its name, and those of its folds."""
    return " ".join([corpus.name, *filter(None, corpus.folds)])


def _untouched(corpus: Corpus, plan: dict[str, Any]) -> Corpus:
    """The corpus without the folds on which something was chosen."""
    chosen = plan.get("chosen_on", {}).get(corpus.name, [])
    return replace(corpus, folds=tuple(fold for fold in corpus.folds if fold not in chosen))


def show(
    results: Results,
    corpora: Sequence[Corpus],
    arms: Sequence[Arm],
    headline: Sequence[Arm],
    plan: dict[str, Any],
    emit: Tables,
) -> None:
    """The tables of what is there, what the blank penalty gives the control, and what is still to be measured."""
    whole, folded = ([c for c in corpora if (len(c.folds) > 1) == several] for several in (False, True))
    pooled = "difference, upper end, margin, seeds"
    if _there(results, whole, arms):
        columns = ["system", "bits", *(f"{c.name}: WER % of seeds" for c in whole), "times smaller"]
        emit("", [*columns, pooled, "verdict", "p (Holm)"], table(results, whole, arms))
    real = [_untouched(corpus, plan) for corpus in corpora if corpus.name in plan.get("real", [])]
    for corpus in folded:
        if _there(results, [corpus], arms):
            names = ", ".join(map(_named, real))
            title = f"{corpus.name}, WER % of seeds with each fold left out; the verdict is on {names}"
            emit(
                title, ["system", "bits", *corpus.folds, "all", pooled, "verdict"], by_fold(results, corpus, arms, real)
            )
    each = [*whole, *(_untouched(corpus, plan) for corpus in folded)]
    each = [corpus for corpus in each if _there(results, [corpus], headline)]
    if len(each) > 1 and results.split == "test":
        ours = headline[-1].system
        rivals = len({arm.bits for arm in headline}) < len(headline)  # some width has several headline arms
        pools = [pool for pool in (whole, real) if rivals and pool and results.seeds(pool, FP32)]
        columns = ["system", "bits", *(f"{_named(c)} alone" for c in each)]
        columns += [f"{ours} from this, {' and '.join(map(_named, pool))}" for pool in pools]
        title = "headline arms: from fp32 with one-sided 95 % ends"
        title += "; from one another with two-sided ones, not corrected" if pools else ""
        emit(title, columns, alone(results, each, pools, headline))
    if each and results.split == "test":
        columns = ["system", "bits", *map(_named, each)]
        lines = [
            [arm.system, str(arm.bits), *(results.interval(c, arm) for c in each)]
            for arm in _there(results, each, headline)
        ]
        emit("headline arms: WER %, mean over seeds, with two-sided 95 % intervals", columns, lines)
    measured = [corpus for corpus in corpora if _there(results, [corpus], arms)]
    if measured and results.split == "dev":  # what choices are made by
        emit("Nats a token", ["system", "bits", *(c.name for c in measured)], losses(results, measured, arms))
    if sentence := without_blank_penalty(results, corpora):
        emit.text(sentence)
    if left := missing(results, corpora, arms, headline):
        emit.text(f"Still to be measured: {'; '.join(left)}.")


def without_blank_penalty(results: Results, corpora: Sequence[Corpus]) -> str:
    """What the penalty gives the control, where there is one."""
    found = []
    for place in (place for corpus in corpora for place in results.places if place.source == corpus):
        figures = results.figures(place.source, place.fold, place.seed, FP32)
        plain = {} if figures is None else figures["without_blank_penalty"]
        if figures is not None and plain["wer"] != figures["wer"]:
            counts = ", ".join(f"{plain[key]} {key}" for key in ("substitutions", "insertions", "deletions"))
            found.append(f"{place.name} {plain['wer']:.2f} % ({counts})")
    return f"fp32 without blank penalty: {'; '.join(found)}." if found else ""


if __name__ == "__main__":
    run_script(main)
