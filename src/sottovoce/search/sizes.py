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
from sottovoce.schemes.packing import stored_dtype

_SCALE_BYTES = {"float16": 2, "float32": 4}


def part_bytes(weight: Weight, rows: int, spec: BandSpec) -> int:
    """Codes, levels and scales of ``rows`` rows; scales as the plan says, which holds unless one is below 6e-5."""
    groups = group_count(spec.grouping, rows, weight.gates)
    return rows * row_bytes(weight.columns, spec.bits) + level_count(spec) + groups * _SCALE_BYTES[spec.scale_dtype]


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
    matrices: dict[int, PackedMatrix] = {}
    bands: dict[int, list[PlannedBand]] = {}
    for band in plan.resolve(model):
        bands.setdefault(id(band.weight.parameter), []).append(band)
    for key, group in bands.items():
        matrices[key] = PackedMatrix(tuple(group[0].weight.parameter.shape), tuple(_stub(band) for band in group))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    tensors: dict[str, PackedMatrix | np.ndarray] = {}
    aliases: dict[str, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        known = first.setdefault(id(value), name)
        if known != name:
            aliases[name] = known
        elif id(value) in matrices:
            tensors[name] = matrices[id(value)]
        else:
            dtype = stored_dtype(value.data, float_dtype if name in parameters else "float32")
            tensors[name] = np.broadcast_to(np.zeros((), dtype), tuple(value.shape))
    described = {"architecture": {}, "input": {}, "provenance": {}, **(fields or {}), "aliases": aliases}
    return stored_bytes(tensors, described, tokenizer_bytes) - (tokenizer_bytes or 0)


def _stub(band: PlannedBand) -> Band:
    """A band of the right shapes that takes no memory."""
    spec, rows = band.spec, band.stop - band.start
    codes = np.broadcast_to(np.zeros((), np.uint8), (rows, row_bytes(band.weight.columns, spec.bits)))
    scale = np.zeros(group_count(spec.grouping, rows, band.weight.gates), spec.scale_dtype)
    grouping: Any = "tensor" if spec.grouping == "model" else spec.grouping
    levels = np.zeros(level_count(spec), np.int8)
    return Band(band.start, band.stop, spec.bits, spec.kind, grouping, levels, scale, codes)
