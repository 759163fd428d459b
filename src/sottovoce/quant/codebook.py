"""A codebook: integer levels and a scale, and the questions a training loop asks of it.

Levels are integers, so borders between cells are half-integers: a table over half-units finds the nearest level of any
weight exactly, with one look-up and no search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

# Weights are worked through in pieces that stay in a core's own cache; on an accelerator one piece is best.
_PIECE = 1 << 16
_FINE = 16  # samples of the pull in one integer step
_NOTHING = 1e-12  # a scale that no weights have; makers give groups of zeros less


@dataclass(frozen=True, eq=False)
class Codebook:
    """``weight = scale[group] * levels[code]``, the one representation of a compressed weight.

    levels: int8 (K,), strictly increasing, 2 <= K <= 2**bits.
    scale: float32 (G,), positive, each value exactly representable in the dtype that the file stores; group g covers
        rows g * R / G to (g + 1) * R / G of an (R, C) weight.
    """

    levels: Tensor
    scale: Tensor
    bits: int
    kind: str
    grouping: str

    @torch.no_grad()
    def assign(self, weight: Tensor) -> Tensor:
        """Codes of the nearest levels: (R, C) float to (R, C) uint8; a weight half-way goes to the upper level."""
        codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
        for piece, scale, target in self._pieces(weight, codes):
            target.copy_(_look_up(self._nearest, _index(piece, scale, 2)))
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (R, C) to float32 weights (R, C): float32(scale) * level, bit for bit what the file decodes to."""
        values = self.levels.float()[codes.long()]
        return (values.view(len(self.scale), -1) * self.scale[:, None]).view(codes.shape)

    @torch.no_grad()
    def snap_(self, weight: Tensor) -> Tensor:
        """Overwrite (R, C) weights by their nearest centroids, in place."""
        for piece, scale, _ in self._pieces(weight):
            piece.copy_(_look_up(self._centroids, _index(piece, scale, 2)).mul_(scale))
        return weight

    @torch.no_grad()
    def pull_(self, weight: Tensor, rate: float) -> Tensor:
        """Move each weight towards its centroid, in place: ``w -= rate * gap * sin(pi u) * sign(cos(pi u))``.

        u in [0, 1) is the place inside the cell between neighbouring levels, gap the cell's width: the gradient of the
        absolute-cosine penalty (S8BQAT, section 2.3) in units of the local gap, sampled sixteen times an integer step
        and never long enough to pass the level. Weights outside the outer levels are clipped to them.
        """
        steps = self._pull_steps(rate).to(weight.dtype)
        low, high = float(self.levels[0]), float(self.levels[-1])
        for piece, scale, _ in self._pieces(weight):
            piece.add_(_look_up(steps, _index(piece, scale, _FINE)).mul_(scale))
            _clip(piece, low, high, scale)
        return weight

    @torch.no_grad()
    def mix_(self, weight: Tensor, sharpness: float) -> Tensor:
        """Overwrite (R, C) weights by mixes of the levels, in place: ``w <- softmax(-sharpness |w - z|) @ z``.

        Distances are in units of the range, the power of two above the outer level, so that one sharpness means the
        same to every kernel; levels on the accelerator's grid have the range ``128 * scale``. As the sharpness grows
        this becomes ``snap_``. Memory beside the weight: pieces of 65,536 weights times the levels.
        Source: GQ (Zhen et al. 2022, arXiv 2210.09188).
        """
        levels = self.levels.to(weight.dtype)
        outer = 2.0 ** math.frexp(float(levels.abs().max()))[1]
        for piece, scale, _ in self._pieces(weight):
            units = piece / scale
            for part in torch.split(units.view(-1), _PIECE):
                distance = (part[:, None] - levels).abs_().mul_(-sharpness / outer)  # (n, K)
                # Not a matrix product: autocast would take that in half precision.
                torch.sum(distance.softmax(1).mul_(levels), 1, out=part)
            torch.mul(units, scale, out=piece)
        return weight

    @torch.no_grad()
    def clip_(self, weight: Tensor) -> Tensor:
        """Clip (R, C) weights to the range of the outer levels, in place."""
        for piece, scale, _ in self._pieces(weight):
            _clip(piece, float(self.levels[0]), float(self.levels[-1]), scale)
        return weight

    @torch.no_grad()
    def penalty(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Absolute-cosine penalty, summed over (R, C) weights, and its gradient (R, C); one pass over the weights.

        ``p(w) = 1 - |cos(pi (w - m_k) / (m_(k+1) - m_k))|`` between neighbouring levels. On a grid of regions whose
        borders are shared multiples of the spacings this is the paper's ``1 - |cos(pi theta_r w)|`` (S8BQAT, eq. 4).
        Outside the outer levels both are zero, and where a scale is next to nothing, as that of a row of zeros, whose
        slope would be without bound.
        """
        gradient = torch.empty_like(weight)
        total = weight.new_zeros(())
        centroids, stiffness = self._centroids.to(weight.dtype), self._stiffness.to(weight.dtype)
        low, high = float(self.levels[0]), float(self.levels[-1])
        for piece, scale, target in self._pieces(weight, gradient):
            index = _index(piece, scale, 2)
            curve = _look_up(stiffness, index)  # pi / gap, in 1 / units
            # With the angle measured from the nearest level, |cos| is the cosine and sin * sign(cos) the sine; outside
            # the outer levels the angle is zero.
            sine = (piece / scale).clamp_(low, high).sub_(_look_up(centroids, index)).mul_(curve).sin_()
            torch.mul(sine, curve, out=target)
            target.div_(scale)
            cost = 1 - sine.square_().neg_().add_(1).sqrt_()
            empty = torch.as_tensor(scale, device=weight.device) < _NOTHING
            target.masked_fill_(empty, 0.0)
            total += cost.masked_fill_(empty, 0.0).sum()
        return total, gradient

    @torch.no_grad()
    def hit_rate(self, weight: Tensor, epsilon: float = 1 / 1024) -> float:
        """Share of the weights within ``epsilon`` of their level, in the unit of the weights.

        This is gamma of S8BQAT, section 2.4.
        """
        distance = (weight - self.decode(self.assign(weight))).abs()
        return float((distance <= epsilon).float().mean())

    @torch.no_grad()
    def clip_rate(self, weight: Tensor) -> float:
        """Share of the weights more than half an outer gap outside the outer levels."""
        units = weight.reshape(len(self.scale), -1) / self.scale[:, None]
        gaps = self.levels.float().diff()
        outside = (units > self.levels[-1] + gaps[-1] / 2) | (units < self.levels[0] - gaps[0] / 2)
        return float(outside.float().mean())

    def of_rows(self, start: int, stop: int, rows: int) -> Codebook:
        """The codebook of rows ``start`` to ``stop - 1`` of a weight of ``rows`` rows: the same levels, and the scales
        of those rows."""
        if len(self.scale) == 1 or (start, stop) == (0, rows):
            return self
        return replace(self, scale=self.scale.repeat_interleave(rows // len(self.scale))[start:stop])

    @cached_property
    def _nearest(self) -> Tensor:
        """Code of the nearest level of each half-unit of [-128, 128), int32 (512,)."""
        edges = (self.levels[:-1].float() + self.levels[1:].float()) / 2
        return torch.bucketize(self._centres(2), edges).int()

    @cached_property
    def _centroids(self) -> Tensor:
        """Nearest level of each half-unit, float32 (512,)."""
        return self.levels.float()[self._nearest.long()]

    @cached_property
    def _stiffness(self) -> Tensor:
        """pi / gap of the cell that holds each half-unit, float32 (512,)."""
        return torch.pi / self._cells(self._centres(2))[1]

    def _pull_steps(self, rate: float) -> Tensor:
        """Step in integer units from each sixteenth of a unit, float32 (4096,); at most what reaches the level."""
        centres = self._centres(_FINE)
        lower, gap, inside = self._cells(centres)
        place = (centres - lower) / gap
        down = place < 0.5
        distance = torch.where(down, place, 1 - place) * gap
        shortest = (distance - 0.5 / _FINE).clamp_min(0)  # from the near edge of the sample
        step = torch.minimum(rate * gap * (torch.pi * place).sin(), shortest)
        return torch.where(inside, torch.where(down, -step, step), 0.0)

    def _centres(self, steps: int) -> Tensor:
        """Centres of the intervals that ``_index`` numbers, float32 (256 * steps,)."""
        return (torch.arange(256 * steps, device=self.levels.device, dtype=torch.float32) + 0.5) / steps - 128

    def _cells(self, units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lower level and width of the cell of each place, and whether it lies between the outer levels."""
        levels = self.levels.float()
        cell = torch.bucketize(units, levels).sub_(1)
        inside = (cell >= 0) & (cell < len(levels) - 1)
        cell = cell.clamp(0, len(levels) - 2)
        return levels[cell], levels.diff()[cell], inside

    def _pieces(self, weight: Tensor, other: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor | float, Tensor]]:
        """Views of a contiguous (R, C) weight, each with the scale that broadcasts against it, and of ``other``."""
        other = weight if other is None else other
        if not weight.numel():
            return
        groups, width = len(self.scale), weight.numel() // len(self.scale)
        if groups == 1:
            piece = _PIECE if weight.device.type == "cpu" else max(weight.numel(), 1)
            scale = float(self.scale)
            views = (torch.split(x.view(-1), piece) for x in (weight, other))
            yield from ((a, scale, b) for a, b in zip(*views, strict=True))
            return
        rows = max(1, _PIECE // max(width, 1)) if weight.device.type == "cpu" else groups
        views = (torch.split(x.view(groups, width), rows) for x in (weight, other))
        scales = torch.split(self.scale[:, None], rows)
        yield from ((a, scale, b) for a, b, scale in zip(*views, scales, strict=True))


def _index(piece: Tensor, scale: Tensor | float, steps: int) -> Tensor:
    """Number of the interval of 1 / steps units that holds each weight, int32, clipped to [-128, 128) units."""
    inverse = steps / scale
    return (piece * inverse).add_(128 * steps).clamp_(0, 256 * steps - 1).int()


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]``; index_select is several times faster than indexing on a CPU."""
    return torch.index_select(table, 0, index.view(-1)).view(index.shape)


def _clip(piece: Tensor, low: float, high: float, scale: Tensor | float) -> None:
    if isinstance(scale, float):
        piece.clamp_(low * scale, high * scale)
    else:
        torch.minimum(torch.maximum(piece, low * scale), high * scale, out=piece)
