"""``sottovoce import``: weights from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sottovoce.cli.outputs import check_kept
from sottovoce.errors import ConfigError
from sottovoce.importing import (
    import_model,
    import_onnx_set,
    is_onnx_set,
    left_in_graphs,
    make_run,
    read_mapping,
    read_tensors,
    unread,
)
from sottovoce.packed import PackedModel
from sottovoce.runtime import ModelInput
from sottovoce.training.config import load_recipe
from sottovoce.training.run import make_folder


def import_weights(
    source: Annotated[Path, typer.Argument(help="A safetensors, PyTorch or ONNX file, or a folder of ONNX files.")],
    out: Annotated[Path, typer.Option(help="The packed float32 file; with --recipe, a run folder.")],
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="YAML: the network, and where each tensor comes from. A folder of sherpa-onnx's files needs none."
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe, to train the model further while it is compressed.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --recipe: prepared data.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With --recipe, an override: section.key=value; repeatable.")
    ] = None,
) -> None:
    """Take over a trained model's weights: a packed float32 file, which `compress --scheme ptq` rounds at once; or with
    a recipe and data a run, which any scheme trains further. Without a mapping a folder of a transducer's ONNX files
    (encoder, decoder, joiner, tokens.txt) keeps its graphs, to be written back by `export --format sherpa-onnx`.
    Nothing in a file is executed.

    Examples:

        sottovoce import theirs.safetensors --mapping theirs.yaml --out model.safetensors

        sottovoce import sherpa-onnx-lstm-en-2023-02-17 --out model.safetensors

        sottovoce import theirs.pt --mapping theirs.yaml --recipe fsdd --data data/fsdd --out runs/theirs
    """
    if (recipe is None) != (data is None):
        raise ConfigError("--recipe and --data go together: a run is trained further on data")
    if settings and recipe is None:
        raise ConfigError("--set is for the recipe of a run: expected --recipe and --data beside it")
    check_kept([out], [source, *([mapping] if mapping else [])])
    if recipe is None and (out.parent / "config.yaml").exists():
        raise ConfigError(f"{out}: expected a path outside of a run, whose model this would take the place of")
    model, notes = _read(source, mapping, recipe)
    if recipe is not None and data is not None:
        out = make_run(model, load_recipe(recipe, settings), data, out).model
    else:
        _save(model, out)
    tensors = f"{len(model.tensors)} tensors, {model.parameters:,} parameters"
    console = Console(highlight=False, soft_wrap=True)
    for line in (f"{out}: {tensors}", *notes):
        console.print(line, markup=False)


def _read(source: Path, mapping: Path | None, recipe: Path | None) -> tuple[PackedModel, list[str]]:
    """The model, and what of the source is not in its weights."""
    if mapping is not None:
        tensors, rules = read_tensors(source), read_mapping(mapping)
        model = import_model(tensors, rules, mapping.parent)
        taken = [] if rules.input else [f"  input: left out, so {_shown(model.input)}; was it trained on that?"]
        return model, taken + _listed("not in the mapping", unread(tensors, rules))
    if not is_onnx_set(source):
        raise ConfigError(
            f"{source}: expected --mapping, or a folder with encoder*.onnx, decoder*.onnx, joiner*.onnx and tokens.txt"
        )
    if recipe is not None:
        raise ConfigError("--recipe: graphs of ONNX are not trained further; only their weights are rounded")
    model = import_onnx_set(source)
    return model, _listed("left in the graphs, uncompressed", left_in_graphs(model))


def _shown(given: Mapping[str, Any]) -> str:
    """What goes into a model, defaults among it."""
    settings = None if given["kind"] == "tokens" else ModelInput.from_dict(given).settings
    values = given if settings is None else {"kind": given["kind"], **asdict(settings)}
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _listed(what: str, names: list[str]) -> list[str]:
    return [f"  {what}: {name}" for name in names]


def _save(model: PackedModel, out: Path) -> None:
    make_folder(out.absolute().parent)
    model.save(out)
