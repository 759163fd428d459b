"""Greedy search, a batch of utterances at a time, whole or in chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.endpoint import Segment
from sottovoce.decoding.nbest import EMPTY, NBest, Trace, follow
from sottovoce.decoding.protocol import BLANK, NO_HISTORY, Floats, Integers, State, Transducer, select
from sottovoce.decoding.rows import copy_state
from sottovoce.errors import ConfigError


@dataclass(frozen=True)
class GreedyState:
    """What a greedy search carries from chunk to chunk; N utterances."""

    frames: Integers  # (N,) encoder frames seen
    starts: Integers  # (N,) of them, those before the present segment
    scores: NDArray[np.float64]  # (N,)
    traces: NDArray[Any]  # (N,) of Trace
    output: Floats  # (N, J) predictor output after the last token
    predictor: State  # arrays (N, ...)


def check_blank_penalty(blank_penalty: float) -> None:
    """Raises ConfigError unless the penalty is a finite number."""
    if not abs(blank_penalty) <= np.finfo(np.float32).max:
        raise ConfigError(f"blank_penalty must be a finite number, found {blank_penalty}")


@dataclass(frozen=True)
class Greedy:
    """At each frame take the best token, at most max_symbols of them before the next frame.

    blank_penalty is subtracted from the blank's log-probability (nats). Ties go to the lowest id.
    Raises ConfigError for max_symbols below 1 or a penalty that is not finite.
    """

    max_symbols: int = 1
    blank_penalty: float = 0.0

    def __post_init__(self) -> None:
        check_blank_penalty(self.blank_penalty)
        if self.max_symbols < 1:
            raise ConfigError(f"max_symbols must be at least 1, found {self.max_symbols}")

    def start(self, model: Transducer, n: int) -> GreedyState:
        """The state of n utterances before their first frame."""
        output, predictor = model.predictor_step(np.full(n, NO_HISTORY, np.int64), model.predictor_start(n))
        zeros = np.zeros(n, np.int64)
        return GreedyState(zeros, zeros.copy(), np.zeros(n), np.full(n, EMPTY, object), output, predictor)

    def advance(self, model: Transducer, frames: Floats, lengths: Integers, state: GreedyState) -> GreedyState:
        """Decode the next chunk: frames float32 (N, T, J), of which the first lengths (N,) of each row count."""
        state = copy_state(state)
        for t in range(min(frames.shape[1], int(lengths.max(initial=0)))):
            rows = np.flatnonzero(lengths > t)
            for _ in range(self.max_symbols):
                rows = self._emit(model, frames[rows, t], rows, t, state)
                if not rows.size:
                    break
        return replace(state, frames=state.frames + lengths)

    def _emit(self, model: Transducer, encoder: Floats, rows: Integers, t: int, state: GreedyState) -> Integers:
        """One symbol for the given rows, written into state; returns the rows whose symbol was not blank."""
        log_probs = model.joiner(encoder, state.output[rows])
        log_probs[:, BLANK] -= np.float32(self.blank_penalty)
        tokens = log_probs.argmax(axis=1)
        chosen = log_probs[np.arange(len(rows)), tokens]
        state.scores[rows] += chosen
        emitted = tokens != BLANK
        rows, tokens, chosen = rows[emitted], tokens[emitted], chosen[emitted]
        if rows.size:
            for row, token, log_prob in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
                state.traces[row] = Trace(state.traces[row], token, int(state.frames[row]) + t, log_prob)
            state.output[rows], predictor = model.predictor_step(tokens, select(state.predictor, rows))
            for array, new in zip(state.predictor, predictor, strict=True):
                array[rows] = new
        return rows

    def restart(self, state: GreedyState) -> GreedyState:
        """A new segment for each utterance: nothing found yet, frames counted on, the predictor's history kept."""
        n = len(state.frames)
        return replace(copy_state(state), starts=state.frames, scores=np.zeros(n), traces=np.full(n, EMPTY, object))

    def segments(self, state: GreedyState) -> list[Segment]:
        """How far the present segment of each utterance is."""
        return [
            Segment.of(start, seen, trace)
            for start, seen, trace in zip(state.starts.tolist(), state.frames.tolist(), state.traces, strict=True)
        ]

    def results(self, state: GreedyState) -> list[NBest]:
        """What was found in the present segment: one hypothesis for each utterance."""
        return [
            NBest((follow(trace, score),)) for trace, score in zip(state.traces, state.scores.tolist(), strict=True)
        ]


def greedy_search(
    model: Transducer, frames: Floats, lengths: Integers, *, max_symbols: int = 1, blank_penalty: float = 0.0
) -> list[NBest]:
    """Decode whole utterances: encoder frames float32 (N, T, J), lengths int64 (N,)."""
    search = Greedy(max_symbols, blank_penalty)
    return search.results(search.advance(model, frames, lengths, search.start(model, len(frames))))
