"""``sottovoce train``: a recipe and its data to a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sottovoce.training.config import load_recipe
from sottovoce.training.run import Run
from sottovoce.training.train import train as train_recipe


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or the name of a recipe that ships with the package.")],
    data: Annotated[
        Path, typer.Option(help="A folder made by 'sottovoce data prepare', or a text corpus as it comes.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run there is resumed.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override: section.key=value; repeatable.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="A trained run whose weights and tokenizer to begin with.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices; more than one trains with DDP.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all cores.")] = None,
) -> None:
    """Train a recipe's network, a streaming RNN-T or a language model, in full precision. The run folder ends with
    `model.safetensors`.

    Examples: `sottovoce train recipes/swda-lstm.yaml --data swda --out runs/lm`,
    `sottovoce train recipes/fsdd.yaml --data fsdd-data --out runs/fsdd --set phase.epochs=12`
    """
    chosen = load_recipe(recipe, settings)
    begun = None if start is None else Run.open(start)[0]
    run = train_recipe(chosen, data, out, start=begun, devices=devices, threads=threads)
    if not run.model.exists():  # a DDP process beside the one that writes
        return
    Console().print(f"trained: {run.model}", highlight=False, soft_wrap=True)
