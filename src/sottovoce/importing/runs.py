"""An imported model as a run, so that it can be trained further while it is compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sottovoce.data.inputs import check_input
from sottovoce.errors import ConfigError
from sottovoce.packed import PackedModel
from sottovoce.runtime import ModelInput
from sottovoce.training.arms import save_module
from sottovoce.training.config import LmRecipe, Recipe, parse_recipe
from sottovoce.training.run import Run, write_file
from sottovoce.training.task import shipped, task_of

_OF_DATA = ("type", "features", "vocabulary")


def make_run(model: PackedModel, recipe: Recipe, data: Path, out: Path) -> Run:
    """A run folder as ``train`` leaves it, with the model's own sizes in the recipe; ``compress`` takes it from there.

    What the recipe trains beside the model (a recognizer's CTC head) begins at random. Raises ConfigError for a recipe
    of another task or a model without a tokenizer, DataError for data that cannot feed the model.
    """
    lm = model.architecture.get("type") != "rnnt"
    if lm != isinstance(recipe, LmRecipe):
        raise ConfigError(
            f"{recipe.name}: expected a recipe for {model.architecture['type']!r}, found task {recipe.task!r}"
        )
    if model.tokenizer is None:
        raise ConfigError("tokenizer: expected one in the mapping, which training on text wants; found none")
    if not lm:
        check_input(data, ModelInput.from_dict(model.input))
    fitted = _fitted(recipe, model)
    task = task_of(fitted)
    settings = {"recipe": fitted.model_dump(mode="json"), "data": str(data.resolve())}
    run = Run.begin(out, {**settings, "data_hash": task.fingerprint(data)})
    torch.manual_seed(fitted.seed)
    module = task.module(shipped(model), compressing=False)
    names = (*model.tensors, *model.aliases)
    module.model.load_state_dict({name: torch.from_numpy(model.decode(name).copy()) for name in names})
    write_file(run.tokenizer, model.tokenizer)
    save_module(module, out)
    model.save(run.model)
    return run


def _fitted(recipe: Recipe, model: PackedModel) -> Recipe:
    """The recipe with the sizes and the features of the model."""
    values: dict[str, Any] = recipe.model_dump(mode="json")
    lm = isinstance(recipe, LmRecipe)
    dropped = _OF_DATA[2:] if lm else _OF_DATA
    values["model"] = {k: v for k, v in model.architecture.items() if k not in (*dropped, "blank_penalty")}
    if not lm:  # the recipe's was tuned on another network
        values["decoding"]["blank_penalty"] = model.architecture.get("blank_penalty", 0.0)
    if not lm and model.input.get("kind") == "waveform":
        values["features"] = {k: v for k, v in model.input.items() if k != "kind"}
    return parse_recipe(values, f"recipe {recipe.name}")
