"""Layers of a packed model as ONNX nodes, in one form of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sottovoce.export.graph import FLOAT, INT32, MICROSOFT, Graph, onnx_gates
from sottovoce.export.weights import (
    BLOCK,
    ZERO_LEVEL,
    Tensor,
    WeightForm,
    decoded,
    int4_weight,
    int8_weight,
    matrix_of,
)
from sottovoce.packed import PackedModel

LAYER_NORM_EPS = 1e-5
_ROUNDED_ACTIVATIONS = 4  # accuracy_level of MatMulNBits: the other levels have no fast kernels


@dataclass(frozen=True)
class Layers:
    """Writes a model's layers into a graph. States of an LSTM are (1, N, H), sequences (T, N, K)."""

    graph: Graph
    model: PackedModel
    form: WeightForm

    def floats(self, name: str) -> str:
        """A vector or a table that is not compressed."""
        tensor = self.model.tensor(name)
        return decoded(self.graph, name, tensor)

    def dense(self, x: str, prefix: str) -> str:
        """x (..., K) -> (..., R)."""
        product = self._product(self.graph, x, f"{prefix}.weight")
        return self.graph.add("Add", product, self.floats(f"{prefix}.bias"))

    def embedding(self, tokens: str, prefix: str, *, no_history: bool = False) -> str:
        """Rows of ``{prefix}.weight`` for tokens int64 (...) -> (..., E). With ``no_history`` -1 gives zeros."""
        g, name = self.graph, self._stored(f"{prefix}.weight")
        if self.form == "int8":
            weight = int8_weight(self._tensor(name))
            levels, scale = weight.levels, weight.row_scale[:, None]
            if no_history:  # a negative index counts from the end
                levels, scale = (np.concatenate([x, np.zeros_like(x[:1])]) for x in (levels, scale))
            rows = g.add("Cast", g.add("Gather", g.weight(f"{name}.levels", levels), tokens), to=FLOAT)
            return g.add("Mul", rows, g.add("Gather", g.weight(f"{name}.row_scale", scale), tokens))
        table = self._table(name)
        if no_history:
            zeros = np.zeros((1, self._tensor(name).shape[1]), np.float32)
            table = g.add("Concat", table, g.weight(f"{name}.no_history", zeros), axis=0)
        return g.add("Gather", table, tokens)

    def layer_norm(self, x: str, prefix: str) -> str:
        """Over the last axis."""
        weights = (self.floats(f"{prefix}.{part}") for part in ("weight", "bias"))
        return self.graph.add("LayerNormalization", x, *weights, epsilon=LAYER_NORM_EPS, axis=-1)

    def lstm(
        self, x: str, prefix: str, layer: int, h: str, c: str, units: int, lengths: str = ""
    ) -> tuple[str, str, str]:
        """x (T, N, K), h and c (1, N, units), or "" for zeros -> outputs (T, N, units) and the last h and c.

        lengths int32 (N,): how much of each sequence counts.
        """
        if self.form == "int4":
            return self._looped(x, prefix, layer, h, c, units, lengths)
        g = self.graph
        if self.form == "int8":
            bias = self._lstm_bias(prefix, layer)
            weights = [self._int8_gates(f"{prefix}.weight_{what}_l{layer}") for what in ("ih", "hh")]
            (w, w_scale, w_zero), (r, r_scale, r_zero) = weights
            scales = ("", w_scale, w_zero, r_scale, r_zero)
            inputs = (x, w, r, bias, lengths, h, c)
            y, h, c = g.several("DynamicQuantizeLSTM", *inputs, *scales, outputs=3, domain=MICROSOFT, hidden_size=units)
        else:
            w, r = (self._gates(f"{prefix}.weight_{what}_l{layer}") for what in ("ih", "hh"))
            inputs = (x, w, r, self._lstm_bias(prefix, layer), lengths, h, c)
            y, h, c = g.several("LSTM", *inputs, outputs=3, hidden_size=units)
        return g.add("Squeeze", y, g.integers(1)), h, c

    def _stored(self, name: str) -> str:
        return self.model.aliases.get(name, name)

    def _tensor(self, name: str) -> Tensor:
        return self.model.tensor(name)

    def _table(self, name: str) -> str:
        """A weight as floats (R, C)."""
        tensor = self._tensor(name)
        if self.form == "float":
            return self.graph.weight(name, matrix_of(tensor))
        return decoded(self.graph, name, tensor)

    def _product(self, g: Graph, x: str, name: str) -> str:
        """x (..., K) times a weight (R, K), transposed; in a graph, or in the body of a loop of it."""
        name = self._stored(name)
        if self.form == "int8":
            return self._int8_product(x, name)
        if self.form == "int4":
            return self._int4_product(g, x, name)
        tied = name in self.model.aliases.values()
        if self.form == "float" and not tied:  # as quantizers of others want it
            return g.add("MatMul", x, g.weight(f"{name}.transposed", matrix_of(self._tensor(name)).T))
        return g.add("MatMul", x, g.add("Transpose", self._table(name), perm=[1, 0]))

    def _int8_product(self, x: str, name: str) -> str:
        g, weight = self.graph, int8_weight(self._tensor(name))
        q, scale, zero = g.several("DynamicQuantizeLinear", x, outputs=3)
        levels = g.weight(f"{name}.levels_transposed", weight.unsigned().T)
        zeros = (zero, g.constant("zero_level", np.array(ZERO_LEVEL)))
        product = g.add("Cast", g.add("MatMulInteger", q, levels, *zeros), to=FLOAT)
        return g.add("Mul", product, g.add("Mul", scale, g.weight(f"{name}.scale_of_rows", weight.row_scale)))

    def _int4_product(self, g: Graph, x: str, name: str) -> str:
        weight = int4_weight(self._tensor(name))
        stored = g.weight(f"{name}.nibbles", weight.codes), g.weight(f"{name}.block_scale", weight.scale.reshape(-1))
        sizes = {"K": weight.columns, "N": len(weight.scale), "bits": 4, "block_size": BLOCK}
        level = {"accuracy_level": _ROUNDED_ACTIVATIONS}
        return g.add("MatMulNBits", x, *stored, domain=MICROSOFT, **sizes, **level)

    def _lstm_bias(self, prefix: str, layer: int) -> str:
        """The two biases one after the other, (1, 8H)."""
        parts = [onnx_gates(self.model.decode(f"{prefix}.bias_{what}_l{layer}")) for what in ("ih", "hh")]
        return self.graph.weight(f"{prefix}.bias_l{layer}", np.concatenate(parts)[None])

    def _gates(self, name: str) -> str:
        """An LSTM's weight in ONNX's order of gates, (1, 4H, K)."""
        g = self.graph
        if self.form == "float" or isinstance(self._tensor(name), np.ndarray):
            return g.weight(f"{name}.onnx", onnx_gates(matrix_of(self._tensor(name)))[None])
        units = self._tensor(name).shape[0] // 4
        i, f, cell, o = g.split(self._table(name), [units] * 4, axis=0)
        return g.add("Unsqueeze", g.concat([i, o, f, cell], axis=0), g.integers(0))

    def _int8_gates(self, name: str) -> tuple[str, str, str]:
        """Levels (1, K, 4H), a scale and the zero of each row, both (1, 4H), in ONNX's order of gates."""
        g, weight = self.graph, int8_weight(self._tensor(name))
        levels, scale = onnx_gates(weight.unsigned()), onnx_gates(weight.row_scale)
        return (
            g.weight(f"{name}.levels", levels.T[None]),
            g.weight(f"{name}.row_scale", scale[None]),
            g.weight(f"{name}.zeros", np.full((1, len(scale)), ZERO_LEVEL)),
        )

    def _looped(
        self, x: str, prefix: str, layer: int, h: str, c: str, units: int, lengths: str
    ) -> tuple[str, str, str]:
        """An LSTM whose products are MatMulNBits: the input's for all frames at once, the recurrent one in a loop."""
        g = self.graph
        biases = [self.model.decode(f"{prefix}.bias_{what}_l{layer}") for what in ("ih", "hh")]
        bias = g.weight(f"{prefix}.bias_sum_l{layer}", biases[0] + biases[1])
        projected = g.add("Add", self._product(g, x, f"{prefix}.weight_ih_l{layer}"), bias)
        zeros = "" if h and c else self._zero_state(x, units)
        h, c = (g.add("Squeeze", state, g.integers(0)) if state else zeros for state in (h, c))
        body = g.body(f"cell_{prefix.replace('.', '_')}_{layer}")
        before = [body.input(f"{prefix}.{name}_{layer}", "N", units) for name in ("h_before", "c_before")]
        gates = body.input(f"{prefix}.gates_{layer}", "N", 4 * units)
        scanned = [projected]
        if lengths:
            step = body.input(f"{prefix}.step_{layer}", 1, kind=INT32)
            scanned.append(self._steps(x))
        gates = body.add("Add", gates, self._product(body, before[0], f"{prefix}.weight_hh_l{layer}"))
        after = list(_cell(body, gates, before[1], units))
        if lengths:
            counts = body.add("Unsqueeze", body.add("Less", step, lengths), body.integers(1))
            after = [body.add("Where", counts, new, old) for new, old in zip(after, before, strict=True)]
        for value, name in zip((*after, after[0]), ("h", "c", "y"), strict=True):
            body.output(value, f"{prefix}.{name}_after_{layer}", "N", units)
        h, c, y = g.scan(body, [h, c], scanned)
        return y, g.add("Unsqueeze", h, g.integers(0)), g.add("Unsqueeze", c, g.integers(0))

    def _zero_state(self, x: str, units: int) -> str:
        """Zeros (N, units) for x (T, N, K)."""
        g = self.graph
        n = g.add("Shape", x, start=1, end=2)
        return g.add("Expand", g.number(0.0), g.concat([n, g.integers(units)], axis=0))

    def _steps(self, x: str) -> str:
        """0 to T - 1, int32 (T, 1), for x (T, N, K)."""
        g = self.graph
        length = g.add("Squeeze", g.add("Shape", x, start=0, end=1), g.integers(0))
        zero, one = (g.scalar(v) for v in (0, 1))
        return g.add("Unsqueeze", g.add("Cast", g.add("Range", zero, length, one), to=INT32), g.integers(1))


def _cell(g: Graph, gates: str, c: str, units: int) -> tuple[str, str]:
    """Gates i, f, g, o (N, 4H) and c (N, H) -> the next h and c."""
    i, f, cell, o = g.split(gates, [units] * 4, axis=1)
    kept = g.add("Mul", g.add("Sigmoid", f), c)
    c = g.add("Add", kept, g.add("Mul", g.add("Sigmoid", i), g.add("Tanh", cell)))
    return g.add("Mul", g.add("Sigmoid", o), g.add("Tanh", c)), c
