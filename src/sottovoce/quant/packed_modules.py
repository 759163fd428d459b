"""Linear and embedding layers that hold codes, levels and scales, and look weights up as they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sottovoce.packed import Band, PackedMatrix
from sottovoce.quant.codebook_linear import codebook_linear, takes

_GROUP = 8  # codes that fill whole bytes at any width: b bytes
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class PackedBand(nn.Module):
    """One band of rows as buffers.

    codes: uint8 (R, ceil(C / 8) * bits), the file's bits, rows padded to whole groups of eight codes. levels: int8
    (2 ** bits,), those past the table's end zero. scale: float32 (R,), that of each row.
    """

    codes: Tensor
    levels: Tensor
    scale: Tensor

    def __init__(self, band: Band, columns: int) -> None:
        super().__init__()
        self.bits, self.columns = band.bits, columns
        width = -(-columns // _GROUP) * band.bits
        codes = np.zeros((band.rows, width), np.uint8)
        codes[:, : band.codes.shape[1]] = band.codes
        levels = np.zeros(1 << band.bits, np.int8)
        levels[: len(band.levels)] = band.levels
        self.register_buffer("codes", torch.from_numpy(codes))
        self.register_buffer("levels", torch.from_numpy(levels))
        self.register_buffer("scale", torch.from_numpy(band.row_scale()))

    def decode(self, rows: Tensor | None = None) -> Tensor:
        """Weights (R, C), or those of some rows, int64 (n,), as (n, C): scale * level in the scale's dtype."""
        codes, scale = (
            (self.codes, self.scale)
            if rows is None
            else (self.codes.index_select(0, rows), self.scale.index_select(0, rows))
        )
        levels = self.levels.to(scale.dtype)[unpack(codes, self.columns, self.bits)]
        return levels * scale[:, None]

    def linear(self, x: Tensor) -> Tensor:
        """x (N, C) -> (N, R): the product with the band's weights, without a bias."""
        if takes(x):
            product: Tensor = codebook_linear(x, self.codes, self.levels, self.scale, self.bits)
            return product
        return F.linear(x, self.decode().to(x.dtype))


class PackedWeight(nn.Module):
    """A matrix (R, C) in bands of rows. Tied layers share one.

    place: where sorted rows (``quant.sorted_rows``) lie: row r of the weight is row ``place[r]`` of the bands.
    """

    place: Tensor | None

    def __init__(self, matrix: PackedMatrix, place: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("place", place)
        self.bands = nn.ModuleList(PackedBand(band, matrix.columns) for band in matrix.bands)
        self.starts = [band.start for band in matrix.bands]

    def decode(self) -> Tensor:
        """The weights (R, C); in float32, bit for bit what the file decodes to."""
        weight = torch.cat([self._band(k).decode() for k in range(len(self.bands))])
        return weight if self.place is None else weight[self.place]

    def linear(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., R)."""
        flat = x.reshape(-1, x.shape[-1])
        parts = [self._band(k).linear(flat) for k in range(len(self.bands))]
        product = torch.cat(parts, -1)
        product = product if self.place is None else product.index_select(-1, self.place)
        return product.reshape(*x.shape[:-1], product.shape[-1])

    def rows(self, index: Tensor) -> Tensor:
        """The rows of these numbers: int64 (...,) -> (..., C). Raises IndexError for a number that no row has."""
        flat = index.reshape(-1)
        flat = flat if self.place is None else self.place.index_select(0, flat)
        found = self._band(0).decode(self._inside(flat, 0))
        for k in range(1, len(self.bands)):
            found = torch.where((flat >= self.starts[k])[:, None], self._band(k).decode(self._inside(flat, k)), found)
        return found.reshape(*index.shape, found.shape[-1])

    def _band(self, k: int) -> PackedBand:
        band = self.bands[k]
        assert isinstance(band, PackedBand)
        return band

    def _inside(self, rows: Tensor, k: int) -> Tensor:
        """Row numbers within band k, any valid ones for rows of other bands; what lies outside of all stays outside."""
        inside = rows - self.starts[k]
        inside = inside if k == 0 else inside.clamp(min=0)
        return inside if k == len(self.bands) - 1 else inside.clamp(max=len(self._band(k).scale) - 1)


class PackedLinear(nn.Module):
    """``nn.Linear`` over a packed weight; ``weight`` decodes it, for code that reads the attribute. No gradient flows
    to the weights, one does to the input."""

    def __init__(self, linear: nn.Linear, packed: PackedWeight) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed, self.bias = packed, linear.bias
        self.train(linear.training)

    @property
    def weight(self) -> Tensor:
        return self.packed.decode()

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        product = self.packed.linear(input)
        return product if self.bias is None else product + self.bias.to(product.dtype)


class PackedEmbedding(nn.Module):
    """``nn.Embedding`` over a packed weight: decodes the rows that are asked for, and no others."""

    def __init__(self, embedding: nn.Embedding, packed: PackedWeight) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx, self.packed = embedding.padding_idx, packed
        self.train(embedding.training)

    @property
    def weight(self) -> Tensor:
        return self.packed.decode()

    def forward(self, input: Tensor) -> Tensor:
        """int64 (...) -> (..., embedding_dim)."""
        return self.packed.rows(input)


def unpack(codes: Tensor, columns: int, bits: int) -> Tensor:
    """Packed rows, uint8 (R, ceil(columns / 8) * bits), to codes, int32 (R, columns)."""
    groups = codes.view(len(codes), codes.shape[1] // bits, bits).to(torch.int32)
    parts = []
    for k in range(_GROUP):
        at, shift = divmod(k * bits, 8)
        part = groups[..., at] >> shift
        if shift + bits > 8:
            part = part | groups[..., at + 1] << (8 - shift)
        parts.append(part & ((1 << bits) - 1))
    return torch.stack(parts, -1).flatten(1)[:, :columns]


def packed_twin(module: nn.Module, weight: PackedWeight) -> nn.Module | None:
    """The layer over a packed weight that computes what ``module`` computes, None where there is no such layer.

    Only layers with the forward of ``nn.Linear`` or ``nn.Embedding`` itself have one: a subclass may compute anything,
    and so may hooks and a forward of the object's own, which a new layer would not have.
    """
    forward: Any = type(module).forward
    if any(getattr(module, hooks) for hooks in _HOOKS) or "forward" in vars(module):
        return None
    if isinstance(module, nn.Linear) and forward is nn.Linear.forward:
        return PackedLinear(module, weight)
    if isinstance(module, nn.Embedding) and forward is nn.Embedding.forward and module.max_norm is None:
        return PackedEmbedding(module, weight)
    return None
