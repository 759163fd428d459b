"""A transducer of random tables whose predictor remembers everything: distributions depend on the whole history."""

from __future__ import annotations

import numpy as np

from sottovoce.decoding.protocol import Floats, Integers, State


class ToyTransducer:
    """State: one running vector; output: a nonlinear function of it; joiner: log-softmax of a random mixture."""

    def __init__(self, vocabulary: int = 5, width: int = 6, seed: int = 0, sharpness: float = 2.0) -> None:
        rng = np.random.default_rng(seed)
        self.vocabulary = vocabulary
        self.width = width
        self.embedding = rng.normal(0, 1, (vocabulary + 1, width)).astype(np.float32)  # the last row is token -1
        self.mixing = rng.normal(0, 0.6, (width, width)).astype(np.float32)
        self.output = rng.normal(0, sharpness, (width, vocabulary)).astype(np.float32)
        self.steps = 0

    def predictor_start(self, n: int) -> State:
        return (np.zeros((n, self.width), np.float32),)

    def predictor_step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        self.steps += len(tokens)
        # einsum, not BLAS: the bits of a row must not depend on the batch
        hidden = np.tanh(np.einsum("nw,wv->nv", state[0], self.mixing) + self.embedding[tokens])
        return hidden * np.float32(0.8), (hidden,)

    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        logits = np.einsum("nw,wv->nv", np.tanh(encoder + predictor), self.output)
        peak = logits.max(axis=1, keepdims=True)
        return logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))


def random_frames(n: int, frames: int, width: int = 6, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, (n, frames, width)).astype(np.float32)
