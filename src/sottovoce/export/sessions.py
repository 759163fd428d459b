"""ONNX graphs run in ONNX Runtime, to check them: values in the order of a graph's inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from sottovoce.errors import ExportError

_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


class Session:
    """One graph, on one thread. Raises ExportError where ONNX Runtime does not take it."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            made = graph.SerializeToString()
            session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no other base
            line = " ".join(str(error).split())[:300]
            name, version = graph.graph.name, onnxruntime.__version__
            raise ExportError(f"{name}: ONNX Runtime {version} refuses the graph: {line}") from error
        self._session, self._inputs = session, session.get_inputs()

    def __call__(self, *values: NDArray[Any]) -> list[NDArray[Any]]:
        """Outputs, in their order, for inputs in theirs."""
        feeds = {one.name: value for one, value in zip(self._inputs, values, strict=True)}
        found: list[NDArray[Any]] = self._session.run(None, feeds)
        return found

    def zeros(self, **sizes: int) -> dict[str, NDArray[Any]]:
        """An array of zeros for each input by name, its named dimensions as given."""
        return {
            one.name: np.zeros([x if isinstance(x, int) else sizes[x] for x in one.shape], _TYPES[one.type])
            for one in self._inputs
        }
