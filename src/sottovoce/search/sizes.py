"""Bytes of a packed file before there is one: exactly what writing it would take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from sottovoce.packed import Band, PackedMatrix, row_bytes
from sottovoce.packed.file import stored_bytes
from sottovoce.quant.makers import level_count
from sottovoce.quant.plan import BitPlan, PlannedBand
from sottovoce.quant.scaling import group_count
from sottovoce.quant.spec import BandSpec
from sottovoce.quant.weights import Weight
from sottovoce.schemes.packing import lay_out


def part_bytes(weight: Weight, rows: int, spec: BandSpec) -> int:
    """Codes, levels and scales of ``rows`` rows; scales as the plan says, which holds unless one is below 6e-5."""
    band = _stub(PlannedBand(weight, spec, 0, rows))
    return int(band.codes.nbytes + band.levels.nbytes + band.scale.nbytes)


def model_bytes(
    model: nn.Module,
    plan: BitPlan,
    fields: Mapping[str, Any] | None = None,
    float_dtype: str = "float16",
    tokenizer_bytes: int | None = None,
) -> int:
    """Bytes of the file that ``model`` compressed by ``plan`` is saved to, less those of the tokenizer itself.

    fields: the file's architecture, input and provenance, where it has them. float_dtype: of what the plan leaves out.
    tokenizer_bytes: the tokenizer's length, where the file has one: its entry in the header counts.
    Raises PlanError for a plan that does not fit the model.
    """
    bands: dict[int, list[PlannedBand]] = {}
    for band in plan.resolve(model):
        bands.setdefault(id(band.weight.parameter), []).append(band)
    matrices = {
        key: PackedMatrix(tuple(group[0].weight.parameter.shape), tuple(map(_stub, group)))
        for key, group in bands.items()
    }
    blank = lambda value, dtype: np.broadcast_to(np.zeros((), dtype), tuple(value.shape))  # noqa: E731
    tensors, aliases = lay_out(model, matrices, blank, float_dtype)
    described = {"architecture": {}, "input": {}, "provenance": {}, **(fields or {}), "aliases": aliases}
    return stored_bytes(tensors, described, tokenizer_bytes) - (tokenizer_bytes or 0)


def _stub(band: PlannedBand) -> Band:
    """A band of the right shapes whose codes take no memory."""
    spec, rows = band.spec, band.stop - band.start
    codes = np.broadcast_to(np.zeros((), np.uint8), (rows, row_bytes(band.weight.columns, spec.bits)))
    scale = np.zeros(group_count(spec.grouping, rows, band.weight.gates), spec.scale_dtype)
    levels = np.zeros(level_count(spec), np.int8)
    return Band(band.start, band.stop, spec.bits, spec.kind, spec.stored_grouping, levels, scale, codes)
