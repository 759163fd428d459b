"""An LSTM language model on packed layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.packed import LstmLmArchitecture
from sottovoce.runtime.native_layers import LayerSource


class LstmLmNetwork:
    """Tokens to what the output layer reads; the state is h and c of each layer, float32 (N, H)."""

    def __init__(self, architecture: LstmLmArchitecture, source: LayerSource) -> None:
        a = self.architecture = architecture
        self._embedding = source.embedding("embedding", a.vocabulary, a.embedding)
        self._layers = [source.lstm("lstm", i, width, a.units) for i, width in enumerate(a.layer_inputs())]

    def start(self, n: int) -> State:
        """State of n sequences before their first token."""
        return tuple(np.zeros((n, self.architecture.units), np.float32) for _ in range(2 * len(self._layers)))

    def read(self, tokens: Integers, lengths: Integers, state: State) -> tuple[Floats, State]:
        """Sequences one after the other, tokens int64 (M,) of lengths (N,) -> outputs float32 (M, H), the new state.

        The input product of all tokens is one pass over the weights; at each step the sequences that still go on share
        one pass over the recurrent weights.
        """
        order = np.argsort(-lengths, kind="stable")
        first = (np.cumsum(lengths) - lengths)[order]  # where each sequence begins, the longest one first
        steps = int(lengths.max(initial=0))
        going = np.searchsorted(-lengths[order], -np.arange(steps), side="left")  # sequences longer than t
        x = self._embedding(tokens)
        after: list[NDArray[np.float32]] = []
        for i, layer in enumerate(self._layers):
            projected = layer.project(x)
            h, c = state[2 * i][order], state[2 * i + 1][order]
            x = np.empty((len(tokens), layer.units), np.float32)
            for t in range(steps):
                n = going[t]
                at = first[:n] + t
                h[:n], c[:n] = layer.step(projected[at], h[:n], c[:n])
                x[at] = h[:n]
            back = np.argsort(order)
            after += [h[back], c[back]]
        return x, tuple(after)
