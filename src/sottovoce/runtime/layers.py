"""Layers of packed networks: dense, embedding, LSTM; on integers, or on float weights.

A product with packed weights is ``float32(sum q * level) * (row_scale * s)``: the sum is an exact integer, the two
scales are multiplied first, then the bias is added. A product with float weights is NumPy's matmul, whose last bits
depend on the shape of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed.matrix import PackedMatrix
from sottovoce.runtime.arithmetic import Floats, check_columns, exact_product, layer_norm, lstm_cell, round_activations
from sottovoce.runtime.rules import Cell, Round, Rules, rules_of

Tensor = PackedMatrix | NDArray[Any]


@dataclass(frozen=True)
class IntegerWeight:
    """A packed matrix, expanded: levels float32 (R, K) that are int8 values, row_scale float32 (R,); ``round`` is what
    makes integers of the vectors that it multiplies."""

    levels: Floats
    row_scale: Floats
    round: Round = round_activations

    def product(self, x: Floats) -> Floats:
        """x float32 (N, K), quantized here, one scale a row -> float32 (N, R)."""
        q, scale = self.round(x)
        y = exact_product(q, self.levels)
        y *= self.row_scale * scale
        return y


@dataclass(frozen=True)
class FloatWeight:
    """A float32 matrix (R, K)."""

    values: Floats

    def product(self, x: Floats) -> Floats:
        """x float32 (N, K) -> float32 (N, R)."""
        product: Floats = np.matmul(x, self.values.T)
        return product


Weight = IntegerWeight | FloatWeight


def as_floats(tensor: Tensor) -> Floats:
    """The tensor decoded to float32."""
    values = tensor.decode() if isinstance(tensor, PackedMatrix) else tensor
    return np.ascontiguousarray(values, dtype=np.float32)


def as_weight(tensor: Tensor, name: str, rules: Rules | None = None) -> Weight:
    """A packed matrix works on integers where the rules (int8 by default) round; a float array always on floats.

    Raises FormatError for a packed matrix of more than 65,536 columns, or a float array where rules want packed ones.
    """
    rules = rules or rules_of("int8")
    if rules.packed_only and not isinstance(tensor, PackedMatrix):
        raise FormatError(f"{name}: this arithmetic expects a packed matrix, found {tensor.dtype}")
    if rules.round is None or not isinstance(tensor, PackedMatrix):
        return FloatWeight(as_floats(tensor))
    levels = tensor.level_matrix()
    check_columns(levels.shape[1], name)
    return IntegerWeight(levels.astype(np.float32), tensor.row_scale(), rules.round)


@dataclass(frozen=True)
class Dense:
    """x W^T + b; bias float32 (R,)."""

    weight: Weight
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        """x float32 (..., K) -> float32 (..., R)."""
        y = self.weight.product(x.reshape(-1, x.shape[-1]))
        y += self.bias
        return y.reshape(*x.shape[:-1], y.shape[-1])


@dataclass(frozen=True)
class EmbeddingRows:
    """A table float32 (V, E), decoded once: a lookup needs no arithmetic."""

    table: Floats

    def __call__(self, tokens: NDArray[np.int64]) -> Floats:
        """tokens int64 (N,) -> float32 (N, E); a negative id ("no history") gives a zero vector."""
        rows = self.table[np.maximum(tokens, 0)]
        rows[tokens < 0] = 0
        return rows


@dataclass(frozen=True)
class LayerNorm:
    """``arithmetic.layer_norm`` with weight and bias float32 (K,)."""

    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        """x float32 (..., K) -> float32 (..., K)."""
        return layer_norm(x, self.weight, self.bias)


@dataclass(frozen=True)
class LstmLayer:
    """One LSTM layer, gates in PyTorch's order i, f, g, o; bias float32 (4H,) is bias_ih + bias_hh in float32.

    Gates are (input product + recurrent product) + bias; ``cell`` does the rest.
    """

    input_weight: Weight
    recurrent_weight: Weight
    bias: Floats
    cell: Cell = lstm_cell

    @property
    def units(self) -> int:
        return len(self.bias) // 4

    def project(self, x: Floats) -> Floats:
        """The input product, which all frames of a chunk share: x float32 (M, K) -> float32 (M, 4H)."""
        return self.input_weight.product(x)

    def step(self, projected: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
        """One frame: projected, the input product, float32 (N, 4H); h and c float32 (N, H) -> new h and c."""
        gates = self.recurrent_weight.product(h)
        gates += projected  # addition commutes to the bit
        gates += self.bias
        return self.cell(gates, c)

    def __call__(self, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        """A chunk: x float32 (N, T, K) -> outputs float32 (N, T, H) and the last h, c; T may be 0.

        The input product of all frames is one pass over the weights; only the recurrent product goes frame by frame.
        """
        n, frames, columns = x.shape
        projected = self.project(x.reshape(n * frames, columns)).reshape(n, frames, 4 * self.units)
        outputs = np.empty((n, frames, self.units), np.float32)
        for t in range(frames):
            h, c = self.step(projected[:, t], h, c)
            outputs[:, t] = h
        return outputs, h, c
