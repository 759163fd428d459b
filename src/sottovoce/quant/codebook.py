"""A codebook: integer levels and a scale, and the questions a training loop asks of it, each answered by one table
look-up a weight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Weights are worked through in pieces that stay in a core's own cache; on an accelerator one piece is best.
_PIECE = 1 << 16


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

    def assign(self, weight: Tensor) -> Tensor:
        """Nearest level of each weight: (R, C) float to (R, C) uint8 codes; a weight half-way goes to the upper
        level."""
        codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
        for source, scale, target in self._pieces(weight, codes):
            target.copy_(self._nearest[_half_units(source, scale)])
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (R, C) to float32 weights (R, C): float32(scale) * level, bit for bit what the file decodes to."""
        values = self.levels.float()[codes.long()]
        return (values.view(len(self.scale), -1) * self.scale[:, None]).view(codes.shape)

    @torch.no_grad()
    def snap_(self, weight: Tensor) -> Tensor:
        """Overwrite (R, C) weights by their nearest centroids, in place."""
        levels = self.levels.float()
        for piece, scale, _ in self._pieces(weight):
            piece.copy_(levels[self._nearest[_half_units(piece, scale)].int()] * scale)
        return weight

    @torch.no_grad()
    def pull_(self, weight: Tensor, rate: float) -> Tensor:
        """Move each weight towards its centroid, in place: ``w -= rate * gap * sin(pi u) * sign(cos(pi u))``.

        u in [0, 1) is the place inside the cell between neighbouring levels, gap the cell's width: the gradient of the
        absolute-cosine penalty (S8BQAT, section 2.3) in units of the local gap. Weights outside the outer levels are
        clipped to them.
        """
        for piece, scale, _ in self._pieces(weight):
            place, gap = self._place(piece, scale)
            side = torch.where(place < 0.5, -rate, rate)
            step = place.mul_(torch.pi).sin_().mul_(side).mul_(gap)
            piece.add_(step.mul_(scale))
            self._clip_piece(piece, scale)
        return weight

    @torch.no_grad()
    def clip_(self, weight: Tensor) -> Tensor:
        """Clip (R, C) weights to the range of the outer levels, in place."""
        for piece, scale, _ in self._pieces(weight):
            self._clip_piece(piece, scale)
        return weight

    def penalty(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Absolute-cosine penalty, summed over (R, C) weights, and its gradient (R, C); one pass over the weights.

        ``p(w) = 1 - |cos(pi (w - m_k) / (m_(k+1) - m_k))|`` between neighbouring levels. On a grid of regions whose
        borders are shared multiples of the spacings this is the paper's ``1 - |cos(pi theta_r w)|`` (S8BQAT, eq. 4).
        Outside the outer levels both are zero.
        """
        gradient = torch.empty_like(weight)
        total = weight.new_zeros(())
        for piece, scale, target in self._pieces(weight.detach(), gradient):
            place, gap = self._place(piece, scale)
            angle = place * torch.pi
            cosine = angle.cos()
            inside = (place > 0) & (place < 1)
            total += torch.where(inside, 1 - cosine.abs(), 0.0).sum()
            slope = angle.sin().mul_(torch.pi).mul_(cosine.sign()).div_(gap * scale)
            target.copy_(torch.where(inside, slope, 0.0))
        return total, gradient

    @torch.no_grad()
    def hit_rate(self, weight: Tensor, epsilon: float = 1 / 1024) -> float:
        """Share of the weights within ``epsilon`` of their level, in the unit of the weights (gamma in S8BQAT,
        section 2.4)."""
        distance = (weight - self.decode(self.assign(weight))).abs()
        return float((distance <= epsilon).float().mean())

    @torch.no_grad()
    def clip_rate(self, weight: Tensor) -> float:
        """Share of the weights more than half an outer gap outside the outer levels."""
        units = weight.reshape(len(self.scale), -1) / self.scale[:, None]
        gaps = self.levels.float().diff()
        outside = (units > self.levels[-1] + gaps[-1] / 2) | (units < self.levels[0] - gaps[0] / 2)
        return float(outside.float().mean())

    def to(self, device: torch.device) -> Codebook:
        """The same codebook on another device."""
        return Codebook(self.levels.to(device), self.scale.to(device), self.bits, self.kind, self.grouping)

    @cached_property
    def _nearest(self) -> Tensor:
        """Code of the nearest level for each half-unit of [-128, 128), (512,) uint8. Midpoints of integers are
        half-units, so this is exact."""
        centres = torch.arange(512, device=self.levels.device, dtype=torch.float32) / 2 - 127.75
        edges = (self.levels[:-1].float() + self.levels[1:].float()) / 2
        return torch.bucketize(centres, edges).to(torch.uint8)

    @cached_property
    def _cells(self) -> tuple[Tensor, Tensor]:
        """Lower level and width of the cell of each unit of [-128, 128), float32 (256,) each."""
        units = torch.arange(256, device=self.levels.device) - 128
        cell = torch.bucketize(units, self.levels.long(), right=True).sub_(1).clamp_(0, len(self.levels) - 2)
        levels = self.levels.float()
        return levels[cell], (levels[1:] - levels[:-1])[cell]

    def _place(self, piece: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor]:
        """Place in the cell (0 at the lower level, 1 at the upper) and the cell's width in level units."""
        lower, width = self._cells
        units = piece / scale
        index = units.floor().add_(128).clamp_(0, 255).int()
        gap = width[index]
        return units.sub_(lower[index]).div_(gap).clamp_(0, 1), gap

    def _clip_piece(self, piece: Tensor, scale: Tensor | float) -> None:
        low, high = float(self.levels[0]), float(self.levels[-1])
        if isinstance(scale, float):
            piece.clamp_(low * scale, high * scale)
        else:
            torch.minimum(torch.maximum(piece, low * scale), high * scale, out=piece)

    def _pieces(self, weight: Tensor, other: Tensor | None = None) -> list[tuple[Tensor, Tensor | float, Tensor]]:
        """Views of a contiguous (R, C) weight, each with the scale that broadcasts against it, and of ``other``
        beside it."""
        other = weight if other is None else other
        groups = len(self.scale)
        if groups == 1:
            piece = _PIECE if weight.device.type == "cpu" else max(weight.numel(), 1)
            scale = float(self.scale)
            return [
                (a, scale, b)
                for a, b in zip(torch.split(weight.view(-1), piece), torch.split(other.view(-1), piece), strict=True)
            ]
        width = weight.numel() // groups
        rows = max(1, _PIECE // max(width, 1)) if weight.device.type == "cpu" else groups
        columns = [torch.split(x.view(groups, width), rows) for x in (weight, other)]
        scales = torch.split(self.scale[:, None], rows)
        return list(zip(columns[0], scales, columns[1], strict=True))


def _half_units(piece: Tensor, scale: Tensor | float) -> Tensor:
    """Index of the half-unit that holds each weight: floor(2 w / scale), clipped to [-256, 255], plus 256."""
    return (piece / scale).mul_(2).floor_().add_(256).clamp_(0, 511).int()
