"""Causal self-attention in float32, down to the bit: sums over a head's columns and over positions go in index order,
one rounded addition at a time, so that a sequence gives the same numbers alone, in a batch, or token by token."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sottovoce.runtime.arithmetic import Floats, exp, ordered_sum

_LARGEST = np.float32(np.finfo(np.float32).max)
_BLOCK = 1 << 22  # scores worked on at once: bounds memory, changes no result


def attend(query: Floats, keys: Floats, values: Floats, seen: NDArray[np.int64], heads: int) -> Floats:
    """What each query takes from the positions that it sees.

    query float32 (N, T, D), keys and values float32 (N, S, D), seen int64 (N, T): query t of row n sees positions 0 to
    seen - 1, at least one -> float32 (N, T, D). A head has D / heads columns. Scores are query . key times
    float32(1 / sqrt(D / heads)); weights are exp(score - largest); the result is the weighted sum of values over
    float32(float64 sum of weights).
    """
    n, frames, width = query.shape
    out = np.empty_like(query)
    step = max(1, _BLOCK // max(1, n * heads * keys.shape[1]))
    columns = keys.reshape(n, -1, heads, width // heads).transpose(0, 2, 3, 1).copy()  # (N, H, C, S)
    rows = values.reshape(n, -1, heads, width // heads).transpose(0, 2, 1, 3).copy()  # (N, H, S, C)
    for start in range(0, frames, step):
        block = slice(start, start + step)
        out[:, block] = _attend(query[:, block], columns, rows, seen[:, block])
    return out


def _attend(query: Floats, columns: Floats, rows: Floats, seen: NDArray[np.int64]) -> Floats:
    n, heads, size, positions = columns.shape
    frames = query.shape[1]
    split = query.reshape(n, frames, heads, size).transpose(0, 2, 1, 3)  # (N, H, T, C)
    scores = split[..., 0, None] * columns[:, :, 0, None, :]  # (N, H, T, S)
    for c in range(1, size):
        scores += split[..., c, None] * columns[:, :, c, None, :]
    scores *= np.float32(1 / math.sqrt(size))
    hidden = np.arange(positions) >= seen[:, None, :, None]
    np.copyto(scores, -_LARGEST, where=hidden)
    peak = scores.max(axis=-1, keepdims=True)
    scores -= peak
    weights = exp(scores)
    np.copyto(weights, np.float32(0), where=hidden)
    total = ordered_sum(weights.astype(np.float64)).astype(np.float32)
    mixed = weights[..., 0, None] * rows[:, :, None, 0]
    for s in range(1, positions):
        mixed += weights[..., s, None] * rows[:, :, None, s]
    mixed /= total
    return mixed.transpose(0, 2, 1, 3).reshape(n, frames, heads * size)
