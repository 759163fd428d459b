"""Graphs for stock sherpa-onnx, whose inputs and outputs are known by their order.

``lstm_graphs`` is its ``lstm`` type (sherpa-onnx/csrc/online-lstm-transducer-model.cc), whose predictor is a function
of the last tokens; ``nemo_graphs`` its streaming NeMo type (online-transducer-nemo-model.cc), chosen because the
decoder has more than one output, whose predictor carries a state.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from sottovoce.export.graph import BOOL, INT32, INT64, Graph
from sottovoce.export.layers import Layers
from sottovoce.export.rnnt import EncoderState, encoder, joiner, predictor_step, predictor_window
from sottovoce.export.weights import WeightForm, check_form
from sottovoce.packed import PackedModel, Pcen, RnntArchitecture

CHUNK = 32
"""Feature frames of one encoder call."""
WINDOW = 64
"""Tokens that the predictor of the ``lstm`` type sees."""
_AUTHOR = {"version": 1, "model_author": "sottovoce"}


def lstm_graphs(
    model: PackedModel, form: WeightForm, *, chunk: int = CHUNK, window: int = WINDOW
) -> dict[str, onnx.ModelProto]:
    """encoder, decoder and joiner of the ``lstm`` type. ``chunk`` is a multiple of the subsampling."""
    check_form(form)
    a = RnntArchitecture.from_dict(model.architecture)
    return {
        "encoder": _lstm_encoder(model, a, form, chunk),
        "decoder": _window_decoder(model, a, form, window),
        "joiner": _lstm_joiner(model, a, form),
    }


def _lstm_encoder(model: PackedModel, a: RnntArchitecture, form: WeightForm, chunk: int) -> onnx.ModelProto:
    """x (N, T, F); state0 (1, N, D): h of each layer and what else there is to keep; state1 (1, N, L H): c of each."""
    g = Graph("encoder")
    x = g.input("x", "N", chunk, a.features)
    sizes = [a.encoder_units] * a.encoder_layers + _extra_sizes(a)
    state0 = g.input("state0", 1, "N", sum(sizes))
    state1 = g.input("state1", 1, "N", a.encoder_units * a.encoder_layers)
    h = g.split(state0, sizes, axis=2)
    c = g.split(state1, sizes[: a.encoder_layers], axis=2)
    h, extra = h[: a.encoder_layers], h[a.encoder_layers :]
    frames, after = encoder(Layers(g, model, form), a, x, EncoderState(*_unpacked(g, a, extra), tuple(h), tuple(c)))
    g.output(frames, "encoder_out", "N", a.output_frames(chunk), a.joiner_units)
    g.output(g.concat([*after.h, *_packed(g, a, after, extra)], axis=2), "new_state0", 1, "N", sum(sizes))
    g.output(g.concat(after.c, axis=2), "new_state1", 1, "N", a.encoder_units * a.encoder_layers)
    return g.model({
        **_AUTHOR,
        "model_type": "lstm",
        "T": chunk,
        "decode_chunk_len": chunk,
        "num_encoder_layers": 1,
        "d_model": sum(sizes),
        "rnn_hidden_size": a.encoder_units * a.encoder_layers,
    })  # fmt: skip


def _extra_sizes(a: RnntArchitecture) -> list[int]:
    """What the first state holds beside h: frames to stack; PCEN's mean and whether there is one yet."""
    history = (a.stack - a.stride) * a.features
    return ([history] if history else []) + ([a.features, 1] if a.pcen else [])


def _unpacked(g: Graph, a: RnntArchitecture, extra: list[str]) -> tuple[str, str]:
    """Frames to stack (N, S, F) and PCEN's mean (N, F) from parts (1, N, ...) of a state that begins as zeros."""
    kept = a.stack - a.stride
    history = g.reshape(g.add("Squeeze", extra[0], g.integers(0)), 0, kept, a.features) if kept else ""
    if not a.pcen:
        return history, ""
    held, begun = (g.add("Squeeze", part, g.integers(0)) for part in extra[-2:])
    return history, g.add("Where", g.add("Cast", begun, to=BOOL), held, g.number(Pcen.START))


def _packed(g: Graph, a: RnntArchitecture, after: EncoderState, extra: list[str]) -> list[str]:
    """The same parts after a chunk, (1, N, ...) each."""
    parts = [g.reshape(after.history, 0, (a.stack - a.stride) * a.features)] if after.history else []
    found = [g.add("Unsqueeze", part, g.integers(0)) for part in (*parts, *([after.mean] if a.pcen else []))]
    if a.pcen:
        found.append(g.add("Add", g.add("Mul", extra[-1], g.number(0.0)), g.number(1.0)))
    return found


def _window_decoder(model: PackedModel, a: RnntArchitecture, form: WeightForm, window: int) -> onnx.ModelProto:
    g = Graph("decoder")
    y = g.input("y", "N", window, kind=INT64)
    g.output(predictor_window(Layers(g, model, form), a, y, window), "decoder_out", "N", a.joiner_units)
    return g.model({**_AUTHOR, "vocab_size": a.vocabulary, "context_size": window})


def _lstm_joiner(model: PackedModel, a: RnntArchitecture, form: WeightForm) -> onnx.ModelProto:
    g = Graph("joiner")
    parts = [g.input(name, "N", a.joiner_units) for name in ("encoder_out", "decoder_out")]
    g.output(joiner(Layers(g, model, form), *parts), "logit", "N", a.vocabulary)
    return g.model({**_AUTHOR, "joiner_dim": a.joiner_units})


