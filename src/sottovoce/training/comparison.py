"""The comparison that ``demo`` runs: one trained model, every arm forked from it, each judged by running its file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path

from sottovoce.evaluation.results import ResultRow, System, result_rows
from sottovoce.packed import file_sizes
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import Recipe
from sottovoce.training.run import Run, write_file
from sottovoce.training.scoring import scored_once

CONTROL = "fp32"


@dataclass(frozen=True)
class Arm:
    """One row of the table: ``scheme`` None is the float32 control."""

    system: str
    bits: int
    scheme: str | None

    @property
    def name(self) -> str:
        return self.system if self.system in (CONTROL, "int8") else f"{self.system}-{self.bits}"


def default_arms(widths: Iterable[int] = (5, 4, 3)) -> list[Arm]:
    """fp32, int8, and at each width PTQ, linear QAT and S8BQAT."""
    arms = [Arm(CONTROL, 32, None), Arm("int8", 8, "ptq")]
    return arms + [Arm(system, bits, system) for bits in widths for system in ("ptq", "linear_qat", "s8bqat")]


def compare(
    recipe: Recipe,
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

    Finished arms are taken as they are. Arms that round the control come last; ``done`` is called with each name.
    """
    jobs = {arm.name: _job(arm, recipe, data, base, out) for arm in arms}
    with ProcessPoolExecutor(workers, get_context("spawn"), _die_with, (os.getpid(),)) as pool:
        try:
            for name in _in_order(pool, workers, arms, jobs, data, split):
                done(name)
        except BaseException:  # one arm failed, or the user has had enough: files are written whole, so nothing waits
            for worker in active_children():
                worker.kill()
            raise
    systems = [_system(arm, jobs[arm.name], data, split, recipe.seed) for arm in arms]
    rows = result_rows(systems, split, CONTROL)
    write_file(out / "results.json", json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False) + "\n")
    return rows


def _die_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed command must leave nobody writing into its folder."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _job(arm: Arm, recipe: Recipe, data: Path, base: Run, out: Path) -> Job:
    section = recipe.compression
    changes: dict[str, object] = {"bits": arm.bits, "scheme": arm.scheme}
    if arm.scheme != section.scheme:  # another scheme has options and levels of its own
        changes |= {"options": {}, "kind": None}
    settings = section.model_copy(update=changes) if arm.scheme else None
    rounded = arm.scheme == "ptq"
    module = out / "arms" / CONTROL / "module.safetensors" if rounded else base.module
    return Job(recipe, data, base.folder, module, out / "arms" / arm.name, settings, recipe.seed)


def _in_order(
    pool: ProcessPoolExecutor, workers: int, arms: list[Arm], jobs: dict[str, Job], data: Path, split: str
) -> Iterator[str]:
    """Names of the arms as they finish: trained arms first, the control at their head, then those that round it.

    No more jobs are handed out than there are workers, so that a failure leaves none waiting.
    """
    for rounded in (False, True):
        due = [arm.name for arm in arms if (arm.scheme == "ptq") == rounded]
        running: dict[Future[None], str] = {}
        while due or running:
            while due and len(running) < workers:
                name = due.pop(0)
                running[pool.submit(_train_and_score, jobs[name], data, split)] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                yield running.pop(future)


def _train_and_score(job: Job, data: Path, split: str) -> None:
    scored_once(carry_out(job), data, split, _hypotheses(job, split))


def _system(arm: Arm, job: Job, data: Path, split: str, seed: int) -> System:
    model = job.folder / "model.safetensors"
    found = scored_once(model, data, split, _hypotheses(job, split))
    return System(arm.system, arm.bits, seed, found, file_sizes(model))


def _hypotheses(job: Job, split: str) -> Path:
    return job.folder / f"{split}.jsonl"
