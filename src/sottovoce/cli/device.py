"""What ``sottovoce bench --device`` shows: a model on a described accelerator, layer by layer, beside 8 bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from sottovoce.errors import FormatError
from sottovoce.evaluation.device import PARTS, Cost, LayerCost, cost_of, layers_of
from sottovoce.evaluation.device_spec import DeviceSpec, load_device
from sottovoce.packed import load_model
from sottovoce.packed.architecture import RnntArchitecture
from sottovoce.runtime import ModelInput

_TITLES = {"encoder": "encoder frame", "predictor": "predictor step", "joiner": "joiner"}


@dataclasses.dataclass(frozen=True)
class DeviceReport:
    """A model on a device, as packed and with a byte for each weight; frame_seconds: sound of an encoder frame."""

    model: str
    spec: DeviceSpec
    frame_seconds: float
    packed: Cost
    eight_bits: Cost

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; seconds and joules."""
        costs = {name: _as_dict(cost) for name, cost in (("packed", self.packed), ("eight_bits", self.eight_bits))}
        device = self.spec.model_dump()
        return {"model": self.model, "device": device, "frame_seconds": self.frame_seconds, **costs}


def device_report(model: Path, device: str) -> DeviceReport:
    """Raises ConfigError for a device that is unknown or wrong, FormatError for a model that is no packed RNN-T."""
    spec, packed = load_device(device), load_model(model)
    try:
        costs = [cost_of(layers_of(packed, eight_bits=eight), spec) for eight in (False, True)]
        subsampling = RnntArchitecture.from_dict(packed.architecture).subsampling
        rate = ModelInput.from_dict(packed.input).rate
    except FormatError as error:
        raise FormatError(f"{model}: {error}") from error
    return DeviceReport(str(model), spec, subsampling / rate, *costs)


def show_device(report: DeviceReport, console: Console) -> None:
    console.print(_heading(report), highlight=False, soft_wrap=True)
    console.print(Group(_table(report), _totals(report)))


def _heading(report: DeviceReport) -> str:
    fits = [f"{name} {_place(cost, report.spec)}" for name, cost in _both(report)]
    return f"{report.model} on {report.spec.name} (computed, not measured): {'; '.join(fits)}"


def _place(cost: Cost, spec: DeviceSpec) -> str:
    how = "fit" if cost.resident else "do not fit"
    return f"{cost.weight_bytes:,} bytes of weights, which {how} into {spec.on_chip_bytes:,} on the chip"


def _both(report: DeviceReport) -> tuple[tuple[str, Cost], tuple[str, Cost]]:
    return ("as packed", report.packed), ("at 8 bits", report.eight_bits)


def _table(report: DeviceReport) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for column in ("layer", "bits", "as packed: us", "uJ", "bound by", "at 8 bits: us", "uJ", "bound by"):
        table.add_column(column, justify="left" if column in ("layer", "bound by") else "right")
    for part in PARTS:
        for ours, wide in zip(report.packed.layers, report.eight_bits.layers, strict=True):
            if ours.part == part:
                table.add_row(ours.name, f"{ours.bits:.3g}" if ours.bits else "", *_cells(ours), *_cells(wide))
        sums = [(cost.seconds(part), cost.joules(part)) for _, cost in _both(report)]
        (ours_s, ours_j), (wide_s, wide_j) = sums
        cells = (_micro(ours_s), _micro(ours_j), "", _micro(wide_s), _micro(wide_j), "")
        table.add_row(_TITLES[part], "", *cells, style="bold", end_section=True)
    return table


def _cells(layer: LayerCost) -> tuple[str, str, str]:
    return _micro(layer.seconds), _micro(layer.joules), layer.bound


def _totals(report: DeviceReport) -> RenderableType:
    table = Table("", "us", "uJ", "of real time", "mW", box=None, pad_edge=False)
    for title, parts in (("frame without a token", ("encoder", "joiner")), ("frame with a token", PARTS)):
        for name, cost in _both(report):
            figures = _total(cost, parts, report.frame_seconds)
            table.add_row(
                f"{title}, {name}", _micro(figures["seconds"]), _micro(figures["joules"]),
                f"{100 * figures['real_time']:.2f} %", f"{1e3 * figures['watts']:.2f}",
            )  # fmt: skip
    return table


def _total(cost: Cost, parts: tuple[Any, ...], frame_seconds: float) -> dict[str, float]:
    seconds, joules = sum(cost.seconds(part) for part in parts), sum(cost.joules(part) for part in parts)
    return {
        "seconds": seconds, "joules": joules, "real_time": seconds / frame_seconds, "watts": joules / frame_seconds,
    }  # fmt: skip


def _micro(value: float) -> str:
    return f"{1e6 * value:.1f}"


def _as_dict(cost: Cost) -> dict[str, Any]:
    parts = {part: {"seconds": cost.seconds(part), "joules": cost.joules(part)} for part in PARTS}
    return {**dataclasses.asdict(cost), "parts": parts}
