"""What a task, recognition or language modelling, is to a run: its data, its module, and what its file needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sottovoce.packed import PackedModel, load_model
from sottovoce.training.config import LmRecipe, Recipe
from sottovoce.training.run import Run
from sottovoce.training.task_module import PhaseData, TaskModule


@dataclass(frozen=True)
class Shipped:
    """What a packed file holds beside its tensors."""

    architecture: Mapping[str, Any]
    input: Mapping[str, Any]
    tokenizer: bytes

    def onto(self, packed: PackedModel, provenance: Mapping[str, Any]) -> PackedModel:
        """The packed tensors with all that it takes to run them."""
        return replace(
            packed,
            architecture=self.architecture,
            input=self.input,
            tokenizer=self.tokenizer,
            provenance=provenance,
        )


def shipped(packed: PackedModel) -> Shipped:
    """What a file holds beside its tensors."""
    return Shipped(packed.architecture, packed.input, packed.tokenizer or b"")


def with_decoding(packed: PackedModel, recipe: Recipe) -> PackedModel:
    """The file as the recipe decodes it: with its blank penalty."""
    if isinstance(recipe, LmRecipe):
        return packed
    penalty = recipe.decoding.blank_penalty
    if packed.architecture.get("blank_penalty", 0.0) == penalty:
        return packed
    architecture = {key: value for key, value in packed.architecture.items() if key != "blank_penalty"}
    return replace(packed, architecture=architecture | ({"blank_penalty": penalty} if penalty else {}))


def keep_decoding(model: Path, recipe: Recipe) -> None:
    """Write the recipe's blank penalty into a file that has another: it is chosen once the network is trained.

    What began from the file goes on (``trained_hash``); the provenance is still that of the training.
    """
    packed = load_model(model)
    decoded = with_decoding(packed, recipe)
    if decoded is not packed:
        decoded.save(model)


class Task(Protocol):
    """One recipe's task. All raise DataError for data that cannot be used."""

    def fingerprint(self, data: Path) -> str:
        """Hash of the data's content, so that nothing is continued on other data."""

    def describe(self, data: Path, run: Run) -> Shipped:
        """What the file of a new run will hold: the tokenizer, made the first time and kept in the run's folder, and
        the sizes that follow from it."""

    def module(self, described: Shipped, *, compressing: bool) -> TaskModule:
        """A new module, for the training phase, or for that of compression."""

    def prepare(self, module: TaskModule, data: PhaseData) -> None:
        """Put into a new module what comes from the training data and is not trained."""

    def data(self, folder: Path, described: Shipped, seed: int) -> PhaseData:
        """Training and dev batches."""


def task_of(recipe: Recipe) -> Task:
    """The recipe's task."""
    # Each task imports libraries that the other does not need.
    if isinstance(recipe, LmRecipe):
        from sottovoce.training.lm_task import LmTask

        return LmTask(recipe)
    from sottovoce.training.rnnt_task import RnntTask

    return RnntTask(recipe)
