"""Sensitivities and choices for people: tables for a terminal, a picture for a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sottovoce.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.search.table import Choice, SensitivityTable


def sensitivities(table: SensitivityTable) -> Table:
    """One row a cluster: its weights, and its sensitivity at each width."""
    drawn = Table(title=f"sensitivity by {table.metric}")
    drawn.add_column("cluster")
    drawn.add_column("weights", justify="right")
    for bits in table.bits:
        drawn.add_column(f"{bits} bit" + "s" * (bits > 1), justify="right")
    for cluster, count, row in zip(table.clusters, table.weights, table.omega, strict=True):
        drawn.add_row(Text(cluster.name), f"{count:,}", *(f"{value:.3g}" for value in row))
    return drawn


def bits_of_layers(table: SensitivityTable, choice: Choice) -> Table:
    """One row a cluster: its weights, its bits, its bytes and what it costs."""
    drawn = Table(title=f"{choice.average_bits:.2f} bits on average, {choice.model_bytes:,} bytes at most")
    for name in ("cluster", "weights", "bits", "bytes", "sensitivity"):
        drawn.add_column(name, justify="left" if name == "cluster" else "right")
    for i, (cluster, bits) in enumerate(zip(table.clusters, choice.bits, strict=True)):
        at = table.bits.index(bits)
        size, omega = int(table.bytes[i, at]), float(table.omega[i, at])
        drawn.add_row(Text(cluster.name), f"{int(table.weights[i]):,}", str(bits), f"{size:,}", f"{omega:.3g}")
    return drawn


def check_picture(path: Path) -> None:
    """Raises ConfigError without matplotlib, and for a name whose ending is of no kind of picture that it writes."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError as error:
        raise ConfigError("a picture needs matplotlib; install it with: pip install matplotlib") from error
    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise ConfigError(f"{path}: expected a picture's ending ({', '.join(sorted(kinds))}), found {path.suffix!r}")


def plot(table: SensitivityTable, path: Path) -> None:
    """Sensitivity of each cluster at each width, and the front. Raises ConfigError as ``check_picture`` does, and where
    the picture cannot be written."""
    check_picture(path)
    from matplotlib.figure import Figure

    count = len(table.clusters)
    figure = Figure(figsize=(12, max(3.0, 0.25 * count + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, bits in enumerate(table.bits):
        left.plot(table.omega[:, i], range(count), "o", label=f"{bits} bits")
    left.set_xscale("symlog", linthresh=max(float(table.omega.max()) * 1e-6, 1e-12))
    left.set_yticks(range(count), [cluster.name for cluster in table.clusters])
    left.invert_yaxis()
    left.set_xlabel(f"sensitivity ({table.metric})")
    left.legend()
    front = table.pareto()
    right.plot([c.model_bytes / 1e6 for c in front], [c.omega for c in front], ".-")
    right.set_yscale("symlog", linthresh=max(front[0].omega * 1e-6, 1e-12))
    right.set_xlabel("model bytes, millions")
    right.set_ylabel("summed sensitivity")
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"{path}: the picture cannot be written ({error})") from error
