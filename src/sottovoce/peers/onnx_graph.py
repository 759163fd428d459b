"""A packed RNN-T as three ONNX graphs of float32 weights: encoder frame, predictor step, joiner, for one stream.

Weights are decoded; LSTMs are the standard LSTM operator, which ONNX Runtime's dynamic quantization knows. Every graph
takes states as inputs and returns them as outputs, all of fixed shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sottovoce.packed import PackedModel, RnntArchitecture

OPSET = 17
IR_VERSION = 8
LAYER_NORM_EPS = 1e-5


class _Graph:
    """Collects the nodes, weights, inputs and outputs of one graph."""

    def __init__(self, name: str, model: PackedModel) -> None:
        self._name, self._model = name, model
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def decoded(self, name: str) -> NDArray[np.float32]:
        return self._model.decode(name)

    def input(self, name: str, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, *shape: int) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def weight(self, name: str, array: NDArray[Any]) -> str:
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def shape(self, *sizes: int) -> str:
        return self.weight("sizes_" + "_".join(map(str, sizes)), np.array(sizes, np.int64))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self._nodes)}_{k}" for k in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, prefix: str) -> str:
        weight = self.weight(f"{prefix}.weight", self.decoded(f"{prefix}.weight").T)
        product = self.add("MatMul", x, weight)
        return str(self.add("Add", product, self.weight(f"{prefix}.bias", self.decoded(f"{prefix}.bias"))))

    def lstm(self, x: str, prefix: str, layer: int, h: str, c: str, units: int) -> tuple[str, str, str]:
        """x (T, 1, K), h and c (1, 1, units) -> outputs (T, 1, units) and the last h, c."""
        name = f"{prefix}.{layer}" if layer else prefix
        matrices = [
            self.weight(f"{name}.{what}", _gates(self.decoded(f"{prefix}.weight_{what}_l{layer}"))[None])
            for what in ("ih", "hh")
        ]
        biases = [_gates(self.decoded(f"{prefix}.bias_{what}_l{layer}")) for what in ("ih", "hh")]
        bias = self.weight(f"{name}.bias", np.concatenate(biases)[None])
        y, h, c = self.add("LSTM", x, *matrices, bias, "", h, c, outputs=3, hidden_size=units)
        return str(self.add("Squeeze", y, self.shape(1))), h, c

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, initializer=list(self._weights.values())
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return made


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gates in PyTorch's order i, f, g, o to ONNX's i, o, f, c."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])


def encoder_graph(model: PackedModel, a: RnntArchitecture) -> onnx.ModelProto:
    """Inputs features (1, subsampling, F) after any PCEN, history (1, stack - stride, F), h and c of each layer (1, 1,
    H); outputs frames (1, 1, J), the next history and states."""
    g = _Graph("encoder", model)
    kept = a.stack - a.stride
    features = g.input("features", 1, a.subsampling, a.features)
    x = g.add("Sub", features, g.weight("encoder.mean", g.decoded("encoder.mean")))
    x = g.add("Mul", x, g.weight("encoder.istd", g.decoded("encoder.istd")))
    if kept:
        x = g.add("Concat", g.input("history", 1, kept, a.features), x, axis=1)
        last = g.add("Slice", x, g.shape(a.subsampling), g.shape(a.subsampling + kept), g.shape(1))
        g.output(last, "history_after", 1, kept, a.features)
    windows = [
        g.add("Slice", x, g.shape(start), g.shape(start + a.stack), g.shape(1))
        for start in range(0, a.subsampling, a.stride)
    ]
    joined = windows[0] if len(windows) == 1 else g.add("Concat", *windows, axis=0)
    x = g.add("Reshape", joined, g.shape(len(windows), 1, a.stack * a.features))
    for i in range(a.encoder_layers):
        h, c = (g.input(f"{what}{i}", 1, 1, a.encoder_units) for what in "hc")
        x, h, c = g.lstm(x, f"encoder.layers.{i}", 0, h, c, a.encoder_units)
        g.output(h, f"h{i}_after", 1, 1, a.encoder_units)
        g.output(c, f"c{i}_after", 1, 1, a.encoder_units)
        if a.layer_norm:
            names = [f"encoder.norms.{i}.{what}" for what in ("weight", "bias")]
            x = g.add("LayerNormalization", x, *(g.weight(n, g.decoded(n)) for n in names), epsilon=LAYER_NORM_EPS)
        if i + 1 == a.reduction_after:
            x = g.add("Reshape", x, g.shape(1, 1, a.reduction * a.encoder_units))
    g.output(g.dense(x, "encoder.projection"), "frames", 1, 1, a.joiner_units)
    return g.model()


def predictor_graph(model: PackedModel, a: RnntArchitecture) -> onnx.ModelProto:
    """Inputs tokens int64 (1,), -1 for "no history", h and c of each layer (1, 1, P); outputs (1, J) and the states."""
    g = _Graph("predictor", model)
    table = g.decoded("predictor.embedding.weight")
    table = np.concatenate([table, np.zeros_like(table[:1])])  # -1 is the last row
    embedded = g.add("Gather", g.weight("embedding", table), g.input("tokens", 1, kind=TensorProto.INT64))
    x = g.add("Reshape", embedded, g.shape(1, 1, a.embedding))
    for i in range(a.predictor_layers):
        h, c = (g.input(f"{what}{i}", 1, 1, a.predictor_units) for what in "hc")
        x, h, c = g.lstm(x, "predictor.lstm", i, h, c, a.predictor_units)
        g.output(h, f"h{i}_after", 1, 1, a.predictor_units)
        g.output(c, f"c{i}_after", 1, 1, a.predictor_units)
    x = g.add("Reshape", x, g.shape(1, a.predictor_units))
    g.output(g.dense(x, "predictor.projection"), "output", 1, a.joiner_units)
    return g.model()


def joiner_graph(model: PackedModel, a: RnntArchitecture) -> onnx.ModelProto:
    """Inputs encoder and predictor (1, J); output log_probabilities (1, V)."""
    g = _Graph("joiner", model)
    both = g.add("Add", g.input("encoder", 1, a.joiner_units), g.input("predictor", 1, a.joiner_units))
    logits = g.dense(g.add("Tanh", both), "joiner.output")
    g.output(g.add("LogSoftmax", logits, axis=-1), "log_probabilities", 1, a.vocabulary)
    return g.model()
