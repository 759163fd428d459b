"""ONNX graphs made with ``onnx.helper``: nodes, weights, inputs and outputs as they come; bodies of loops too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sottovoce.errors import ExportError

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
OPSET = 17
"""LayerNormalization came with it; every ONNX Runtime from 1.13 on takes it. Unpacking codes wants 11."""
IR_VERSION = 8
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
Size = int | str
"""A dimension: a number, or the name of one that a caller chooses."""


class Graph:
    """Collects one graph. Values are names; the same weight under the same name is stored once."""

    def __init__(self, name: str, prefix: str = "v", constants: str = "") -> None:
        """prefix, constants: what names of values, and of small constants, begin with."""
        self._name, self._prefix, self._constants = name, prefix, constants
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._domains = {""}

    def input(self, name: str, *shape: Size, kind: int = FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, *shape: Size, kind: int = FLOAT) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """A stored tensor; the first array of a name stays."""
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A small array that the name describes."""
        return self.weight(self._constants + name, array)

    def scalar(self, value: int) -> str:
        """A constant int64 scalar."""
        return self.constant(f"scalar_{value}", np.array(value, np.int64))

    def integers(self, *values: int) -> str:
        """A constant int64 (K,)."""
        return self.constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A constant float32 scalar."""
        return self.constant(f"number_{value!r}", np.array(value, np.float32))

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node of one output."""
        return self.several(op, *inputs, outputs=1, domain=domain, **attributes)[0]

    def several(self, op: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """A node of several outputs."""
        names = [f"{self._prefix}{len(self._nodes)}_{k}" for k in range(outputs)]
        self._domains.add(domain)
        self._nodes.append(helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        return names

    def slice(self, value: str, start: int, stop: int, axis: int, step: int = 1) -> str:
        bounds = (self.integers(x) for x in (start, stop, axis, step))
        return self.add("Slice", value, *bounds)

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        if len(sizes) == 1:
            return [value]
        return self.several("Split", value, self.integers(*sizes), outputs=len(sizes), axis=axis)

    def concat(self, values: Sequence[str], axis: int) -> str:
        return values[0] if len(values) == 1 else self.add("Concat", *values, axis=axis)

    def reshape(self, value: str, *shape: int) -> str:
        """0 keeps a dimension, -1 is what is left."""
        return self.add("Reshape", value, self.integers(*shape))

    def body(self, name: str) -> Graph:
        """A graph for a loop in this one, whose values it may read; ``scan`` takes it.

        ONNX wants names that no graph around it has, those of constants too.
        """
        prefix = f"{name}_{len(self._nodes)}_"
        return Graph(name, prefix=prefix, constants=prefix)

    def scan(self, body: Graph, states: Sequence[str], scanned: Sequence[str]) -> list[str]:
        """Run a body along axis 0 of what is scanned: final states, then stacked outputs."""
        self._domains |= body._domains
        return self.several(
            "Scan", *states, *scanned, outputs=len(body._outputs), body=body.proto(), num_scan_inputs=len(scanned)
        )

    def proto(self) -> onnx.GraphProto:
        return helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, initializer=list(self._weights.values())
        )

    def model(self, metadata: Mapping[str, object] | None = None, opset: int = OPSET) -> onnx.ModelProto:
        """The whole model, checked by ``onnx.checker``. Raises ExportError for 2 GiB and more, which no file holds."""
        versions = [helper.make_opsetid(domain, 1 if domain else opset) for domain in sorted(self._domains)]
        made = helper.make_model(self.proto(), opset_imports=versions, ir_version=IR_VERSION, producer_name="sottovoce")
        helper.set_model_props(made, {key: str(value) for key, value in (metadata or {}).items()})
        check_size(made, self._name)
        onnx.checker.check_model(made)
        return made


def check_size(model: onnx.ModelProto, name: str) -> None:
    """Raises ExportError where a model is too large for a file."""
    most = onnx.checker.MAXIMUM_PROTOBUF
    try:
        fits = model.ByteSize() <= most
    except EncodeError:  # what protobuf cannot count either
        fits = False
    if not fits:
        raise ExportError(f"{name}.onnx: expected at most {most:,} bytes, which is what an ONNX file holds, found more")


def onnx_gates(rows: NDArray[Any]) -> NDArray[Any]:
    """Gates in PyTorch's order i, f, g, o to ONNX's i, o, f, c: (4H, ...)."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])
