"""``sottovoce export``: a packed model for another runtime."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sottovoce.cli.inputs import model_file
from sottovoce.errors import ConfigError, did_you_mean
from sottovoce.export import FORMS, PREDICTORS, Exported, SherpaExported, export_onnx, export_onnx_set, export_sherpa
from sottovoce.export.onnx_set import RATE as SET_RATE
from sottovoce.export.sherpa import CHUNK, WINDOW
from sottovoce.export.transcripts import at_rate, resample_to
from sottovoce.frontend.audio import read_audio
from sottovoce.packed import PackedModel, load_model
from sottovoce.packed.onnx_set import OnnxSetArchitecture
from sottovoce.runtime import ModelInput
from sottovoce.runtime.arithmetic import Floats

FORMATS = ("onnx", "sherpa-onnx")


def export(
    model: Annotated[Path, typer.Argument(help="A model file, or a run folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = FORMATS[0],
    weights: Annotated[
        str,
        typer.Option(
            help="codes: as small as the model file, floats in memory. int8: 8-bit weights and arithmetic. "
            "int4: blocks of 4 bits, rounded anew. float: 32 bits."
        ),
    ] = FORMS[0],
    predictor: Annotated[
        str, typer.Option(help=f"sherpa-onnx: {' or '.join(PREDICTORS)} (its NeMo type; features.style nemo).")
    ] = PREDICTORS[0],
    window: Annotated[int, typer.Option(help="sherpa-onnx: tokens that a windowed predictor sees.")] = WINDOW,
    chunk: Annotated[
        int | None,
        typer.Option(
            help="sherpa-onnx: feature frames (10 ms) of one encoder call; by default the most of the model's "
            f"subsampling in {CHUNK}."
        ),
    ] = None,
    audio: Annotated[
        list[Path] | None, typer.Option(help="sherpa-onnx: a recording to compare transcripts on; repeatable.")
    ] = None,
    check: Annotated[bool, typer.Option(help="sherpa-onnx: run it on the files before they are kept.")] = True,
) -> None:
    """Write a model for ONNX Runtime, or for stock sherpa-onnx. What is written was run and compared with our own
    runtime in float activations.

    Examples:

        sottovoce export runs/fsdd-4bit --out onnx

        sottovoce export runs/fsdd-4bit --format sherpa-onnx --weights int8 --out sherpa --audio digits.wav
    """
    if form not in FORMATS:
        raise ConfigError(f"--format: expected {' or '.join(FORMATS)}, found {form!r}{did_you_mean(form, FORMATS)}")
    packed = load_model(model_file(model))
    imported = packed.architecture.get("type") == OnnxSetArchitecture.TYPE
    given = {
        "--predictor": predictor != PREDICTORS[0],
        "--window": window != WINDOW,
        "--chunk": chunk is not None,
        "--audio": bool(audio),
        "--no-check": not check,
    }
    _check_used([name for name, used in given.items() if used], form, imported)
    console = Console(highlight=False, soft_wrap=True)
    if form == "onnx":
        exported: Exported | SherpaExported = export_onnx(packed, out, weights=weights)  # type: ignore[arg-type]
    elif imported:
        sounds = [resample_to(*read_audio(path), SET_RATE) for path in audio or []]
        exported = export_onnx_set(packed, out, weights=weights, sounds=sounds, check=check)  # type: ignore[arg-type]
    else:
        exported = export_sherpa(
            packed,
            out,
            weights=weights,  # type: ignore[arg-type]
            predictor=predictor,  # type: ignore[arg-type]
            chunk=chunk,
            window=window,
            sounds=_sounds(packed, audio or []),
            check=check,
        )
    for line in _lines(exported):
        console.print(line, markup=False)


def _check_used(given: list[str], form: str, imported: bool) -> None:
    """Raises ConfigError for an option that would change nothing."""
    if form == "onnx" and imported:
        raise ConfigError("--format: graphs that were imported are written back with --format sherpa-onnx")
    unused = [name for name in given if form == "onnx" or (imported and name not in ("--audio", "--no-check"))]
    if unused:
        what = "an imported set of graphs" if imported else f"--format {form}"
        raise ConfigError(f"{unused[0]}: it changes nothing in {what}; leave it out")


def _sounds(model: PackedModel, paths: list[Path]) -> list[Floats]:
    """Recordings at the model's rate."""
    settings = ModelInput.from_dict(model.input).settings if paths else None
    return [] if settings is None else [at_rate(*read_audio(path), settings) for path in paths]


def _lines(exported: Exported | SherpaExported) -> list[str]:
    """What was written and how it was checked."""
    exact = math.isinf(exported.weight_noise_db)
    weights = "weights exact" if exact else f"weights rounded, {exported.weight_noise_db:.1f} dB over the error"
    lines = [f"{exported.folder}: {sum(exported.files.values()):,} bytes; {weights}"]
    lines += [f"  {name}: {size:,} bytes" for name, size in exported.files.items()]
    lines += [
        f"  {one.graph}: {one.signal_to_noise_db:.0f} dB over its error, at most {one.largest:.2g}, beside our runtime"
        for one in exported.closeness
    ]
    return lines + (_sherpa_lines(exported) if isinstance(exported, SherpaExported) else [])


def _sherpa_lines(exported: SherpaExported) -> list[str]:
    told = exported.transcripts
    if told is None:
        lines = ["  sherpa-onnx was not run"]
    else:
        same = f"{told.signals - told.differing} of {told.signals} signals ({told.tokens} tokens) as {exported.peer}"
        lines = [f"  sherpa-onnx {told.version}: {same}"]
        if told.tokens == 0:
            lines.append("  note: no sound gave a token, so none was compared; give --audio with speech in it")
    if exported.arguments:
        lines.append(f"  OnlineRecognizer.from_transducer needs {_arguments(exported.arguments)}")
    return lines + [f"  note: {note}" for note in exported.notes]


def _arguments(values: Any) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
