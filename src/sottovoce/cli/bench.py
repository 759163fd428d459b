"""``sottovoce bench``: how fast a model file runs here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sottovoce.cli.device import device_report, show_device
from sottovoce.cli.inputs import model_file
from sottovoce.cli.outputs import check_file
from sottovoce.errors import ConfigError
from sottovoce.evaluation.bench import Bench, Latency, PathSpeed, bench_paths
from sottovoce.evaluation.bench import bench as measure
from sottovoce.packed.replacing import replacing

if TYPE_CHECKING:
    from sottovoce.peers import PeerSpeed


def bench(
    model: Annotated[Path, typer.Argument(help="A model file, or a run folder.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads that share each product.")] = 1,
    frames: Annotated[int, typer.Option(min=1, help="Encoder frames to time.")] = 500,
    kernels: Annotated[bool, typer.Option("--kernels", help="Also time every kernel path, taking turns.")] = False,
    device: Annotated[
        str | None,
        typer.Option(help="Compute latency and energy on this accelerator instead: a shipped name, or a YAML file."),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="PEERS",
            help="Also time the same network in these, taking turns: torch-int8,onnxruntime-int8,onnxruntime-fp32.",
        ),
    ] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Stream noise through a model, frame by frame, and show latency, real-time factor, loading, memory, bandwidth.

    Examples:

        sottovoce bench model.safetensors

        sottovoce bench model.safetensors --kernels --threads 2 --json bench.json

        sottovoce bench runs/fsdd-5bit --against torch-int8,onnxruntime-int8

        sottovoce bench model.safetensors --device ethos-u55-256
    """
    check_file(json_file)
    model = model_file(model)
    if device is not None:
        if kernels or against:
            raise ConfigError("--device computes, and times nothing: it does not go with --kernels or --against")
        report = device_report(model, device)
        show_device(report, Console())
        if json_file is not None:
            write_figures(json_file, report.to_dict())
        return
    peers = [name.strip() for name in against.split(",")] if against else []
    if peers:
        from sottovoce.peers import check_peers

        check_peers(peers)
    found = measure(model, num_threads=threads, frames=frames)
    paths = bench_paths(model, num_threads=threads, frames=min(frames, 200)) if kernels else []
    beside = _bench_against(model, peers, threads, frames) if peers else []
    console = Console()
    console.print(_table(found))
    if paths:
        console.print(_paths_table(paths))
    if beside:
        console.print(_peers_table(beside))
    if json_file is not None:
        write_figures(json_file, _figures(found, paths, beside))


def _bench_against(model: Path, peers: list[str], threads: int, frames: int) -> list[PeerSpeed]:
    from sottovoce.peers import bench_against

    return bench_against(model, peers, num_threads=threads, frames=frames)


def _figures(found: Bench, paths: list[PathSpeed], beside: list[PeerSpeed]) -> dict[str, Any]:
    figures: dict[str, Any] = dataclasses.asdict(found)
    if paths:
        figures["kernels"] = [dataclasses.asdict(speed) for speed in paths]
    if beside:
        figures["against"] = [dataclasses.asdict(speed) for speed in beside]
    return figures


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write what was measured as JSON. Raises ConfigError where it cannot be."""
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


def _peers_table(beside: list[PeerSpeed]) -> Table:
    """Times of a step, ours over theirs, and what theirs is."""
    table = Table("in turns", "P50 ms", "P90 ms", "ours / theirs", "", box=None, pad_edge=False)
    for speed in beside:
        theirs = "" if speed.signal_to_noise_db is None else f"{speed.ratio:.2f}"
        table.add_row(speed.name, f"{speed.p50_ms:.3f}", f"{speed.p90_ms:.3f}", theirs, speed.description)
    return table
