"""A trained run as a search takes it: its module, some of its data, and what its file will hold beside the weights."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sottovoce.errors import ConfigError
from sottovoce.packed import PackedMatrix, PackedModel, load_model
from sottovoce.search import Searchable
from sottovoce.training.arms import load_module
from sottovoce.training.config import Recipe
from sottovoce.training.run import Run, file_hash
from sottovoce.training.task import shipped, task_of
from sottovoce.training.task_module import TaskModule


@dataclass(frozen=True)
class SearchInputs:
    """What ``search`` works on: a module, batches for its functions, and what the packed file holds beside weights."""

    module: Searchable
    batches: Sequence[Any]
    fields: dict[str, Any]
    tokenizer_bytes: int | None


@dataclass(frozen=True)
class Trained:
    """A finished run: its recipe, what it was trained on, its float32 file and its module."""

    run: Run
    recipe: Recipe
    data: Path
    base: PackedModel
    module: TaskModule

    @property
    def searchable(self) -> Searchable:
        return cast(Searchable, self.module)

    @property
    def fields(self) -> dict[str, Any]:
        """What the packed file of an arm with a plan will hold beside weights and tokenizer."""
        provenance = {**self.base.provenance, "scheme": "straight_through", "bits": 1.234, "planned": True}
        return {"architecture": dict(self.base.architecture), "input": dict(self.base.input), "provenance": provenance}

    @property
    def tokenizer_bytes(self) -> int | None:
        return None if self.base.tokenizer is None else len(self.base.tokenizer)


def open_trained(run_folder: Path) -> Trained:
    """A run that has been trained. Raises ConfigError for a folder that is no finished run."""
    run, recipe, folder = Run.open(run_folder)
    for needed in (run.model, run.module):
        if not needed.is_file():
            raise not_trained(run, needed)
    base = load_model(run.model)
    return Trained(run, recipe, folder, base, load_module(recipe, base, run.module))


def not_trained(run: Run, missing: Path) -> ConfigError:
    """Why a run cannot be begun from: it is compressed already, or not finished."""
    if "compression" in Run.settings(run.folder):
        return ConfigError(f"{run.folder}: expected a run made by 'sottovoce train', found a compressed one")
    return ConfigError(f"{missing}: missing; finish the run with 'sottovoce train' first")


def search_inputs(
    run_folder: Path, *, data: Path | None = None, utterances: int = 32, seed: int = 0, batches: int = 1
) -> SearchInputs:
    """The trained module of a run with ``utterances`` (or sentences) of its training data, not augmented, in so many
    ``batches`` at least.

    Raises ConfigError for a folder that is no finished run, DataError for data that cannot be used.
    """
    trained = open_trained(run_folder)
    loaded = task_of(trained.recipe).data(data or trained.data, shipped(trained.base), seed)
    drawn = loaded.sample("train", utterances, seed, batches)
    return SearchInputs(trained.searchable, drawn, trained.fields, trained.tokenizer_bytes)


def load_prototypes(folders: Mapping[int, Path], run_folder: Path) -> dict[int, dict[str, Tensor]]:
    """The quantized weights of runs that were compressed from ``run_folder``, each of them at one width, by bits and
    name.

    Raises ConfigError naming a folder that holds another model's weights, none yet, or weights of other bits.
    """
    start = Run(run_folder)  # by its weights: its file may be written anew, for another blank penalty
    hashes = {file_hash(path) for path in (start.module, start.fork) if path.is_file()}
    return {bits: _quantized(bits, folder, run_folder, hashes) for bits, folder in sorted(folders.items())}


def _quantized(bits: int, folder: Path, run_folder: Path, hashes: set[str]) -> dict[str, Tensor]:
    run, settings = Run(folder), Run.settings(folder)
    if settings.get("module") not in hashes:
        raise ConfigError(f"{folder}: expected a run that 'sottovoce compress' made from {run_folder}, found another")
    if not run.model.is_file():
        raise ConfigError(f"{run.model}: missing; finish the run with 'sottovoce compress' first")
    packed = load_model(run.model)
    found = {}
    for name, tensor in packed.tensors.items():
        if isinstance(tensor, PackedMatrix):
            others = sorted({band.bits for band in tensor.bands} - {bits})
            if others:
                raise ConfigError(f"{folder}: expected weights at {bits} bits, found {name} at {others[0]}")
            found[name] = torch.from_numpy(packed.decode(name).copy())
    return found


def epoch_seconds(run_folder: Path) -> float | None:
    """What an epoch of the run's training took, the median of all, or None where that is not recorded."""
    try:
        rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
        found = [float(row["seconds"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return statistics.median(found) if found else None
