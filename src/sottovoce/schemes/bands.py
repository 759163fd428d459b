"""A band of rows in training: its place in the parameter and its codebook of the moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sottovoce.errors import PlanError
from sottovoce.packed import Band, make_band
from sottovoce.quant.codebook import Codebook
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.plan import PlannedBand
from sottovoce.quant.scaling import scale_dtype
from sottovoce.quant.spec import BandSpec
from sottovoce.quant.weights import as_matrix, check_weight
from sottovoce.schemes.processes import agreed, gathered, gathered_rows, held_rows, is_sharded, local

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(eq=False)
class TrainedBand:
    """The codebook may be re-estimated as training goes; everything else is fixed by the plan.

    Of a sharded parameter this process holds some of the band's rows (R_here, C), none perhaps; the codebook is that
    of all of them.
    """

    planned: PlannedBand
    codebook: Codebook
    group: ProcessGroup | None
    held: tuple[int, int]
    """The rows of the parameter that are here."""
    limits: Codebook | None = None
    """Whose outer levels bound the weights, where a scheme clips to fewer bits than the band has."""

    @classmethod
    def of(cls, planned: PlannedBand, group: ProcessGroup | None = None) -> TrainedBand:
        """group: the processes that must have the same codebook.

        Raises PlanError for a weight whose memory cannot be worked on in place, that is not float32, or not finite.
        """
        weight = planned.weight.parameter
        check_weight(planned.weight.name, weight)
        whole = as_matrix(gathered(weight.data))[planned.start : planned.stop]
        if not bool(whole.isfinite().all()):
            raise PlanError(f"{planned.weight.name}: expected finite weights, found nan or inf")
        codebook = agreed(make_codebook(whole, planned.spec, planned.weight.gates), group)
        return cls(planned, codebook, group, held_rows(planned.weight.name, weight))

    @property
    def name(self) -> str:
        """The parameter's name, with the rows where the band is not the whole of it."""
        whole = self.planned.start == 0 and self.planned.stop == self.planned.weight.rows
        return self.planned.weight.name + ("" if whole else f"[{self.planned.start}:{self.planned.stop}]")

    @property
    def part(self) -> slice:
        """Which of the band's rows are here."""
        start, stop = (min(max(row, self.planned.start), self.planned.stop) - self.planned.start for row in self.held)
        return slice(start, stop)

    def weight(self) -> Tensor:
        """The band's weights that are here, as they stand in the parameter: an (R_here, C) view without gradient."""
        return self.rows(self.planned.weight.parameter.data)

    def rows(self, tensor: Tensor) -> Tensor:
        """The band's (R_here, C) part of a tensor shaped, and sharded, as the parameter."""
        first = self.planned.start - self.held[0]
        return as_matrix(local(tensor))[first + self.part.start : first + self.part.stop]

    def whole(self) -> Tensor:
        """The band's weights (R, C) from all processes."""
        return self.gathered(self.weight())

    def gathered(self, rows: Tensor) -> Tensor:
        """(R, C) from the (R_here, C) of each process; all must ask together."""
        parameter = self.planned.weight.parameter
        if not is_sharded(parameter):
            return rows
        first = self.planned.start - self.held[0] + self.part.start
        return gathered_rows(rows, first, parameter)[self.planned.start : self.planned.stop]

    def here(self, codebook: Codebook | None = None) -> Codebook:
        """The codebook, or another one of the band's, for the rows that are here."""
        part = self.part
        return (codebook or self.codebook).of_rows(part.start, part.stop, self.planned.stop - self.planned.start)

    @torch.no_grad()
    def clip(self, bits: int) -> None:
        """Keep the weights between the outer levels of a codebook of ``bits``, taken from them the first time; or of
        the band's own, where that has no more bits."""
        if self.planned.spec.bits <= bits:
            self.here().clip_(self.weight())
            return
        if self.limits is None:
            made = make_codebook(self.whole(), _narrower(self.planned.spec, bits), self.planned.weight.gates)
            self.limits = agreed(made, self.group)
        self.here(self.limits).clip_(self.weight())

    @torch.no_grad()
    def pack(self) -> Band:
        """Snap the weights and store their codes; decoding gives back what the parameter now holds, bit for bit."""
        codes = self.codebook.assign(self.whole())
        self.weight().copy_(self.codebook.decode(codes)[self.part])
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


def _narrower(spec: BandSpec, bits: int) -> BandSpec:
    """The same kind of levels at fewer bits; one bit holds no zero, so that a kind that always has one takes two."""
    if bits > 1:
        return replace(spec, bits=bits)
    free = replace(spec, bits=2, zero=None)
    return free if free.has_zero else replace(free, bits=1)


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
    made = make_codebook(pooled([band.whole() for band in pool]), planned.spec, planned.weight.gates)
    codebook = agreed(made, pool[0].group)
    for band in pool:
        band.codebook = codebook
