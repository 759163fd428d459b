"""Time-synchronous beam search for transducers: one symbol a frame at most, equal token sequences merged.

The search of "modified beam search" in icefall: at each frame a hypothesis takes a blank or one token, and moves on.
Utterances and hypotheses share one call of the joiner and one of the predictor a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.endpoint import Segment
from sottovoce.decoding.fusion import Fusion, heard_array
from sottovoce.decoding.greedy import check_blank_penalty
from sottovoce.decoding.hotwords import ROOT, ContextGraph
from sottovoce.decoding.nbest import EMPTY, NBest, Trace, follow
from sottovoce.decoding.protocol import BLANK, NO_HISTORY, Floats, Integers, State, Transducer
from sottovoce.decoding.rows import copy_state, select_rows
from sottovoce.errors import ConfigError

Scores = NDArray[np.float64]
Keys = NDArray[np.uint64]

_MOST = 1_000  # hypotheses: totals are (beam, vocabulary), and comparisons (beam, beam)


@dataclass(frozen=True)
class BeamState:
    """What a beam search carries from chunk to chunk; N utterances of B hypotheses, absent ones scored -inf.

    A key is a 64-bit hash of a hypothesis' tokens, so that equal sequences are found without looking at them.
    """

    frames: Integers  # (N,) encoder frames seen
    starts: Integers  # (N,) of them, those before the present segment
    scores: Scores  # (N, B) with the bonus of hotwords and of fusion
    keys: Keys  # (N, B)
    parents: Keys  # (N, B) the key without the last token
    last: Integers  # (N, B) the last token
    traces: NDArray[Any]  # (N, B) of Trace
    graphs: NDArray[Any]  # (N,) of ContextGraph, or None without hotwords
    contexts: Integers  # (N, B) states in the graphs
    heard: NDArray[Any]  # (N, B) of Heard, or None without fusion
    output: Floats  # (N, B, J) predictor output after the last token
    predictor: State  # arrays (N, B, ...)


def _extend_keys(keys: Keys, tokens: Integers) -> Keys:
    """Hash of a sequence and one more token (the finalizer of splitmix64): a clash has a chance of 2**-64 a pair."""
    z = keys * np.uint64(0x9E3779B97F4A7C15) + tokens.astype(np.uint64) + np.uint64(1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _top(scores: Scores, count: int) -> tuple[Integers, Scores]:
    """Indexes and values (N, count) of the largest scores (N, M), best first; ties go to the lowest index."""
    scores = scores.copy()
    every = np.arange(len(scores))
    indexes = np.empty((len(scores), count), np.int64)
    values = np.empty((len(scores), count))
    for k in range(count):
        indexes[:, k] = scores.argmax(axis=1)
        values[:, k] = scores[every, indexes[:, k]]
        scores[every, indexes[:, k]] = -np.inf
    return indexes, values


def _merge(state: BeamState, totals: Scores, log_probs: Floats, t: int) -> NDArray[Any]:
    """Add up, in totals (N, B, V), the two ways to one sequence: a blank after it, its last token after its beginning.

    Returns the traces (N, B) of the hypotheses that a blank continues: those of the likelier way. Hypotheses of one
    utterance differ, so each has at most one partner.
    """
    alive = np.isfinite(state.scores)
    equal = (state.parents[:, :, None] == state.keys[:, None, :]) & alive[:, :, None] & alive[:, None, :]
    row, longer, shorter = np.nonzero(equal)
    token = state.last[row, longer]
    stay, extend = totals[row, longer, BLANK], totals[row, shorter, token]
    totals[row, longer, BLANK] = np.logaddexp(stay, extend)
    totals[row, shorter, token] = -np.inf
    better = extend > stay
    traces = state.traces.copy()
    for i, a, b, k in zip(row[better], longer[better], shorter[better], token[better].tolist(), strict=True):
        traces[i, a] = Trace(state.traces[i, b], k, int(state.frames[i]) + t, float(log_probs[i, b, k]))
    return traces


@dataclass(frozen=True)
class Beam:
    """Keep the ``beam`` best token sequences; blank_penalty is subtracted from the blank's log-probability (nats).

    Utterances started with hotwords get their bonus with each token, before the best are chosen; what is credited for a
    match under way counts in the beam, not in results. ``fusion`` adds a language model's share to each token, and in
    results to the end. With beam=1 and neither this is greedy search with one symbol a frame. Raises ConfigError for a
    beam outside 1 to 1,000 or a penalty that is not finite.
    """

    beam: int = 4
    blank_penalty: float = 0.0
    hotwords: ContextGraph | None = None
    fusion: Fusion | None = None

    def __post_init__(self) -> None:
        check_blank_penalty(self.blank_penalty)
        if isinstance(self.beam, bool) or not isinstance(self.beam, int) or not 1 <= self.beam <= _MOST:
            raise ConfigError(f"beam must be a whole number from 1 to {_MOST}, found {self.beam!r}")

    def start(self, model: Transducer, n: int) -> BeamState:
        """The state of n utterances before their first frame."""
        total = n * self.beam
        output, predictor = model.predictor_step(np.full(total, NO_HISTORY, np.int64), model.predictor_start(total))
        shape = (n, self.beam)
        scores = np.full(shape, -np.inf)
        scores[:, 0] = 0.0
        return BeamState(
            frames=np.zeros(n, np.int64),
            starts=np.zeros(n, np.int64),
            scores=scores,
            keys=np.ones(shape, np.uint64),
            parents=np.zeros(shape, np.uint64),
            last=np.zeros(shape, np.int64),
            traces=np.full(shape, EMPTY, object),
            graphs=np.full(n, self.hotwords, object),
            contexts=np.full(shape, ROOT, np.int64),
            heard=self._begun(model, output, shape),
            output=output.reshape(*shape, -1),
            predictor=tuple(array.reshape(*shape, *array.shape[1:]) for array in predictor),
        )

    def _begun(self, model: Transducer, output: Floats, shape: tuple[int, ...]) -> NDArray[Any]:
        if self.fusion is None:
            return np.full(shape, None, object)
        return heard_array(self.fusion.start(model, output), shape)

    def _begun_anew(self, heard: NDArray[Any]) -> NDArray[Any]:
        return heard if self.fusion is None else heard_array(self.fusion.restart(list(heard.flat)), heard.shape)

    def advance(self, model: Transducer, frames: Floats, lengths: Integers, state: BeamState) -> BeamState:
        """Decode the next chunk: frames float32 (N, T, J), of which the first lengths (N,) of each row count."""
        state = copy_state(state)
        for t in range(min(frames.shape[1], int(lengths.max(initial=0)))):
            rows = np.flatnonzero(lengths > t)
            stepped = self._step(model, frames[rows, t], select_rows(state, rows), t)
            _write_rows(state, rows, stepped)
        return replace(state, frames=state.frames + lengths)

    def _step(self, model: Transducer, encoder: Floats, state: BeamState, t: int) -> BeamState:
        n, width = state.scores.shape
        joint = model.joiner(np.repeat(encoder, width, axis=0), state.output.reshape(n * width, -1))
        joint[:, BLANK] -= np.float32(self.blank_penalty)
        log_probs = joint.reshape(n, width, -1)
        totals = state.scores[:, :, None] + log_probs
        _add_bonuses(state, totals)
        if self.fusion is not None:
            totals += np.stack([heard.bonus for heard in state.heard.flat]).reshape(totals.shape)
        stayed = _merge(state, totals, log_probs, t)
        indexes, scores = _top(totals.reshape(n, -1), width)
        origins, tokens = np.divmod(indexes, log_probs.shape[2])
        tokens[np.isneginf(scores)] = BLANK  # absent hypotheses take no step
        traces = _extend_traces(state, stayed, origins, tokens, log_probs, t)
        return _follow_choices(model, self.fusion, state, origins, tokens, scores, traces)

    def restart(self, state: BeamState) -> BeamState:
        """A new segment for each utterance: nothing found yet, frames counted on, the best hypothesis' history kept.

        To a language model that is fused it is a new sentence.
        """
        shape = state.scores.shape
        scores = np.full(shape, -np.inf)
        scores[:, 0] = 0.0
        best = np.repeat(self._final_scores(state).argmax(axis=1)[:, None], shape[1], axis=1)
        every = np.arange(len(best))[:, None]
        return replace(
            copy_state(state),
            starts=state.frames,
            scores=scores,
            keys=np.ones(shape, np.uint64),
            parents=np.zeros(shape, np.uint64),
            traces=np.full(shape, EMPTY, object),
            contexts=np.full(shape, ROOT, np.int64),
            heard=self._begun_anew(state.heard[every, best]),
            output=state.output[every, best],
            predictor=tuple(array[every, best] for array in state.predictor),
        )

    def _final_scores(self, state: BeamState) -> Scores:
        """Scores (N, B) without the credit of matches that are not complete, and with what a language model gives the
        end."""
        final = state.scores.copy()
        for scores, graph, contexts in zip(final, state.graphs, state.contexts, strict=True):
            if graph is not None:
                scores -= graph.credit[contexts]
        if self.fusion is not None:
            alive = np.isfinite(final)
            final[alive] += self.fusion.finals(state.heard[alive].tolist())
        return final

    def segments(self, state: BeamState) -> list[Segment]:
        """How far the present segment of each utterance is, by its best hypothesis."""
        best = state.traces[np.arange(len(state.frames)), self._final_scores(state).argmax(axis=1)]
        return [
            Segment.of(start, seen, trace)
            for start, seen, trace in zip(state.starts.tolist(), state.frames.tolist(), best, strict=True)
        ]

    def results(self, state: BeamState) -> list[NBest]:
        """What was found in the present segment: up to ``beam`` hypotheses for each utterance, best first."""
        finals = self._final_scores(state)
        orders = np.argsort(-finals, axis=1, kind="stable")
        return [
            NBest(tuple(follow(traces[k], float(scores[k])) for k in order if np.isfinite(scores[k])))
            for traces, scores, order in zip(state.traces, finals, orders, strict=True)
        ]


def _add_bonuses(state: BeamState, totals: Scores) -> None:
    for row, graph, contexts in zip(totals, state.graphs, state.contexts.tolist(), strict=True):
        if graph is not None:
            for total, context in zip(row, contexts, strict=True):
                total += graph.bonuses(context)


def _step_contexts(state: BeamState, contexts: Integers, tokens: Integers) -> Integers:
    for i, graph in enumerate(state.graphs):
        if graph is not None:
            contexts[i] = [graph.step(*pair) for pair in zip(contexts[i].tolist(), tokens[i].tolist(), strict=True)]
    return contexts


def _write_rows(state: BeamState, rows: Integers, new: BeamState) -> None:
    for name in ("scores", "keys", "parents", "last", "traces", "contexts", "heard", "output"):
        getattr(state, name)[rows] = getattr(new, name)
    for array, new_array in zip(state.predictor, new.predictor, strict=True):
        array[rows] = new_array


def _extend_traces(
    state: BeamState,
    stayed: NDArray[Any],
    origins: Integers,
    tokens: Integers,
    log_probs: Floats,
    t: int,
) -> NDArray[Any]:
    """The traces (N, B) of the hypotheses that were chosen: a blank keeps what stayed, a token extends what was."""
    traces = stayed[np.arange(len(origins))[:, None], origins]
    for i, k in zip(*np.nonzero(tokens), strict=True):
        origin, token = origins[i, k], int(tokens[i, k])
        log_prob = float(log_probs[i, origin, token])
        traces[i, k] = Trace(state.traces[i, origin], token, int(state.frames[i]) + t, log_prob)
    return traces


def _follow_choices(
    model: Transducer,
    fusion: Fusion | None,
    state: BeamState,
    origins: Integers,
    tokens: Integers,
    scores: Scores,
    traces: NDArray[Any],
) -> BeamState:
    """The hypotheses that were chosen: each continues origins (N, B) with tokens (N, B); blanks change nothing."""
    every = np.arange(len(origins))[:, None]
    emitted = tokens != BLANK
    keys, output = state.keys[every, origins], state.output[every, origins]
    predictor = tuple(array[every, origins] for array in state.predictor)
    heard = state.heard[every, origins]
    if emitted.any():
        output[emitted], stepped = model.predictor_step(tokens[emitted], tuple(array[emitted] for array in predictor))
        for array, new in zip(predictor, stepped, strict=True):
            array[emitted] = new
        if fusion is not None:
            extended = fusion.extend(model, heard[emitted].tolist(), tokens[emitted], output[emitted])
            heard[emitted] = heard_array(extended, (len(extended),))
    return BeamState(
        frames=state.frames,
        starts=state.starts,
        scores=scores,
        keys=np.where(emitted, _extend_keys(keys, tokens), keys),
        parents=np.where(emitted, keys, state.parents[every, origins]),
        last=np.where(emitted, tokens, state.last[every, origins]),
        traces=traces,
        graphs=state.graphs,
        contexts=_step_contexts(state, state.contexts[every, origins], tokens),
        heard=heard,
        output=output,
        predictor=predictor,
    )


def beam_search(
    model: Transducer, frames: Floats, lengths: Integers, *, beam: int = 4, blank_penalty: float = 0.0
) -> list[NBest]:
    """Decode whole utterances: encoder frames float32 (N, T, J), lengths int64 (N,)."""
    search = Beam(beam, blank_penalty)
    return search.results(search.advance(model, frames, lengths, search.start(model, len(frames))))
