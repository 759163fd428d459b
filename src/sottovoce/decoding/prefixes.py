"""The beginnings that sequences share, so that each is read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.decoding.protocol import Integers


@dataclass(frozen=True, eq=False)
class Level:
    """The different beginnings of one length, M of them: ``parents`` (M,), each one's beginning a token shorter in the
    level before (a root in the first), ``tokens`` (M,) the last token of each; ``rows`` (K,), the sequences that are as
    long or longer, and ``nodes`` (K,), where the beginning of each stands."""

    parents: Integers
    tokens: Integers
    rows: Integers
    nodes: Integers


def prefix_levels(sequences: Sequence[Integers], roots: Integers) -> Iterator[Level]:
    """A prefix tree, level by level; sequence i, int64 (L,) of ids that are not negative, begins at ``roots[i]``."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    width = int(lengths.max(initial=0))
    tokens = np.zeros((len(sequences), width), np.int64)
    tokens[np.arange(width) < lengths[:, None]] = np.concatenate([np.empty(0, np.int64), *sequences])
    size = int(tokens.max(initial=0)) + 1
    nodes = np.asarray(roots, np.int64)
    for place in range(width):
        rows = np.flatnonzero(lengths > place)
        keys, nodes_of_rows = np.unique(nodes[rows] * size + tokens[rows, place], return_inverse=True)
        nodes = nodes.copy()
        nodes[rows] = nodes_of_rows.reshape(-1)
        yield Level(keys // size, keys % size, rows, nodes[rows])
