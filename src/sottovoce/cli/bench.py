"""``sottovoce bench``: how fast a model file runs here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sottovoce.cli.device import device_report, show_device
from sottovoce.errors import ConfigError
from sottovoce.evaluation.bench import Bench, Latency, PathSpeed, bench_paths
from sottovoce.evaluation.bench import bench as measure
from sottovoce.packed.replacing import replacing


def bench(
    model: Annotated[Path, typer.Argument(help="A packed model file.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads that share each product.")] = 1,
    frames: Annotated[int, typer.Option(min=1, help="Encoder frames to time.")] = 500,
    kernels: Annotated[bool, typer.Option("--kernels", help="Also time every kernel path, taking turns.")] = False,
    device: Annotated[
        str | None,
        typer.Option(help="Compute latency and energy on this accelerator instead: a shipped name, or a YAML file."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Stream noise through a model, frame by frame, and show latency, real-time factor, loading, memory, bandwidth.

    Examples:

        sottovoce bench model.safetensors

        sottovoce bench model.safetensors --kernels --threads 2 --json bench.json

        sottovoce bench model.safetensors --device ethos-u55-256
    """
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise ConfigError(f"{json_file}: cannot be written: there is no such folder")
    if device is not None:
        if kernels:
            raise ConfigError("--device computes, and times no kernels: it does not go with --kernels")
        report = device_report(model, device)
        show_device(report, Console())
        if json_file is not None:
            _write(json_file, report.to_dict())
        return
    found = measure(model, num_threads=threads, frames=frames)
    paths = bench_paths(model, num_threads=threads, frames=min(frames, 200)) if kernels else []
    console = Console()
    console.print(_table(found))
    if paths:
        console.print(_paths_table(paths))
    if json_file is not None:
        figures: dict[str, Any] = dataclasses.asdict(found)
        if paths:
            figures["kernels"] = [dataclasses.asdict(speed) for speed in paths]
        _write(json_file, figures)


def _write(path: Path, figures: dict[str, Any]) -> None:
    try:
        with replacing(path) as stream:
            stream.write((json.dumps(figures, indent=2) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _table(b: Bench) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    rows = [
        ("model", f"{b.model}: {b.parameters:,} parameters, {b.file_bytes:,} bytes"),
        ("kernel", f"{b.kernel} ({b.why}), {b.num_threads} thread{'s' if b.num_threads > 1 else ''}"),
        ("frame", f"{_percentiles(b.latency_ms)}, for {1e3 * b.frame_seconds:g} ms of sound ({b.frames} frames)"),
        ("real-time factor", f"{b.real_time_factor:.4f}"),
        ("first token", f"{b.cold.first_frame_ms:.0f} ms at the earliest, from opening the file"),
        ("load", f"{b.cold.load_ms:.0f} ms, after {b.cold.import_ms:.0f} ms of imports"),
        ("peak memory", f"{b.cold.peak_bytes / 1e6:.1f} MB above a bare interpreter with NumPy"),
    ]
    if b.streamed_bytes is not None and b.bandwidth is not None and b.share is not None:
        speed = f"{100 * b.share:.0f} % of the measured {b.bandwidth / 1e9:.1f} GB/s"
        rows.append(("weights a frame", f"{b.streamed_bytes:,} bytes, {speed}"))
    for name, text in rows:
        table.add_row(name, text)
    return table


def _percentiles(latency: Latency) -> str:
    return f"P50 {latency.p50:.3f}, P90 {latency.p90:.3f}, P99 {latency.p99:.3f} ms"


def _paths_table(paths: list[PathSpeed]) -> Table:
    table = Table("path", "", box=None, pad_edge=False)
    for path in paths:
        text = "not on this machine" if path.latency_ms is None else _percentiles(path.latency_ms)
        table.add_row(path.name, text + (" (used)" if path.used else ""))
    return table