def nemo_graphs(model: PackedModel, form: WeightForm, *, chunk: int = CHUNK) -> dict[str, onnx.ModelProto]:
    """encoder, decoder and joiner of the streaming NeMo type; the blank, our id 0, is the last id."""
    check_form(form)
    a = RnntArchitecture.from_dict(model.architecture)
    return {
        "encoder": _nemo_encoder(model, a, form, chunk),
        "decoder": _nemo_decoder(model, a, form),
        "joiner": _nemo_joiner(model, a, form),
    }


def _nemo_encoder(model: PackedModel, a: RnntArchitecture, form: WeightForm, chunk: int) -> onnx.ModelProto:
    """audio_signal (B, F, T); the first cache (B, 1, 1, D) is ``state0`` of the lstm type, the second (B, 1, 1, L H)
    ``state1``. The lengths pass through, for inputs that nothing reads are dropped by some tools."""
    g = Graph("encoder")
    signal = g.input("audio_signal", "B", a.features, chunk)
    length = g.input("length", "B", kind=INT64)
    sizes = [a.encoder_units] * a.encoder_layers + _extra_sizes(a)
    cells = a.encoder_units * a.encoder_layers
    caches = [
        g.input("cache_last_channel", "B", 1, 1, sum(sizes)),
        g.input("cache_last_time", "B", 1, 1, cells),
    ]
    cache_length = g.input("cache_last_channel_len", "B", kind=INT64)
    state0, state1 = (g.add("Squeeze", g.add("Transpose", x, perm=[1, 2, 0, 3]), g.integers(0)) for x in caches)
    h = g.split(state0, sizes, axis=2)
    c = g.split(state1, sizes[: a.encoder_layers], axis=2)
    h, extra = h[: a.encoder_layers], h[a.encoder_layers :]
    x = g.add("Transpose", signal, perm=[0, 2, 1])
    frames, after = encoder(Layers(g, model, form), a, x, EncoderState(*_unpacked(g, a, extra), tuple(h), tuple(c)))
    g.output(g.add("Transpose", frames, perm=[0, 2, 1]), "outputs", "B", a.joiner_units, a.output_frames(chunk))
    g.output(g.add("Div", length, g.integers(a.subsampling)), "encoded_lengths", "B", kind=INT64)
    for values, name, width in (
        ([*after.h, *_packed(g, a, after, extra)], "cache_last_channel_next", sum(sizes)),
        (list(after.c), "cache_last_time_next", cells),
    ):
        joined = g.add("Unsqueeze", g.concat(values, axis=2), g.integers(0))
        g.output(g.add("Transpose", joined, perm=[2, 0, 1, 3]), name, "B", 1, 1, width)
    g.output(cache_length, "cache_last_channel_len_next", "B", kind=INT64)
    return g.model(_nemo_metadata(a, chunk, sum(sizes), cells))


def _nemo_metadata(a: RnntArchitecture, chunk: int, channel: int, time: int) -> Mapping[str, object]:
    caches = {"cache_last_channel": (1, 1, channel), "cache_last_time": (1, 1, time)}
    return {
        **_AUTHOR,
        "model_type": "EncDecRNNTBPEModel",
        "vocab_size": a.vocabulary - 1,
        "window_size": chunk,
        "chunk_shift": chunk,
        "subsampling_factor": a.subsampling,
        "pred_rnn_layers": a.predictor_layers,
        "pred_hidden": a.predictor_units,
        "normalize_type": "NA",
        **{f"{name}_dim{i + 1}": size for name, sizes in caches.items() for i, size in enumerate(sizes)},
    }


def _nemo_decoder(model: PackedModel, a: RnntArchitecture, form: WeightForm) -> onnx.ModelProto:
    """targets int32 (1, 1), the last id for the start; our ids are one more than theirs."""
    g = Graph("decoder")
    targets = g.input("targets", 1, 1, kind=INT32)
    length = g.input("target_length", 1, kind=INT32)
    h, c = (g.input(name, a.predictor_layers, 1, a.predictor_units) for name in "hc")
    theirs = g.reshape(g.add("Cast", targets, to=INT64), 1)
    start = g.add("Equal", theirs, g.integers(a.vocabulary - 1))
    tokens = g.add("Where", start, g.integers(-1), g.add("Add", theirs, g.integers(1)))
    each = [1] * a.predictor_layers
    output, *after = predictor_step(Layers(g, model, form), a, tokens, *(g.split(x, each, axis=0) for x in (h, c)))
    g.output(g.reshape(output, 1, a.joiner_units, 1), "dec_out", 1, a.joiner_units, 1)
    g.output(length, "prednet_lengths", 1, kind=INT32)
    for name, parts in zip("hc", after, strict=True):
        g.output(g.concat(parts, axis=0), f"next_{name}", a.predictor_layers, 1, a.predictor_units)
    return g.model(_AUTHOR)


def _nemo_joiner(model: PackedModel, a: RnntArchitecture, form: WeightForm) -> onnx.ModelProto:
    g = Graph("joiner")
    parts = [g.input(name, 1, a.joiner_units, 1) for name in ("encoder_outputs", "decoder_outputs")]
    logits = joiner(Layers(g, model, form), *(g.reshape(part, 1, a.joiner_units) for part in parts))
    blank, tokens = g.split(logits, [1, a.vocabulary - 1], axis=1)
    g.output(g.reshape(g.concat([tokens, blank], axis=1), 1, 1, 1, a.vocabulary), "logits", 1, 1, 1, a.vocabulary)
    return g.model(_AUTHOR)
