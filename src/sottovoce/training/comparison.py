"""The comparison that ``demo`` runs: one trained model, every arm forked from it, each judged by running its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.results import ResultRow, System, result_rows
from sottovoce.packed import file_sizes
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import CompressionConfig, RnntRecipe, with_scheme
from sottovoce.training.run import Run, write_file
from sottovoce.training.scoring import scored_once
from sottovoce.training.workers import Task, run_tasks

CONTROL = "fp32"


@dataclass(frozen=True)
class Arm:
    """One row of the table: how it is compressed, None for the float32 control."""

    system: str
    compression: CompressionConfig | None

    @property
    def bits(self) -> int:
        return 32 if self.compression is None else self.compression.bits

    @property
    def name(self) -> str:
        return self.system if self.system in (CONTROL, "int8") else f"{self.system}-{self.bits}"

    @property
    def rounds(self) -> bool:
        """Whether it trains nothing: it rounds what the control ended with."""
        return self.compression is not None and self.compression.scheme == "ptq"


def default_arms(section: CompressionConfig, widths: Iterable[int] = (5, 4, 3)) -> list[Arm]:
    """fp32, int8, and at each width PTQ, linear QAT and S8BQAT; the recipe's own scheme with the recipe's options."""
    arms = [Arm(CONTROL, None), Arm("int8", _section(section, "ptq", 8))]
    systems = ("ptq", "linear_qat", "s8bqat")
    return arms + [Arm(system, _section(section, system, bits)) for bits in widths for system in systems]


def _section(section: CompressionConfig, scheme: str, bits: int) -> CompressionConfig:
    return with_scheme(section, scheme).model_copy(update={"bits": bits})


def compare(
    recipe: RnntRecipe,
    data: Path,
    base: Run,
    out: Path,
    arms: list[Arm],
    *,
    split: str = "test",
    workers: int = 2,
    done: Callable[[str], None] = lambda name: None,
) -> list[ResultRow]:
    """Train and score every arm, ``workers`` at a time with one thread each, and write ``out/results.json``.

    Finished arms are taken as they are; ``done`` is called with each name.
    """
    jobs = {arm.name: job_of(arm, recipe, data, base, out) for arm in arms}
    tasks = [
        Task(arm.name, _train_and_score, (jobs[arm.name], data, split), frozenset([CONTROL] if arm.rounds else []))
        for arm in arms
    ]
    for name, _ in run_tasks(tasks, workers):
        done(name)
    systems = [_system(arm, jobs[arm.name], data, split, recipe.seed) for arm in arms]
    rows = result_rows(systems, split, CONTROL)
    write_file(out / "results.json", json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False) + "\n")
    return rows


def job_of(arm: Arm, recipe: RnntRecipe, data: Path, base: Run, out: Path) -> Job:
    """The arm's job in ``out/arms``: from the control where it only rounds, else from the base's snapshot or end."""
    control = Run(out / "arms" / CONTROL)
    start = base.fork if recipe.fork_epoch is not None else base.module
    module = control.module if arm.rounds else start
    return Job(recipe, data, base.folder, module, out / "arms" / arm.name, arm.compression, recipe.seed)


def _train_and_score(job: Job, data: Path, split: str) -> None:
    carry_out(job)
    _scored(job, data, split)


def _system(arm: Arm, job: Job, data: Path, split: str, seed: int) -> System:
    return System(arm.system, arm.bits, seed, _scored(job, data, split), file_sizes(Run(job.folder).model))


def _scored(job: Job, data: Path, split: str) -> list[Hypothesis]:
    penalty = job.recipe.decoding.blank_penalty if isinstance(job.recipe, RnntRecipe) else 0.0
    return scored_once(Run(job.folder).model, data, split, job.folder / f"{split}.jsonl", blank_penalty=penalty)
