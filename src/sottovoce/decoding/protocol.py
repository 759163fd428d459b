"""What a search asks of a recognizer: two small protocols, and state as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
State = tuple[NDArray[Any], ...]
"""Arrays whose axis 0 is the hypothesis (or the stream): a search selects by indexing and never looks inside."""

BLANK = 0
NO_HISTORY = -1
"""The token before the first one; its embedding is a zero vector."""


class Transducer(Protocol):
    """The part of an RNN-T that a search steps. N counts hypotheses, J is the joiner's width, V the vocabulary."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens, the blank (id 0) included."""

    def predictor_start(self, n: int) -> State:
        """State of n hypotheses that have seen nothing; the first step takes token -1, "no history"."""

    def predictor_step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        """tokens int64 (N,) -> output float32 (N, J) and the new state; the old state is left as it was."""

    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        """encoder (N, J), predictor (N, J) -> log-probabilities float32 (N, V)."""


class Encoder(Protocol):
    """A streaming encoder: any chunking of the features gives the same frames."""

    def encoder_start(self, n: int) -> State:
        """State of n streams before their first frame."""

    def encoder_step(self, features: Floats, state: State) -> tuple[Floats, State]:
        """features float32 (N, T, F), any T -> frames float32 (N, T', J) that are complete now, and the new state."""


def select(state: State, rows: NDArray[Any]) -> State:
    """The state of the given rows (integer indexes or a boolean mask), in that order; always a copy."""
    return tuple(array[rows] for array in state)


def replace(state: State, rows: NDArray[Any], new: State) -> State:
    """A copy of state in which the given rows come from new; what has grown longer is padded as in ``concatenate``."""
    copies = tuple(
        _padded(array, [max(pair) for pair in zip(array.shape[1:], rows_of_it.shape[1:], strict=True)])
        for array, rows_of_it in zip(state, new, strict=True)
    )
    for copy, rows_of_it in zip(copies, new, strict=True):
        copy[rows] = _padded(rows_of_it, copy.shape[1:])
    return copies


def concatenate(states: Sequence[State]) -> State:
    """States joined along axis 0. Arrays that have grown to different lengths, such as a Transformer's keys, get zeros
    at their ends; how much of them counts, the state says itself."""
    return tuple(_joined(arrays) for arrays in zip(*states, strict=True))


def gather(places: Sequence[tuple[State, int]]) -> State:
    """The rows at these places, each of some state, as one state in their order; each state is indexed once."""
    groups: dict[int, list[int]] = {}
    for i, (state, _) in enumerate(places):
        groups.setdefault(id(state), []).append(i)
    parts = [
        select(places[group[0]][0], np.array([places[i][1] for i in group], np.int64)) for group in groups.values()
    ]
    order = np.array([i for group in groups.values() for i in group], np.int64)
    return select(concatenate(parts), np.argsort(order))


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shape = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
    return np.concatenate([_padded(array, shape) for array in arrays])


def _padded(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """A copy whose other axes have these sizes."""
    return np.pad(array, [(0, 0), *((0, size - now) for now, size in zip(array.shape[1:], shape, strict=True))])
