"""Arms of a comparison: each starts from the same trained module, sees the same batches, rates and steps, and ends
as a file.

The control trains like the others and stays in float32; post-training quantization rounds what the control ended with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from sottovoce.errors import ConfigError
from sottovoce.packed import PackedModel, load_model, trained_hash
from sottovoce.quant import BitPlan
from sottovoce.schemes import ADMM, GQ, PTQ, S8BQAT, Scheme, StraightThrough, compress, linear_qat, pack_float
from sottovoce.training.allocator import keep_freed_memory
from sottovoce.training.callback import CompressionCallback
from sottovoce.training.config import CompressionConfig, Recipe
from sottovoce.training.levels import LevelsFile, histograms, planned_weights, write_weights
from sottovoce.training.phases import fit, steps_taken
from sottovoce.training.run import Run, file_hash, taking_back, write_file
from sottovoce.training.task import keep_decoding, shipped, task_of, with_decoding
from sottovoce.training.task_module import PhaseData, TaskModule

_SCHEMES: dict[str, Callable[..., Scheme]] = {
    "s8bqat": S8BQAT,
    "admm": ADMM,
    "gq": GQ,
    "linear_qat": linear_qat,
    "straight_through": StraightThrough,
    "ptq": PTQ,
}
_KINDS = {
    "admm": "uniform",  # mid-rise where zero is not asked for; with it the published tables
    "linear_qat": "uniform",  # evenly spaced levels with a least-squares scale
    "gq": "mu-law-scaled",  # the published range of +-1 leaves most codes of narrow kernels unused
}


@dataclass(frozen=True)
class Job:
    """One arm: the run that it starts from, how it is compressed (None: the float32 control), and where it goes.

    module: the trained module's weights, as ``train`` or an earlier arm left them, or the snapshot (.ckpt) that it
    forks from. Everything here can be sent to another process.
    """

    recipe: Recipe
    data: Path
    base: Path
    module: Path
    folder: Path
    compression: CompressionConfig | None
    seed: int
    threads: int = 1
    validate: bool = False
    progress: bool = False

    @property
    def forks(self) -> bool:
        """Whether it goes on from a snapshot, with the rest of the 32-bit training's schedule."""
        return self.module.suffix == ".ckpt"


def carry_out(job: Job) -> Path:
    """Train the arm (post-training quantization trains nothing), write its file, and return the file's path.

    A finished arm is not done again; an interrupted one resumes at its last epoch. Raises ConfigError when the folder
    holds an arm of other settings.
    """
    torch.set_num_threads(job.threads)  # for what the caller does next, too
    with taking_back(job.folder):
        run = Run.begin(job.folder, _settings(job))
        if run.model.exists():
            keep_decoding(run.model, job.recipe)
            return run.model
        keep_freed_memory()
        base = load_model(job.base / "model.safetensors")
        packed = _begun(job, base, run)
    with_decoding(describe(packed(), base, job), job.recipe).save(run.model)
    return run.model


def _begun(job: Job, base: PackedModel, run: Run) -> Callable[[], PackedModel]:
    """What trains the arm and packs it, once all that can be refused before has been looked at."""
    if job.compression is None and job.forks:
        # The rest of the base's own training, which a fork repeats bit for bit: there is nothing to train twice.
        write_file(run.module, Run(job.base).module.read_bytes())
        return lambda: base
    if job.compression is not None and job.compression.scheme == "ptq":
        packed = _ptq(job, load_module(job.recipe, base, job.module), run)
        return lambda: packed
    module = new_module(job.recipe, base) if job.forks else load_module(job.recipe, base, job.module)
    return _training(job, module, base, run)


def new_module(recipe: Recipe, base: PackedModel) -> TaskModule:
    """A module like the base's, for the phase that the recipe's arms train."""
    return task_of(recipe).module(shipped(base), compressing=True)


def load_module(recipe: Recipe, base: PackedModel, weights: Path) -> TaskModule:
    """The trained module that an arm starts from, auxiliary heads included."""
    module = new_module(recipe, base)
    load_weights(module, weights)
    return module


def load_weights(module: TaskModule, weights: Path) -> None:
    """Put what ``save_module`` wrote into a module of the same recipe. Raises ConfigError for anything else."""
    try:
        module.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        found = " ".join(str(error).split())
        raise ConfigError(f"{weights}: expected trained weights of this recipe's network ({found[:200]})") from error


