"""The parts of a packed RNN-T as ONNX nodes, whatever the contract of inputs and outputs around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from sottovoce.export.graph import INT32, INT64, Graph
from sottovoce.export.layers import Layers
from sottovoce.packed import Pcen, RnntArchitecture


@dataclass(frozen=True)
class EncoderState:
    """history (N, stack - stride, F), normalized, "" where there is none; mean (N, F), PCEN's, or ""; h and c of each
    layer, (1, N, H)."""

    history: str
    mean: str
    h: tuple[str, ...]
    c: tuple[str, ...]


def encoder(layers: Layers, a: RnntArchitecture, features: str, state: EncoderState) -> tuple[str, EncoderState]:
    """features (N, T, F), T a multiple of the subsampling -> frames (N, T', J) and the next state."""
    g, mean = layers.graph, state.mean
    if a.pcen is not None:
        features, mean = _pcen(g, features, mean, a.pcen)
    x = g.add("Mul", g.add("Sub", features, layers.floats("encoder.mean")), layers.floats("encoder.istd"))
    kept = a.stack - a.stride
    history = ""
    if kept:
        x = g.add("Concat", state.history, x, axis=1)
        history = g.slice(x, -kept, _END, axis=1)
    x = g.add("Transpose", _stacked(g, x, a), perm=[1, 0, 2])  # (T, N, K)
    after: list[tuple[str, str]] = []
    for i in range(a.encoder_layers):
        x, h, c = layers.lstm(x, f"encoder.layers.{i}", 0, state.h[i], state.c[i], a.encoder_units)
        after.append((h, c))
        x = layers.layer_norm(x, f"encoder.norms.{i}") if a.layer_norm else x
        if i + 1 == a.reduction_after and a.reduction > 1:
            x = _joined(g, x, a)
    frames = layers.dense(g.add("Transpose", x, perm=[1, 0, 2]), "encoder.projection")
    return frames, EncoderState(history, mean, *(tuple(part) for part in zip(*after, strict=True)))


_END = np.iinfo(np.int64).max


def _stacked(g: Graph, x: str, a: RnntArchitecture) -> str:
    """(N, stack - stride + T, F) -> (N, T / stride, stack * F): windows, the oldest frame first."""
    if a.stack == a.stride:
        return g.reshape(x, 0, -1, a.stack * a.features)
    ends = [_END if last == 0 else -last for last in range(a.stack - 1, -1, -1)]
    return g.concat([g.slice(x, first, end, 1, a.stride) for first, end in enumerate(ends)], axis=2)


def _joined(g: Graph, x: str, a: RnntArchitecture) -> str:
    """Neighbouring outputs side by side: (T, N, H) -> (T / reduction, N, reduction * H)."""
    rows = g.reshape(g.add("Transpose", x, perm=[1, 0, 2]), 0, -1, a.reduction * a.encoder_units)
    return g.add("Transpose", rows, perm=[1, 0, 2])


def _pcen(g: Graph, features: str, mean: str, pcen: Pcen) -> tuple[str, str]:
    """``runtime.pcen``: log-mel (N, T, F) and the running mean (N, F) -> normalized (N, T, F), the next mean."""
    energy = g.add("Exp", features)
    body = g.body("pcen")
    before = body.input("pcen_before", "N", "F")
    share = body.input("pcen_energy", "N", "F")
    kept = body.add("Mul", before, body.number(1 - pcen.smoothing))
    level = body.add("Add", kept, share)
    body.output(level, "pcen_after", "N", "F")
    body.output(level, "pcen_level", "N", "F")
    weighted = g.add("Transpose", g.add("Mul", energy, g.number(pcen.smoothing)), perm=[1, 0, 2])
    mean, levels = g.scan(body, [mean], [weighted])
    levels = g.add("Add", g.add("Transpose", levels, perm=[1, 0, 2]), g.number(Pcen.FLOOR))
    gain = g.add("Exp", g.add("Mul", g.add("Log", levels), g.number(-pcen.gain)))
    root = g.add("Sqrt", g.add("Add", g.add("Mul", energy, gain), g.number(pcen.bias)))
    return g.add("Sub", root, g.number(sqrt(pcen.bias))), mean


def predictor_step(
    layers: Layers, a: RnntArchitecture, tokens: str, h: Sequence[str], c: Sequence[str]
) -> tuple[str, list[str], list[str]]:
    """tokens int64 (N,), -1 for "no history"; h and c of each layer (1, N, P) -> output (N, J), the next h and c."""
    g = layers.graph
    x = g.add("Unsqueeze", layers.embedding(tokens, "predictor.embedding", no_history=True), g.integers(0))
    after: list[tuple[str, str]] = []
    for i in range(a.predictor_layers):
        x, *states = layers.lstm(x, "predictor.lstm", i, h[i], c[i], a.predictor_units)
        after.append((states[0], states[1]))
    output = layers.dense(g.add("Squeeze", x, g.integers(0)), "predictor.projection")
    return output, [pair[0] for pair in after], [pair[1] for pair in after]


def predictor_window(layers: Layers, a: RnntArchitecture, window: str, width: int) -> str:
    """The predictor as a function of the last ``width`` tokens: int64 (N, width) -> output (N, J).

    As icefall's searches fill it: -1, where there was nothing yet, comes before the blank (0), which stands for the
    start, and tokens after that. The LSTM begins from zeros at the first entry that is not -1.
    """
    g = layers.graph
    zero = g.scalar(0)
    there = g.add("Cast", g.add("Not", g.add("Less", window, zero)), to=INT64)
    count = g.add("Max", g.add("ReduceSum", there, g.integers(1), keepdims=1), g.integers(1))  # (N, 1)
    places = g.weight("places", np.arange(width, dtype=np.int64))
    behind = g.add("Sub", g.integers(width), count)
    index = g.add("Min", g.add("Add", places, behind), g.integers(width - 1))
    tokens = g.add("GatherElements", window, index, axis=1)  # what counts comes first
    longest = g.add("ReduceMax", count, axes=[0], keepdims=0)
    tokens = g.add("Slice", tokens, g.integers(0), longest, g.integers(1))
    tokens = g.add("Where", g.add("Greater", tokens, zero), tokens, g.integers(-1))
    x = layers.embedding(tokens, "predictor.embedding", no_history=True)
    x = g.add("Transpose", x, perm=[1, 0, 2])
    lengths = g.add("Cast", g.add("Squeeze", count, g.integers(1)), to=INT32)
    h = ""
    for i in range(a.predictor_layers):
        x, h, _ = layers.lstm(x, "predictor.lstm", i, "", "", a.predictor_units, lengths)
    return layers.dense(g.add("Squeeze", h, g.integers(0)), "predictor.projection")


def joiner(layers: Layers, frames: str, predicted: str) -> str:
    """(..., J) and (..., J) -> logits (..., V)."""
    g = layers.graph
    return layers.dense(g.add("Tanh", g.add("Add", frames, predicted)), "joiner.output")
