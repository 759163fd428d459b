"""A band of rows in training: its place in the parameter and its codebook of the moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sottovoce.errors import PlanError
from sottovoce.packed import Band, make_band
from sottovoce.quant.codebook import Codebook
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.plan import PlannedBand
from sottovoce.quant.scaling import scale_dtype
from sottovoce.quant.weights import as_matrix


@dataclass(eq=False)
class TrainedBand:
    """The codebook may be re-estimated as training goes; everything else is fixed by the plan."""

    planned: PlannedBand
    codebook: Codebook
    limits: Codebook | None = None
    """Whose outer levels bound the weights, where a scheme clips to fewer bits than the band has."""

    @classmethod
    def of(cls, planned: PlannedBand) -> TrainedBand:
        """Raises PlanError for a weight whose memory cannot be worked on in place, or that is not float32."""
        weight = planned.weight.parameter
        if weight.dtype is not torch.float32:
            raise PlanError(
                f"{planned.weight.name}: expected float32 master weights, found {weight.dtype}; use autocast for speed"
            )
        if not weight.is_contiguous():
            raise PlanError(f"{planned.weight.name}: expected contiguous memory; channels_last cannot be compressed")
        rows = as_matrix(planned.weight.parameter.data)[planned.start : planned.stop]
        return cls(planned, make_codebook(rows, planned.spec, planned.weight.gates))

    @property
    def name(self) -> str:
        """The parameter's name, with the rows where the band is not the whole of it."""
        whole = self.planned.start == 0 and self.planned.stop == self.planned.weight.rows
        return self.planned.weight.name + ("" if whole else f"[{self.planned.start}:{self.planned.stop}]")

    def weight(self) -> Tensor:
        """The band's weights as they stand in the parameter, an (R, C) view without gradient."""
        return self.rows(self.planned.weight.parameter.data)

    def rows(self, tensor: Tensor) -> Tensor:
        """The band's (R, C) part of a tensor shaped as the parameter."""
        return as_matrix(tensor)[self.planned.start : self.planned.stop]

    @torch.no_grad()
    def clip(self, bits: int) -> None:
        """Keep the weights between the outer levels of a codebook of ``bits``, taken from them the first time; or of
        the band's own, where that has no more bits."""
        if self.planned.spec.bits <= bits:
            self.codebook.clip_(self.weight())
            return
        if self.limits is None:
            self.limits = make_codebook(self.weight(), replace(self.planned.spec, bits=bits), self.planned.weight.gates)
        self.limits.clip_(self.weight())

    @torch.no_grad()
    def pack(self) -> Band:
        """Snap the weights and store their codes; decoding gives back what the parameter now holds, bit for bit."""
        weight = self.weight()
        codes = self.codebook.assign(weight)
        weight.copy_(self.codebook.decode(codes))
        scale = self.codebook.scale.cpu()
        exact = self.planned.spec.scale_dtype == "float16" and scale_dtype(scale) is torch.float16
        return make_band(
            codes.cpu().numpy(),
            self.codebook.levels.cpu().numpy(),
            (scale.half() if exact else scale).numpy(),
            bits=self.planned.spec.bits,
            kind=self.planned.spec.kind,
            grouping=self.planned.spec.stored_grouping,
            start=self.planned.start,
        )


Pool = tuple[TrainedBand, ...]
"""Bands that have one codebook: a band by itself, or with grouping ``model`` all that are alike."""


def pools(bands: Iterable[TrainedBand]) -> list[Pool]:
    """The bands, those of one codebook together, in order."""
    found: dict[object, list[TrainedBand]] = {}
    for band in bands:
        spec = band.planned.spec
        key: object = replace(spec, start=0, stop=None) if spec.grouping == "model" else id(band)
        found.setdefault(key, []).append(band)
    return [tuple(pool) for pool in found.values()]


def pooled(parts: Sequence[Tensor]) -> Tensor:
    """The (R, C) weights of a pool as one matrix: a band's own, or all of them in one row."""
    return parts[0] if len(parts) == 1 else torch.cat([part.reshape(1, -1) for part in parts], 1)


def estimate(pool: Pool) -> None:
    """Take levels and scales anew from the weights as they stand."""
    planned = pool[0].planned
    codebook = make_codebook(pooled([band.weight() for band in pool]), planned.spec, planned.weight.gates)
    for band in pool:
        band.codebook = codebook
