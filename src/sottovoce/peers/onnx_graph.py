"""A packed RNN-T as three ONNX graphs of float32 weights: encoder frame, predictor step, joiner, for one stream.

Layers are the exporter's; shapes are fixed and states apart, so that an engine is measured at its best.
"""

from __future__ import annotations

from dataclasses import replace

import onnx

from sottovoce.export.graph import INT64, Graph
from sottovoce.export.layers import Layers
from sottovoce.export.rnnt import EncoderState, encoder, joiner, predictor_step
from sottovoce.packed import PackedModel, RnntArchitecture


def encoder_graph(model: PackedModel, a: RnntArchitecture) -> onnx.ModelProto:
    """Inputs features (1, subsampling, F) after any PCEN, history (1, stack - stride, F), h and c of each layer (1, 1,
    H); outputs frames (1, 1, J), the next history and states."""
    g = Graph("encoder")
    kept = a.stack - a.stride
    features = g.input("features", 1, a.subsampling, a.features)
    history = g.input("history", 1, kept, a.features) if kept else ""
    h, c = (tuple(g.input(f"{what}{i}", 1, 1, a.encoder_units) for i in range(a.encoder_layers)) for what in "hc")
    state = EncoderState(history, "", h, c)
    frames, after = encoder(Layers(g, model, "float"), replace(a, pcen=None), features, state)
    if kept:
        g.output(after.history, "history_after", 1, kept, a.features)
    for i in range(a.encoder_layers):
        g.output(after.h[i], f"h{i}_after", 1, 1, a.encoder_units)
        g.output(after.c[i], f"c{i}_after", 1, 1, a.encoder_units)
    g.output(frames, "frames", 1, 1, a.joiner_units)
    return g.model()


def predictor_graph(model: PackedModel, a: RnntArchitecture) -> onnx.ModelProto:
    """Inputs tokens int64 (1,), -1 for "no history", h and c of each layer (1, 1, P); outputs (1, J) and the states."""
    g = Graph("predictor")
    tokens = g.input("tokens", 1, kind=INT64)
    states = ([g.input(f"{what}{i}", 1, 1, a.predictor_units) for i in range(a.predictor_layers)] for what in "hc")
    output, *after = predictor_step(Layers(g, model, "float"), a, tokens, *states)
    for i in range(a.predictor_layers):
        for what, values in zip("hc", after, strict=True):
            g.output(values[i], f"{what}{i}_after", 1, 1, a.predictor_units)
    g.output(output, "output", 1, a.joiner_units)
    return g.model()


def joiner_graph(model: PackedModel, a: RnntArchitecture) -> onnx.ModelProto:
    """Inputs encoder and predictor (1, J); output log_probabilities (1, V)."""
    g = Graph("joiner")
    logits = joiner(Layers(g, model, "float"), *(g.input(name, 1, a.joiner_units) for name in ("encoder", "predictor")))
    g.output(g.add("LogSoftmax", logits, axis=-1), "log_probabilities", 1, a.vocabulary)
    return g.model()
