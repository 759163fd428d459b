"""A decoder-only Transformer language model on packed layers, with its keys and values kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.packed import TransformerLmArchitecture
from sottovoce.runtime.arithmetic import gelu
from sottovoce.runtime.attention import attend
from sottovoce.runtime.native_layers import Layer, LayerSource

_SMALLEST = 16  # positions that a state has room for, at least


def sinusoids(context: int, width: int) -> Floats:
    """Positions of Vaswani et al., section 3.5, in float64, then float32 (context, width), the even columns sines."""
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(context)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(context, width).astype(np.float32)


@dataclass(frozen=True)
class _Block:
    """The layers of one block, each float32 (..., K) -> (..., R)."""

    query: Layer
    key: Layer
    value: Layer
    attended: Layer
    expand: Layer
    contract: Layer
    attention_norm: Layer
    feed_forward_norm: Layer


class TransformerLmNetwork:
    """Tokens to what the output layer reads.

    The state: tokens int64 (N, P), how many of them int64 (N,), then keys and values of each block, float32 (N, P, D);
    P grows as it is needed. A sequence that fills the context keeps its newer half, which is read anew from position 0.
    """

    def __init__(self, architecture: TransformerLmArchitecture, source: LayerSource) -> None:
        a = self.architecture = architecture
        self._tanh = source.tanh
        self._embedding = source.embedding("embedding", a.vocabulary, a.width)
        learned = a.positions == "learned"
        self._positions = source.floats("positions", a.context, a.width) if learned else sinusoids(a.context, a.width)
        self._blocks = [_block(a, source, f"layers.{i}") for i in range(a.layers)]
        self._norm = source.layer_norm("norm", a.width) if a.norm == "pre" else None

    def start(self, n: int) -> State:
        """State of n sequences before their first token."""
        a = self.architecture
        room = min(_SMALLEST, a.context)
        kept = [np.zeros((n, room, a.width), np.float32) for _ in range(2 * a.layers)]
        return (np.zeros((n, room), np.int64), np.zeros(n, np.int64), *kept)

    def read(self, tokens: Integers, lengths: Integers, state: State) -> tuple[Floats, State]:
        """Sequences one after the other, tokens int64 (M,) of lengths (N,) -> outputs float32 (M, D), the new state."""
        waiting = np.split(tokens, np.cumsum(lengths)[:-1])
        found: list[list[Floats]] = [[] for _ in waiting]
        state = tuple(array.copy() for array in state)
        while True:
            rows = np.array([i for i, left in enumerate(waiting) if len(left)], np.int64)
            if not len(rows):
                break
            state, again = self._make_room(state, rows, [waiting[i] for i in rows])
            filled = state[1][rows]
            now = [
                np.concatenate([anew, waiting[i]])[: self.architecture.context - n]
                for i, anew, n in zip(rows, again, filled, strict=True)
            ]
            outputs, state = self._extend(state, rows, now)
            for i, anew, part, output in zip(rows, again, now, outputs, strict=True):
                found[i].append(output[len(anew) :])
                waiting[i] = waiting[i][len(part) - len(anew) :]
        parts = [part for row in found for part in row]
        return np.concatenate(parts) if parts else np.empty((0, self.architecture.width), np.float32), state

    def _make_room(self, state: State, rows: Integers, coming: Sequence[Integers]) -> tuple[State, list[Integers]]:
        """Empty the rows that are full, and return what each row must read again; widen the arrays for what comes."""
        a = self.architecture
        held, filled, *kept = state
        again = [held[i, a.context - a.kept : a.context] if filled[i] == a.context else held[i, :0] for i in rows]
        filled[rows[[len(x) > 0 for x in again]]] = 0
        needed = max(int(filled[i]) + len(x) + len(c) for i, x, c in zip(rows, again, coming, strict=True))
        room = held.shape[1]
        while room < min(needed, a.context):
            room = min(2 * room, a.context)
        more = room - held.shape[1]
        widened = (np.pad(array, ((0, 0), (0, more), *((0, 0),) * (array.ndim - 2))) for array in (held, *kept))
        held, *kept = widened if more else (held, *kept)
        return (held, filled, *kept), [x.copy() for x in again]

    def _extend(self, state: State, rows: Integers, now: list[Integers]) -> tuple[list[Floats], State]:
        """Read ``now`` (K,) after what the given rows hold, which fits; the state's arrays are ours to change."""
        held, filled, *kept = state
        lengths = np.array([len(x) for x in now])
        row = np.repeat(np.arange(len(rows)), lengths)  # of each token
        step = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        position = filled[rows][row] + step
        tokens = np.concatenate(now)
        held[rows[row], position] = tokens
        last = int(position.max()) + 1
        seen = np.ones((len(rows), int(lengths.max())), np.int64)
        seen[row, step] = position + 1
        x = self._embedding(tokens) + self._positions[position]
        for i, block in enumerate(self._blocks):
            keys, values = kept[2 * i], kept[2 * i + 1]

            def attention(x: Floats, block: _Block = block, keys: Floats = keys, values: Floats = values) -> Floats:
                query = np.zeros((*seen.shape, x.shape[1]), np.float32)
                query[row, step] = block.query(x)
                keys[rows[row], position] = block.key(x)
                values[rows[row], position] = block.value(x)
                mixed = attend(query, keys[rows, :last], values[rows, :last], seen, self.architecture.heads)
                return block.attended(mixed[row, step])

            def feed_forward(x: Floats, block: _Block = block) -> Floats:
                return block.contract(gelu(block.expand(x), self._tanh))

            for sublayer, norm in ((attention, block.attention_norm), (feed_forward, block.feed_forward_norm)):
                x = x + sublayer(norm(x)) if self._norm else norm(x + sublayer(x))
        x = self._norm(x) if self._norm else x
        filled[rows] += lengths
        return np.split(x, np.cumsum(lengths)[:-1]), (held, filled, *kept)


def _block(a: TransformerLmArchitecture, source: LayerSource, prefix: str) -> _Block:
    def dense(name: str, rows: int, columns: int) -> Layer:
        return source.dense(f"{prefix}.{name}", rows, columns)

    return _Block(
        query=dense("query", a.width, a.width),
        key=dense("key", a.width, a.width),
        value=dense("value", a.width, a.width),
        attended=dense("attended", a.width, a.width),
        expand=dense("expand", a.feed_forward, a.width),
        contract=dense("contract", a.width, a.feed_forward),
        attention_norm=source.layer_norm(f"{prefix}.attention_norm", a.width),
        feed_forward_norm=source.layer_norm(f"{prefix}.feed_forward_norm", a.width),
    )
