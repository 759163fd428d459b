"""A trained run as a search takes it: its module, some of its data, and what its file will hold beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sottovoce.errors import ConfigError
from sottovoce.packed import load_model
from sottovoce.search import Searchable
from sottovoce.training.arms import load_module
from sottovoce.training.run import Run
from sottovoce.training.task import shipped, task_of


@dataclass(frozen=True)
class SearchInputs:
    """What ``search`` works on: a module, batches for its functions, and what the packed file holds beside weights."""

    module: Searchable
    batches: Sequence[Any]
    fields: dict[str, Any]
    tokenizer_bytes: int | None


def search_inputs(run_folder: Path, *, data: Path | None = None, utterances: int = 32, seed: int = 0) -> SearchInputs:
    """The trained module of a run with ``utterances`` (or sentences) of its training data, not augmented.

    Raises ConfigError for a folder that is no finished run, DataError for data that cannot be used.
    """
    run, recipe, folder = Run.open(run_folder)
    for needed in (run.model, run.module):
        if not needed.is_file():
            raise ConfigError(f"{needed}: missing; finish the run with 'sottovoce train' first")
    base = load_model(run.model)
    module = load_module(recipe, base, run.module)
    batches = task_of(recipe).data(data or folder, shipped(base), seed).sample("train", utterances, seed)
    provenance = {**base.provenance, "scheme": "straight_through", "bits": 1.234, "planned": True}  # as an arm's
    fields = {"architecture": dict(base.architecture), "input": dict(base.input), "provenance": provenance}
    return SearchInputs(
        cast(Searchable, module), batches, fields, None if base.tokenizer is None else len(base.tokenizer)
    )
