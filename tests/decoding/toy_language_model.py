"""A next-token network of a random table: distributions depend on the whole history."""

from __future__ import annotations

import numpy as np

from sottovoce.decoding.protocol import Floats, Integers, State


class ToyNetwork:
    """The state is a number that every token changes; token 0 is ``</s>``."""

    def __init__(self, size: int, seed: int = 0) -> None:
        logits = np.random.default_rng(seed).normal(size=(97, size))
        self.table = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)

    def start(self, n: int) -> State:
        return (np.ones(n, np.int64),)

    def step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        after = (state[0] * 31 + tokens * 7 + 3) % 97
        return self.table[after], (after,)

    def score(self, tokens: list[int]) -> float:
        """Log-probability of a sentence, a token at a time."""
        total, token, state = 0.0, 0, self.start(1)
        for following in (*tokens, 0):
            log_probs, state = self.step(np.array([token]), state)
            total += float(log_probs[0, following])
            token = following
        return total
