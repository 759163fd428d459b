"""How weights come to lie on their levels: what a compressed run keeps of it for the report.

``weights.json``: a histogram of each planned weight as it was ``before`` compression, and as it was ``trained``, before
the last rounding; the file itself says what came after. ``levels.jsonl``: the shares of weights on a level (``share``)
and more than half an outer gap beyond the outer ones (``clipped``), some fifty times in a run; and where the scheme has
a penalty, the RMS of its gradient over that of the task's as last seen (``penalty_ratio``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from sottovoce.quant.weights import Weight
from sottovoce.training.callback import CompressionCallback, looks_every
from sottovoce.training.run import write_file

_BINS = 128
_VERSION = 1

Histogram = dict[str, Any]


class LevelsFile(pl.Callback):
    """Writes both files beside ``compression``, which comes before it among the Trainer's callbacks. A resumed run goes
    on with what is there."""

    def __init__(self, folder: Path, compression: CompressionCallback) -> None:
        self.folder = folder
        self.compression = compression
        self._rows: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not (self.folder / "weights.json").exists():
            write_weights(self.folder, before=histograms(self._weights()))
        step = self.compression.session.step
        self._rows = [row for row in self._written() if row["step"] <= step]
        if not self._rows or self._rows[-1]["step"] < step:
            self._record()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        session = self.compression.session
        due = self._rows and session.step >= self._rows[-1]["step"] + looks_every(session)
        if due and trainer.is_global_zero:
            self._record()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if self._rows[-1]["step"] < self.compression.session.step:
            self._record()
        before = json.loads((self.folder / "weights.json").read_text())["before"]
        write_weights(self.folder, before=before, trained=histograms(self._latents()))

    def _record(self) -> None:
        session = self.compression.session
        shares, counts = session.hit_rates(), {band.name: band.weight().numel() for band in session.bands}
        row = {
            "step": session.step,
            "steps": session.total_steps,
            "share": _mean(shares, counts),
            "clipped": _mean(session.clip_rates(), counts),
            "bands": {name: round(share, 6) for name, share in shares.items()},
        }
        ratio = self.compression.penalty_ratio
        self._rows.append(row if ratio is None else {**row, "penalty_ratio": float(f"{ratio:.4g}")})
        write_file(self.folder / "levels.jsonl", "".join(json.dumps(row) + "\n" for row in self._rows))

    def _written(self) -> list[dict[str, Any]]:
        path = self.folder / "levels.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _weights(self) -> dict[str, Weight]:
        return {band.planned.weight.name: band.planned.weight for band in self.compression.session.bands}

    def _latents(self) -> Mapping[str, Tensor | Weight]:
        latent = self.compression.session.latent
        return {name: found if (found := latent(name)) is not None else w for name, w in self._weights().items()}


def _mean(shares: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """Over weights, not over bands."""
    return round(sum(share * counts[name] for name, share in shares.items()) / sum(counts.values()), 6)


def histograms(weights: Mapping[str, Tensor | Weight]) -> dict[str, Histogram]:
    """Counts of each weight's values in equal bins between its outermost ones."""
    return {name: _histogram(w if isinstance(w, Tensor) else w.parameter.data) for name, w in weights.items()}


def planned_weights(planned: Iterable[Any]) -> dict[str, Weight]:
    """The weights of a resolved plan, by name."""
    return {band.weight.name: band.weight for band in planned}


def write_weights(folder: Path, **stages: Mapping[str, Histogram]) -> None:
    """Write ``weights.json``; stages are ``before`` and ``trained``."""
    write_file(folder / "weights.json", json.dumps({"version": _VERSION, **stages}) + "\n")


def _histogram(values: Tensor) -> Histogram:
    flat = values.detach().float().cpu().flatten()
    low, high = float(flat.min()), float(flat.max())
    counts = torch.histc(flat, _BINS, low, high) if low < high else torch.tensor([float(flat.numel())])
    return {"low": low, "high": high, "counts": [int(count) for count in counts]}
