"""``sottovoce inspect``: what a packed model is made of, matrix by matrix."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from safetensors import SafetensorError, safe_open

from sottovoce.cli.inputs import model_file
from sottovoce.cli.tensor_table import TensorRow, tensor_lines
from sottovoce.errors import FormatError
from sottovoce.packed import FileSizes, PackedMatrix, PackedModel, file_sizes, load_model


def inspect(
    model: Annotated[Path, typer.Argument(help="A model file, or a run folder.")],
    reference: Annotated[
        Path | None, typer.Option(help="The fp32 model, its run, or plain safetensors: adds the SNR of each matrix.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Show every tensor of a packed model: shape, bits, kind, grouping, bytes, share of the total; then the totals.

    Examples:

        sottovoce inspect runs/fsdd-5bit --reference runs/fsdd

        sottovoce inspect model.safetensors --reference fp32.safetensors --json
    """
    file = model_file(model)
    packed, sizes = load_model(file), file_sizes(file)
    rows = tensor_rows(packed, read_reference(model_file(reference)) if reference else None)
    if as_json:
        typer.echo(json.dumps(_report(packed, sizes, rows), ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    # Through a pipe lines are as long as they come, unless COLUMNS says otherwise.
    width = console.width if console.is_terminal or "COLUMNS" in os.environ else None
    title, *lines = tensor_lines(rows, width, with_snr=reference is not None)
    console.print(title, style="bold")
    console.print("\n".join(lines))
    console.print(_totals(packed, sizes))


def tensor_rows(model: PackedModel, reference: dict[str, NDArray[np.float32]] | None = None) -> list[TensorRow]:
    """One row a tensor, in the model's order. Raises FormatError for a reference that has none of the packed matrices,
    or one of another shape."""
    matrices = [name for name, tensor in model.tensors.items() if isinstance(tensor, PackedMatrix)]
    if reference is not None and matrices and reference.keys().isdisjoint(matrices):
        raise FormatError(f"the reference: expected float weights of this model, as {matrices[0]}, found others")
    total = max(1, model.nbytes)
    return [_row(name, tensor, total, _snr(name, tensor, reference)) for name, tensor in model.tensors.items()]


def _row(name: str, tensor: PackedMatrix | NDArray[Any], total: int, snr: float | None) -> TensorRow:
    shape, share = tuple(tensor.shape), 100 * tensor.nbytes / total
    if not isinstance(tensor, PackedMatrix):
        return TensorRow(name, shape, (8 * tensor.itemsize,), str(tensor.dtype), "", tensor.nbytes, share, snr)
    bits = tuple(band.bits for band in tensor.bands)
    kind = "+".join(dict.fromkeys(band.kind for band in tensor.bands))
    grouping = "+".join(dict.fromkeys(str(band.grouping) for band in tensor.bands))
    return TensorRow(name, shape, bits, kind, grouping, tensor.nbytes, share, snr)


def _snr(
    name: str, tensor: PackedMatrix | NDArray[Any], reference: dict[str, NDArray[np.float32]] | None
) -> float | None:
    if reference is None or name not in reference or not isinstance(tensor, PackedMatrix):
        return None
    if reference[name].shape != tensor.shape:
        raise FormatError(f"{name}: expected shape {tensor.shape} in the reference, found {reference[name].shape}")
    return snr_db(reference[name], tensor.decode())


def snr_db(reference: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    """10 log10(sum w^2 / sum (w - v)^2) in dB, infinite where v equals w."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference.astype(np.float64) - weights).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def read_reference(path: Path) -> dict[str, NDArray[np.float32]]:
    """Float tensors of a packed file or of any safetensors file that NumPy can hold.

    Raises FormatError naming the file if it cannot be read.
    """
    try:
        with safe_open(path, framework="np") as file:
            packed = "sottovoce" in (file.metadata() or {})
            plain = {} if packed else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: expected a safetensors file of floats, found: {error}") from error
    if packed:
        model = load_model(path)
        return {name: model.decode(name) for name in model.tensors}
    return {name: array.astype(np.float32) for name, array in plain.items() if array.dtype.kind == "f"}


def _report(model: PackedModel, sizes: FileSizes, rows: list[TensorRow]) -> dict[str, Any]:
    tensors = [dataclasses.asdict(row) for row in rows]
    for tensor in tensors:
        if tensor["snr_db"] is not None and not np.isfinite(tensor["snr_db"]):
            tensor["snr_db"] = str(tensor["snr_db"])  # JSON has no infinity
    return {
        "architecture": dict(model.architecture),
        "input": dict(model.input),
        "tensors": tensors,
        "parameters": model.parameters,
        **dataclasses.asdict(sizes),
        "ratio": sizes.fp32_bytes / sizes.model_bytes,
    }


def _totals(model: PackedModel, sizes: FileSizes) -> str:
    return (
        f"{model.parameters:,} parameters. File {sizes.file_bytes:,} bytes, model {sizes.model_bytes:,} bytes "
        f"(without the tokenizer), fp32 {sizes.fp32_bytes:,} bytes: "
        f"{sizes.fp32_bytes / sizes.model_bytes:.2f} x smaller."
    )