def plan_for(settings: CompressionConfig, model: torch.nn.Module) -> BitPlan:
    """The plan that a recipe's compression section holds or describes. Raises PlanError where the model lacks it."""
    if settings.plan is not None:
        plan = BitPlan.from_json(json.dumps(settings.plan), "compression.plan")
        plan.resolve(model)
        return plan
    kind = settings.kind or _KINDS.get(settings.scheme)
    return BitPlan.uniform(model, settings.bits, kind=kind, grouping=settings.grouping, zero=settings.zero)


def scheme_for(settings: CompressionConfig) -> Scheme:
    """The scheme that a recipe's compression section describes. Raises ConfigError for an option it does not have."""
    try:
        return _SCHEMES[settings.scheme](**settings.options)
    except TypeError as error:
        raise ConfigError(f"compression.options: {settings.scheme}: {str(error).split('() ')[-1]}") from error


def describe(packed: PackedModel, base: PackedModel, job: Job) -> PackedModel:
    """The packed model with what it needs to run, taken from the base, and how it came about."""
    made: dict[str, Any] = {"seed": job.seed, "recipe": job.recipe.name, "recipe_hash": job.recipe.digest()}
    if job.compression:
        bits = job.compression.bits if job.compression.plan is None else round(packed.average_bits, 3)
        made |= {"scheme": job.compression.scheme, "bits": bits}
        made |= {} if job.compression.plan is None else {"planned": True}
    return shipped(base).onto(packed, made)


def _ptq(job: Job, module: TaskModule, run: Run) -> PackedModel:
    settings = job.compression or job.recipe.compression
    plan = plan_for(settings, module.model)
    plan.save(run.plan)
    write_weights(run.folder, before=histograms(planned_weights(plan.resolve(module.model))))
    session = compress(module.model, plan, PTQ())
    return session.finish(float_dtype=settings.float_dtype)


def _training(job: Job, module: TaskModule, base: PackedModel, run: Run) -> Callable[[], PackedModel]:
    data = task_of(job.recipe).data(job.data, shipped(base), job.seed)
    callback = None
    if job.compression:
        plan = plan_for(job.compression, module.model)
        plan.save(run.plan)
        if job.compression.distillation is not None:
            teacher = load_module(job.recipe, base, Run(job.base).module)
            module.learn_from(teacher.model, job.compression.distillation)
        first = steps_taken(job.module) if job.forks else 0
        callback = CompressionCallback(plan, scheme_for(job.compression), submodule="model", first_step=first)
    return partial(_trained, job, module, data, callback)


def _trained(job: Job, module: TaskModule, data: PhaseData, callback: CompressionCallback | None) -> PackedModel:
    fit(
        module,
        data,
        module.phase,
        job.recipe.training.model_copy(update={"averaging": None, "patience": None}),
        job.folder,
        seed=job.seed,
        validate=job.validate,
        progress=job.progress,
        callbacks=[callback, LevelsFile(job.folder, callback)] if callback else [],
        start=job.module if job.forks else None,
    )
    if callback and job.compression:
        events = "".join(json.dumps(event) + "\n" for event in callback.session.events)
        write_file(job.folder / "events.jsonl", events)
        return callback.session.finish(float_dtype=job.compression.float_dtype)
    save_module(module, job.folder)
    return pack_float(module.model)


def save_module(module: TaskModule, folder: Path) -> Path:
    """The module's weights, heads included, beside the run's file; what an arm starts from."""
    path = folder / "module.safetensors"
    write_file(path, save({k: v.detach().cpu().clone() for k, v in module.state_dict().items()}))
    return path


def resolved(settings: CompressionConfig | None) -> dict[str, Any]:
    """The scheme with all its options, and the levels, as they are now: defaults may change, and decide the outcome."""
    if settings is None:
        return {"scheme": None, "levels": None}
    kind = settings.kind or _KINDS.get(settings.scheme)
    levels = {"bits": settings.bits, "kind": kind, "grouping": settings.grouping, "zero": settings.zero}
    if settings.plan is not None:
        levels = {"plan": settings.plan}
    return {"scheme": repr(scheme_for(settings)), "levels": levels}


def _settings(job: Job) -> dict[str, Any]:
    """What decides the arm's outcome, but for the rounding of sums over another number of threads."""
    return {
        "recipe": job.recipe.model_dump(mode="json"),
        "data": str(job.data.resolve()),
        "data_hash": task_of(job.recipe).fingerprint(job.data),
        "base": trained_hash(job.base / "model.safetensors"),
        "module": file_hash(job.module),
        "compression": job.compression.model_dump(mode="json") if job.compression else None,
        **resolved(job.compression),
        "seed": job.seed,
    }
