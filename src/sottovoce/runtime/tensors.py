"""Layers out of a packed model: every tensor is looked up by name and its shape is checked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.runtime.arithmetic import Floats
from sottovoce.runtime.layers import Dense, EmbeddingRows, LayerNorm, LstmLayer, Tensor, Weight, as_floats, as_weight
from sottovoce.runtime.rules import Rules, rules_of


@dataclass(frozen=True)
class TensorReader:
    """Reads the tensors of one model, for layers that keep the rules.

    All methods raise FormatError naming a tensor that is missing, misshapen or, as a weight, against the rules.
    """

    model: PackedModel
    rules: Rules = field(default_factory=lambda: rules_of("int8"))

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name, or the one that it is an alias of."""
        tensor = self.model.tensors.get(self.model.aliases.get(name, name))
        if tensor is None:
            raise FormatError(f"{name}: expected a tensor of shape {shape}, found none of that name")
        if tuple(tensor.shape) != shape:
            raise FormatError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")
        if not isinstance(tensor, PackedMatrix) and not np.issubdtype(tensor.dtype, np.floating):
            raise FormatError(f"{name}: expected floats, found {tensor.dtype}")
        return tensor

    def floats(self, name: str, *shape: int) -> Floats:
        return as_floats(self.tensor(name, *shape))

    def weight(self, name: str, rows: int, columns: int) -> Weight:
        return as_weight(self.tensor(name, rows, columns), name, self.rules)

    def dense(self, prefix: str, rows: int, columns: int) -> Dense:
        """``{prefix}.weight`` (rows, columns) and ``{prefix}.bias`` (rows,)."""
        return Dense(self.weight(f"{prefix}.weight", rows, columns), self.floats(f"{prefix}.bias", rows))

    def embedding(self, prefix: str, rows: int, columns: int) -> EmbeddingRows:
        return EmbeddingRows(self.floats(f"{prefix}.weight", rows, columns))

    def layer_norm(self, prefix: str, width: int) -> LayerNorm:
        """``{prefix}.weight`` and ``{prefix}.bias``, (width,) each."""
        return LayerNorm(self.floats(f"{prefix}.weight", width), self.floats(f"{prefix}.bias", width))

    def lstm(self, prefix: str, layer: int, columns: int, units: int) -> LstmLayer:
        """Layer ``layer`` of the PyTorch LSTM called ``prefix``: weight_ih_l{layer} (4 units, columns) and the rest."""
        return LstmLayer(
            self.weight(f"{prefix}.weight_ih_l{layer}", 4 * units, columns),
            self.weight(f"{prefix}.weight_hh_l{layer}", 4 * units, units),
            self.floats(f"{prefix}.bias_ih_l{layer}", 4 * units) + self.floats(f"{prefix}.bias_hh_l{layer}", 4 * units),
            self.rules.lstm_cell,
        )
