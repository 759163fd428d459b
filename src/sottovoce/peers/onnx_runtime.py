"""ONNX Runtime on the CPU: float32, or its dynamic int8 (``quantize_dynamic``)."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.packed import PackedModel, RnntArchitecture
from sottovoce.peers.onnx_graph import encoder_graph, joiner_graph, predictor_graph
from sottovoce.runtime.pcen import pcen, pcen_start

_QUANTIZED = ["LSTM", "MatMul"]


class OnnxRuntime:
    """One stream; encoder, predictor and joiner are sessions of their own, as recognizers on ONNX Runtime have them."""

    def __init__(self, model: PackedModel, *, int8: bool, num_threads: int = 1) -> None:
        a = self.architecture = RnntArchitecture.from_dict(model.architecture)
        self._int8, self._operators = int8, Counter[str]()
        self._encoder, self._predictor, self._joiner = (
            self._session(graph, num_threads)
            for graph in (encoder_graph(model, a), predictor_graph(model, a), joiner_graph(model, a))
        )

    def _session(self, graph: onnx.ModelProto, num_threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads would spin on into the turn of the next system.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # On x86 without a dot product of bytes its products of int8 weights would saturate: there, exact ones of uint8.
        options.add_session_config_entry("session.x64quantprecision", "1")
        with TemporaryDirectory() as folder:
            path, optimized = Path(folder) / "model.onnx", Path(folder) / "optimized.onnx"
            onnx.save(graph, path)
            if self._int8:
                path = _quantized(path)
            options.optimized_model_filepath = str(optimized)
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self._operators.update(node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node)
        return session

    @property
    def description(self) -> str:
        heavy = {n: k for n, k in sorted(self._operators.items()) if "LSTM" in n or "MatMul" in n or "Gemm" in n}
        operators = ", ".join(f"{count} {name}" for name, count in heavy.items())
        return f"ONNX Runtime {onnxruntime.__version__}: {operators}"

    @property
    def operators(self) -> dict[str, int]:
        """How many operators of each type run, after the engine's own optimization."""
        return dict(self._operators)

    @property
    def vocabulary(self) -> int:
        return self.architecture.vocabulary

    def encoder_start(self, n: int) -> State:
        a = self.architecture
        history = np.zeros((n, a.stack - a.stride, a.features), np.float32)
        return (pcen_start(n, a.features if a.pcen else 0), history, *_zeros(a.encoder_layers, n, a.encoder_units))

    def encoder_step(self, features: Floats, state: State) -> tuple[Floats, State]:
        """features float32 (1, subsampling, F): one encoder frame (1, 1, J)."""
        a = self.architecture
        mean, history, *lstm = state
        if a.pcen is not None:
            features, mean = pcen(features, mean, a.pcen)
        feeds = {"features": features, **_named(lstm)}
        if history.shape[1]:
            history, *after = self._encoder.run(None, {**feeds, "history": history})
        else:
            after = self._encoder.run(None, feeds)
        return after[-1], (mean, history, *after[:-1])

    def predictor_start(self, n: int) -> State:
        return _zeros(self.architecture.predictor_layers, n, self.architecture.predictor_units)

    def predictor_step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        *after, output = self._predictor.run(None, {"tokens": tokens, **_named(list(state))})
        return output, tuple(after)

    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        log_probabilities: Floats = self._joiner.run(None, {"encoder": encoder, "predictor": predictor})[0]
        return log_probabilities


def _quantized(path: Path) -> Path:
    """The file beside it with int8 weights, a scale for each tensor, the fastest of the choices."""
    to = path.with_name("int8.onnx")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # advice to run a preprocessor, on the root logger
    try:
        quantize_dynamic(path, to, op_types_to_quantize=_QUANTIZED, weight_type=QuantType.QInt8)
    finally:
        logger.setLevel(level)
    return to


def _zeros(layers: int, n: int, units: int) -> State:
    return tuple(np.zeros((1, n, units), np.float32) for _ in range(2 * layers))


def _named(lstm: list[Any]) -> dict[str, Any]:
    return {f"{'hc'[k % 2]}{k // 2}": array for k, array in enumerate(lstm)}
