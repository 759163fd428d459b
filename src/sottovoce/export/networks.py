"""Networks as plain ONNX graphs, one for each part, with all states as inputs and outputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx

from sottovoce.errors import FormatError
from sottovoce.export.graph import INT64, Graph
from sottovoce.export.layers import Layers
from sottovoce.export.rnnt import EncoderState, encoder, joiner, predictor_step
from sottovoce.export.weights import WeightForm, check_form
from sottovoce.packed import (
    LstmLmArchitecture,
    PackedModel,
    RnntArchitecture,
    TransformerLmArchitecture,
    is_language_model,
    lm_architecture,
)
from sottovoce.runtime.transformer_lm import sinusoids


def onnx_graphs(model: PackedModel, form: WeightForm) -> dict[str, onnx.ModelProto]:
    """The model's graphs by name: ``encoder``, ``predictor`` and ``joiner`` of an RNN-T, ``lm`` of a language model.

    Raises FormatError for a network that none of them is, ConfigError for an unknown form.
    """
    check_form(form)
    if is_language_model(model.architecture):
        architecture = lm_architecture(model.architecture)
        if isinstance(architecture, LstmLmArchitecture):
            return {"lm": lstm_lm_graph(model, architecture, form)}
        return {"lm": transformer_lm_graph(model, architecture, form)}
    if model.architecture.get("type") != "rnnt":
        raise FormatError(
            f"architecture: expected an RNN-T or a language model, found {model.architecture.get('type')!r}"
        )
    a = RnntArchitecture.from_dict(model.architecture)
    return {
        "encoder": encoder_graph(model, a, form),
        "predictor": predictor_graph(model, a, form),
        "joiner": joiner_graph(model, a, form),
    }


def _metadata(model: PackedModel, form: str) -> dict[str, Any]:
    described = {"architecture": dict(model.architecture), "input": dict(model.input)}
    return {"sottovoce": json.dumps(described, sort_keys=True), "weights": form}


def encoder_graph(model: PackedModel, a: RnntArchitecture, form: WeightForm) -> onnx.ModelProto:
    """Inputs features (N, T, F), T a multiple of the subsampling, history (N, stack - stride, F) if stacks overlap,
    mean (N, F) of PCEN if there is one, h and c (L, N, H); outputs frames (N, T', J) and ``next_*``.

    States begin as zeros, the mean as 0.001.
    """
    g = Graph("encoder")
    layers = Layers(g, model, form)
    kept = a.stack - a.stride
    features = g.input("features", "N", "T", a.features)
    history = g.input("history", "N", kept, a.features) if kept else ""
    mean = g.input("mean", "N", a.features) if a.pcen else ""
    h, c = (g.input(name, a.encoder_layers, "N", a.encoder_units) for name in "hc")
    each = [1] * a.encoder_layers
    state = EncoderState(history, mean, *(tuple(g.split(x, each, axis=0)) for x in (h, c)))
    frames, after = encoder(layers, a, features, state)
    g.output(frames, "frames", "N", "T_out", a.joiner_units)
    if kept:
        g.output(after.history, "next_history", "N", kept, a.features)
    if a.pcen:
        g.output(after.mean, "next_mean", "N", a.features)
    for name, parts in (("h", after.h), ("c", after.c)):
        g.output(g.concat(parts, axis=0), f"next_{name}", a.encoder_layers, "N", a.encoder_units)
    return g.model(_metadata(model, form) | {"subsampling": a.subsampling})


def predictor_graph(model: PackedModel, a: RnntArchitecture, form: WeightForm) -> onnx.ModelProto:
    """Inputs tokens int64 (N,), -1 for "no history", h and c (L, N, P), zeros at first; outputs output (N, J) and
    ``next_h``, ``next_c``."""
    g = Graph("predictor")
    tokens = g.input("tokens", "N", kind=INT64)
    h, c = (g.input(name, a.predictor_layers, "N", a.predictor_units) for name in "hc")
    each = [1] * a.predictor_layers
    states = (g.split(x, each, axis=0) for x in (h, c))
    output, *after = predictor_step(Layers(g, model, form), a, tokens, *states)
    g.output(output, "output", "N", a.joiner_units)
    for name, parts in zip("hc", after, strict=True):
        g.output(g.concat(parts, axis=0), f"next_{name}", a.predictor_layers, "N", a.predictor_units)
    return g.model(_metadata(model, form))


def joiner_graph(model: PackedModel, a: RnntArchitecture, form: WeightForm) -> onnx.ModelProto:
    """Inputs frames and predictor (N, J); output logits (N, V), blank first."""
    g = Graph("joiner")
    parts = [g.input(name, "N", a.joiner_units) for name in ("frames", "predictor")]
    g.output(joiner(Layers(g, model, form), *parts), "logits", "N", a.vocabulary)
    return g.model(_metadata(model, form))


def lstm_lm_graph(model: PackedModel, a: LstmLmArchitecture, form: WeightForm) -> onnx.ModelProto:
    """Inputs tokens int64 (N, T), h and c (L, N, H), zeros at first; outputs logits (N, T, V), ``next_h``,
    ``next_c``."""
    g = Graph("lm")
    layers = Layers(g, model, form)
    tokens = g.input("tokens", "N", "T", kind=INT64)
    h, c = (g.input(name, a.layers, "N", a.units) for name in "hc")
    states = [g.split(x, [1] * a.layers, axis=0) for x in (h, c)]
    x = g.add("Transpose", layers.embedding(tokens, "embedding"), perm=[1, 0, 2])
    after: list[tuple[str, str]] = []
    for i in range(a.layers):
        x, *new = layers.lstm(x, "lstm", i, states[0][i], states[1][i], a.units)
        after.append((new[0], new[1]))
    logits = layers.dense(g.add("Transpose", x, perm=[1, 0, 2]), "output")
    g.output(logits, "logits", "N", "T", a.vocabulary)
    for name, parts in zip("hc", zip(*after, strict=True), strict=True):
        g.output(g.concat(parts, axis=0), f"next_{name}", a.layers, "N", a.units)
    return g.model(_metadata(model, form))


def transformer_lm_graph(model: PackedModel, a: TransformerLmArchitecture, form: WeightForm) -> onnx.ModelProto:
    """Inputs tokens int64 (N, T), keys and values (L, N, P, D) of the P tokens before, P = 0 at first; outputs logits
    (N, T, V), ``next_keys`` and ``next_values`` (L, N, P + T, D). P + T is at most the context: a caller whose context
    is full reads the newer half of it anew."""
    g = Graph("lm")
    layers = Layers(g, model, form)
    tokens = g.input("tokens", "N", "T", kind=INT64)
    keys, values = (g.input(name, a.layers, "N", "P", a.width) for name in ("keys", "values"))
    past = g.add("Shape", keys, start=2, end=3)
    total = g.add("Add", past, g.add("Shape", tokens, start=1, end=2))
    if a.positions == "learned":
        table = layers.floats("positions")
    else:
        table = g.weight("positions", sinusoids(a.context, a.width))
    x = g.add("Add", layers.embedding(tokens, "embedding"), g.add("Slice", table, past, total, g.integers(0)))
    hidden = _future(g, past, total)
    sizes = [1] * a.layers
    before = [g.split(value, sizes, axis=0) for value in (keys, values)]
    after: list[tuple[str, str]] = []
    for i in range(a.layers):
        held = [g.add("Squeeze", part[i], g.integers(0)) for part in before]
        x, new = _block(layers, a, i, x, held, hidden)
        after.append((new[0], new[1]))
    x = layers.layer_norm(x, "norm") if a.norm == "pre" else x
    g.output(layers.dense(x, "output"), "logits", "N", "T", a.vocabulary)
    for name, parts in zip(("keys", "values"), zip(*after, strict=True), strict=True):
        stacked = g.concat([g.add("Unsqueeze", part, g.integers(0)) for part in parts], axis=0)
        g.output(stacked, f"next_{name}", a.layers, "N", "S", a.width)
    return g.model(_metadata(model, form) | {"context": a.context})


def _future(g: Graph, past: str, total: str) -> str:
    """What is added to scores (T, S): the least number where position s comes after query t, else 0."""
    zero, one = (g.scalar(v) for v in (0, 1))
    first, last = (g.add("Squeeze", x, g.integers(0)) for x in (past, total))
    position = g.add("Range", zero, last, one)
    query = g.add("Unsqueeze", g.add("Range", first, last, one), g.integers(1))
    return g.add("Where", g.add("Greater", position, query), g.number(float(np.finfo(np.float32).min)), g.number(0.0))


def _block(
    layers: Layers, a: TransformerLmArchitecture, i: int, x: str, held: list[str], hidden: str
) -> tuple[str, list[str]]:
    """One block: x (N, T, D), keys and values (N, P, D) -> x, and keys and values (N, P + T, D)."""
    g, prefix = layers.graph, f"layers.{i}"

    def normed(value: str, name: str) -> str:
        return layers.layer_norm(value, f"{prefix}.{name}")

    read = normed(x, "attention_norm") if a.norm == "pre" else x
    new = [layers.dense(read, f"{prefix}.{name}") for name in ("key", "value")]
    kept = [g.concat(pair, axis=1) for pair in zip(held, new, strict=True)]
    mixed = _attention(g, a, layers.dense(read, f"{prefix}.query"), kept, hidden)
    x = g.add("Add", x, layers.dense(mixed, f"{prefix}.attended"))
    x = x if a.norm == "pre" else normed(x, "attention_norm")
    read = normed(x, "feed_forward_norm") if a.norm == "pre" else x
    expanded = _gelu(g, layers.dense(read, f"{prefix}.expand"))
    x = g.add("Add", x, layers.dense(expanded, f"{prefix}.contract"))
    return (x if a.norm == "pre" else normed(x, "feed_forward_norm")), kept


def _attention(g: Graph, a: TransformerLmArchitecture, query: str, kept: list[str], hidden: str) -> str:
    width = a.width // a.heads

    def heads(value: str, *order: int) -> str:
        return g.add("Transpose", g.reshape(value, 0, -1, a.heads, width), perm=order)

    scores = g.add("MatMul", heads(query, 0, 2, 1, 3), heads(kept[0], 0, 2, 3, 1))
    scores = g.add("Add", g.add("Mul", scores, g.number(float(width**-0.5))), hidden)
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), heads(kept[1], 0, 2, 1, 3))
    return g.reshape(g.add("Transpose", mixed, perm=[0, 2, 1, 3]), 0, -1, a.width)


def _gelu(g: Graph, x: str) -> str:
    """The tanh form: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    cube = g.add("Mul", g.add("Mul", g.add("Mul", x, x), g.number(0.044715)), x)
    inner = g.add("Tanh", g.add("Mul", g.add("Add", x, cube), g.number(float(np.sqrt(2 / np.pi)))))
    return g.add("Mul", g.add("Mul", x, g.number(0.5)), g.add("Add", inner, g.number(1.0)))
