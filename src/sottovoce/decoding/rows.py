"""Search states by rows: frozen dataclasses of arrays, or of tuples of arrays, whose axis 0 is the utterance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S")
Array = NDArray[Any]


def _over_fields(states: Sequence[S], combine: Callable[[list[Array]], Array]) -> S:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(states[0]):  # type: ignore[arg-type]
        parts = [getattr(state, field.name) for state in states]
        if isinstance(parts[0], tuple):
            values[field.name] = tuple(combine(list(arrays)) for arrays in zip(*parts, strict=True))
        else:
            values[field.name] = combine(parts)
    return type(states[0])(**values)


def select_rows(state: S, rows: NDArray[Any]) -> S:
    """The state of the given utterances, in that order; always a copy."""
    return _over_fields([state], lambda arrays: arrays[0][rows])


def concatenate_rows(states: Sequence[S]) -> S:
    """The states of several batches as the state of one."""
    return _over_fields(states, np.concatenate)


def copy_state(state: S) -> S:
    return _over_fields([state], lambda arrays: arrays[0].copy())
