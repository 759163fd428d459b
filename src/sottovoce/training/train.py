"""From a recipe and its data to a trained float32 run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sottovoce.schemes import pack_float
from sottovoce.training.allocator import keep_freed_memory
from sottovoce.training.arms import load_weights, save_module
from sottovoce.training.config import Recipe
from sottovoce.training.phases import Fork, fit
from sottovoce.training.run import Run, file_hash, taking_back, write_file
from sottovoce.training.task import keep_decoding, task_of, with_decoding


def train(
    recipe: Recipe,
    data_folder: Path,
    out: Path,
    *,
    start: Run | None = None,
    devices: int = 1,
    threads: int | None = None,
    progress: bool = True,
) -> Run:
    """Train a recipe's network on its data. The run folder ends with ``model.safetensors`` in float32.

    A finished run is returned as it is, but for the blank penalty that its file is told; an interrupted one resumes at
    its last epoch. ``start``: a trained run whose weights, tokenizer and normalization of features this one begins
    with. Raises ConfigError when the folder holds a run of other settings, or ``start`` another network, DataError when
    the data cannot be used.
    """
    task = task_of(recipe)
    settings: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "data": str(data_folder.resolve())}
    settings |= {} if start is None else {"start": file_hash(start.module)}
    settings |= {} if devices == 1 else {"devices": devices}  # of which the number of steps depends
    with taking_back(out):
        run = Run.begin(out, {**settings, "data_hash": task.fingerprint(data_folder)})
        if run.model.exists():
            keep_decoding(run.model, recipe)
            return run
        if start is not None:
            write_file(run.tokenizer, start.tokenizer.read_bytes())
        if threads is not None:
            torch.set_num_threads(threads)
        keep_freed_memory()
        torch.manual_seed(recipe.seed)
        described = task.describe(data_folder, run)
        data = task.data(data_folder, described, recipe.seed)
        module = task.module(described, compressing=False)
        if start is None:
            task.prepare(module, data)
        else:
            load_weights(module, start.module)
    fork = None if recipe.fork_epoch is None else Fork(recipe.fork_epoch, run.fork)
    trainer = fit(
        module, data, recipe.phase, recipe.training, out,
        seed=recipe.seed, devices=devices, progress=progress, fork=fork,
    )  # fmt: skip
    if not trainer.is_global_zero:
        return run
    save_module(module, out)
    made = {"seed": recipe.seed, "recipe": recipe.name, "recipe_hash": recipe.digest()}
    with_decoding(described.onto(pack_float(module.model), made), recipe).save(run.model)
    return run
