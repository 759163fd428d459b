"""A packed RNN-T: encoder, predictor and joiner as decoding's protocols want them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.packed import PackedModel
from sottovoce.packed.architecture import RnntArchitecture
from sottovoce.runtime.arithmetic import layer_norm, log_softmax
from sottovoce.runtime.pcen import pcen, pcen_start
from sottovoce.runtime.rules import Arithmetic, rules_of
from sottovoce.runtime.tensors import TensorReader


def stack_frames(features: Floats, size: int, stride: int) -> tuple[Floats, Floats]:
    """Windows of ``size`` frames every ``stride``: (N, T, F) -> (N, T', size * F), and the frames that are left.

    A window has its oldest frame first. What is left is all that the next window needs: it goes before the next chunk.
    """
    n, frames, width = features.shape
    count = max(0, (frames - (size - stride)) // stride)
    index = np.arange(count)[:, None] * stride + np.arange(size)
    return features[:, index].reshape(n, count, size * width), features[:, count * stride :].copy()


class PackedRnnt:
    """Runs a packed RNN-T in NumPy; implements decoding's Encoder and Transducer.

    On packed matrices activations are integers and every result is the same bit for bit, whatever the batch or the
    chunks. With float arithmetic, and for matrices stored as floats, weights are float32 and products are NumPy's.
    Layer norm, where there is any, acts on each encoder LSTM's output, before a reduction joins frames.
    Raises FormatError for a network of another type, or a tensor that is missing, misshapen, or stored as floats where
    the arithmetic is the accelerator's; ConfigError for an arithmetic that is unknown.
    """

    def __init__(self, model: PackedModel, *, arithmetic: Arithmetic = "int8") -> None:
        self.architecture = RnntArchitecture.from_dict(model.architecture)
        a, rules = self.architecture, rules_of(arithmetic)
        read = TensorReader(model, rules)
        self._tanh = rules.tanh
        self._mean = read.floats("encoder.mean", a.features)
        self._istd = read.floats("encoder.istd", a.features)
        self._layers = [
            read.lstm(f"encoder.layers.{i}", 0, width, a.encoder_units) for i, width in enumerate(a.layer_inputs())
        ]
        self._norms = [self._read_norm(read, i) for i in range(a.encoder_layers)] if a.layer_norm else []
        self._projection = read.dense("encoder.projection", a.joiner_units, a.encoder_width)
        self._embedding = read.embedding("predictor.embedding", a.vocabulary, a.embedding)
        self._predictor = [
            read.lstm("predictor.lstm", i, a.predictor_units if i else a.embedding, a.predictor_units)
            for i in range(a.predictor_layers)
        ]
        self._predictor_projection = read.dense("predictor.projection", a.joiner_units, a.predictor_units)
        self._output = read.dense("joiner.output", a.vocabulary, a.joiner_units)

    def _read_norm(self, read: TensorReader, layer: int) -> tuple[Floats, Floats]:
        units = self.architecture.encoder_units
        return read.floats(f"encoder.norms.{layer}.weight", units), read.floats(f"encoder.norms.{layer}.bias", units)

    @property
    def vocabulary(self) -> int:
        return self.architecture.vocabulary

    def encoder_start(self, n: int) -> State:
        """State of n streams: the running mean of PCEN (N, F or 0), frames to stack (N, L, F), outputs to reduce
        (N, R, H), then h and c of each layer.

        All streams of a batch advance by equally many frames, so the shapes say how much is left over.
        """
        return encoder_start(self.architecture, n)

    def encoder_step(self, features: Floats, state: State) -> tuple[Floats, State]:
        """features float32 (N, T, F) -> frames float32 (N, T', J): all that are complete now."""
        a = self.architecture
        mean, history, waiting, *lstm = state
        if a.pcen is not None:
            features, mean = pcen(features, mean, a.pcen)
        normalized = (features - self._mean) * self._istd
        x, history = stack_frames(np.concatenate([history, normalized], axis=1), a.stack, a.stride)
        after: list[NDArray[np.float32]] = []
        for i, layer in enumerate(self._layers):
            x, h, c = layer(x, lstm[2 * i], lstm[2 * i + 1])
            after += [h, c]
            if a.layer_norm:
                x = layer_norm(x, *self._norms[i])
            if i + 1 == a.reduction_after:
                x, waiting = stack_frames(np.concatenate([waiting, x], axis=1), a.reduction, a.reduction)
        return self._projection(x), (mean, history, waiting, *after)

    def encode(self, features: Floats, lengths: Integers) -> tuple[Floats, Integers]:
        """Whole utterances: features (N, T, F) padded at the end, lengths (N,) -> frames (N, T', J), lengths (N,).

        The network looks back only, so padding changes no frame that counts.
        """
        frames, _ = self.encoder_step(features, self.encoder_start(len(features)))
        return frames, lengths // self.architecture.subsampling

    def predictor_start(self, n: int) -> State:
        """Zeros: h and c of each layer, (N, H)."""
        return predictor_start(self.architecture, n)

    def predictor_step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        """tokens int64 (N,), -1 for "no history" -> output float32 (N, J) and the new state."""
        x = self._embedding(tokens)
        after: list[NDArray[np.float32]] = []
        for i, layer in enumerate(self._predictor):
            x, c = layer.step(layer.input_weight.product(x), state[2 * i], state[2 * i + 1])
            after += [x, c]
        return self._predictor_projection(x), tuple(after)

    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        """encoder (N, J), predictor (N, J) -> log-probabilities float32 (N, V)."""
        return log_softmax(self._output(self._tanh(encoder + predictor)))


def encoder_start(a: RnntArchitecture, n: int) -> State:
    """``PackedRnnt.encoder_start``, for any network of that architecture."""
    history = np.zeros((n, a.stack - a.stride, a.features), np.float32)
    waiting = np.zeros((n, 0, a.encoder_units), np.float32)
    lstms = _lstm_start(a.encoder_layers, n, a.encoder_units)
    return (pcen_start(n, a.features if a.pcen else 0), history, waiting, *lstms)


def predictor_start(a: RnntArchitecture, n: int) -> State:
    """``PackedRnnt.predictor_start``, for any network of that architecture."""
    return _lstm_start(a.predictor_layers, n, a.predictor_units)


def _lstm_start(layers: int, n: int, units: int) -> State:
    return tuple(np.zeros((n, units), np.float32) for _ in range(2 * layers))
