"""Greedy and beam search: against plain loops and exhaustive search, whole and in chunks, alone and in batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_transducer import ToyTransducer, random_frames

from sottovoce.decoding import Beam, Greedy, NBest, beam_search, greedy_search, make_search
from sottovoce.decoding.protocol import concatenate, replace, select
from sottovoce.decoding.rows import concatenate_rows, select_rows
from sottovoce.errors import ConfigError

SEARCHES = [Greedy(), Greedy(max_symbols=3), Greedy(blank_penalty=1.5), Beam(1), Beam(3), Beam(5, blank_penalty=0.5)]


def all_lengths(frames: np.ndarray) -> np.ndarray:
    return np.full(len(frames), frames.shape[1])


def plain_greedy(model: ToyTransducer, frames: np.ndarray, max_symbols: int, penalty: float) -> tuple[list, list, list]:
    """One utterance, one token at a time."""
    tokens, times, log_probs = [], [], []
    output, state = model.predictor_step(np.array([-1]), model.predictor_start(1))
    for t, frame in enumerate(frames):
        for _ in range(max_symbols):
            scores = model.joiner(frame[None], output)[0]
            scores[0] -= np.float32(penalty)
            best = int(scores.argmax())
            if best == 0:
                break
            tokens.append(best)
            times.append(t)
            log_probs.append(float(scores[best]))
            output, state = model.predictor_step(np.array([best]), state)
    return tokens, times, log_probs


def exhaustive(model: ToyTransducer, frames: np.ndarray) -> dict[tuple[int, ...], float]:
    """The log-probability of every token sequence: the sum over all its alignments, one symbol or blank a frame."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(model.vocabulary), repeat=len(frames)):
        output, state = model.predictor_step(np.array([-1]), model.predictor_start(1))
        score = 0.0
        for frame, token in zip(frames, path, strict=True):
            score += float(model.joiner(frame[None], output)[0, token])
            if token:
                output, state = model.predictor_step(np.array([token]), state)
        key = tuple(token for token in path if token)
        totals[key] = float(np.logaddexp(totals.get(key, -math.inf), score))
    return totals


@given(st.integers(0, 500), st.integers(1, 4), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 1.0]))
@settings(max_examples=30)
def test_greedy_is_the_plain_loop(seed: int, n: int, max_symbols: int, penalty: float) -> None:
    model, frames = ToyTransducer(seed=seed), random_frames(n, 9, seed=seed)
    lengths = np.random.default_rng(seed).integers(0, 10, n)
    found = greedy_search(model, frames, lengths, max_symbols=max_symbols, blank_penalty=penalty)
    for nbest, row, length in zip(found, frames, lengths, strict=True):
        tokens, times, log_probs = plain_greedy(model, row[:length], max_symbols, penalty)
        assert len(nbest) == 1
        assert nbest.best.tokens == tuple(tokens)
        assert nbest.best.times == tuple(times)
        assert nbest.best.token_log_probs == tuple(log_probs)


def test_greedy_steps_the_predictor_only_after_a_token() -> None:
    model, frames = ToyTransducer(seed=3), random_frames(4, 12)
    found = greedy_search(model, frames, all_lengths(frames))
    assert model.steps == 4 + sum(len(nbest.best.tokens) for nbest in found)


def test_a_blank_penalty_makes_for_more_tokens() -> None:
    model, frames = ToyTransducer(seed=1), random_frames(8, 20)
    counts = [
        sum(len(nbest.best.tokens) for nbest in greedy_search(model, frames, all_lengths(frames), blank_penalty=p))
        for p in (-100.0, 0.0, 100.0)
    ]
    assert counts[0] == 0 < counts[1] < counts[2] == 8 * 20


@given(st.integers(0, 500), st.sampled_from([0.0, 0.7]))
@settings(max_examples=30)
def test_a_beam_of_one_is_greedy(seed: int, penalty: float) -> None:
    model, frames = ToyTransducer(seed=seed), random_frames(3, 15, seed=seed)
    lengths = np.array([15, 4, 0])
    assert beam_search(model, frames, lengths, beam=1, blank_penalty=penalty) == greedy_search(
        model, frames, lengths, blank_penalty=penalty
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_is_exhaustive_search(seed: int) -> None:
    model, frames = ToyTransducer(vocabulary=3, seed=seed), random_frames(1, 5, seed=seed)
    expected = exhaustive(model, frames[0])
    found = beam_search(model, frames, all_lengths(frames), beam=3**5)[0]
    assert {hypothesis.tokens for hypothesis in found} == set(expected)
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(expected[hypothesis.tokens], abs=1e-5)
    scores = [hypothesis.score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)
    assert np.logaddexp.reduce(scores) == pytest.approx(0, abs=1e-5)  # nothing lost, nothing counted twice


@given(st.integers(0, 500), st.integers(2, 6))
@settings(max_examples=30)
def test_nbest_lists_hold_different_sequences_best_first(seed: int, beam: int) -> None:
    model, frames = ToyTransducer(vocabulary=3, seed=seed), random_frames(2, 12, seed=seed)
    for nbest in beam_search(model, frames, all_lengths(frames), beam=beam):
        assert len({hypothesis.tokens for hypothesis in nbest}) == len(nbest) <= beam
        scores = [hypothesis.score for hypothesis in nbest]
        assert scores == sorted(scores, reverse=True)
        for h in nbest:
            assert len(h.tokens) == len(h.times) == len(h.token_log_probs)
            assert list(h.times) == sorted(set(h.times))  # one symbol a frame
            assert 0 not in h.tokens


def run(search: Greedy | Beam, model: ToyTransducer, frames: np.ndarray, cuts: list[int]) -> list[NBest]:
    state = search.start(model, len(frames))
    for chunk in np.split(frames, cuts, axis=1):
        state = search.advance(model, chunk, all_lengths(chunk), state)  # type: ignore[arg-type]
    return search.results(state)  # type: ignore[arg-type]


@pytest.mark.parametrize("search", SEARCHES)
@given(cuts=st.lists(st.integers(0, 14), max_size=5), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_chunks_give_exactly_the_whole(search: Greedy | Beam, cuts: list[int], seed: int) -> None:
    model, frames = ToyTransducer(seed=seed), random_frames(3, 14, seed=seed)
    assert run(search, model, frames, sorted(cuts)) == run(search, model, frames, [])


@pytest.mark.parametrize("search", SEARCHES)
def test_a_batch_is_its_utterances_one_by_one(search: Greedy | Beam) -> None:
    model, frames, lengths = ToyTransducer(seed=5), random_frames(5, 14, seed=5), np.array([14, 3, 0, 9, 14])
    batch = search.results(search.advance(model, frames, lengths, search.start(model, 5)))  # type: ignore[arg-type]
    for nbest, row, length in zip(batch, frames, lengths, strict=True):
        assert run(search, model, row[None, :length], []) == [nbest]


@pytest.mark.parametrize("search", SEARCHES)
def test_states_can_be_joined_and_taken_apart(search: Greedy | Beam) -> None:
    model, frames = ToyTransducer(seed=7), random_frames(2, 10, seed=7)
    a, b = (search.advance(model, f[None, :4], np.array([4]), search.start(model, 1)) for f in frames)  # type: ignore[arg-type]
    joined = search.advance(model, frames[:, 4:], np.array([6, 6]), concatenate_rows([a, b]))  # type: ignore[arg-type]
    second = select_rows(joined, np.array([1]))
    assert search.results(joined) == run(search, model, frames, [])  # type: ignore[arg-type]
    assert search.results(second) == run(search, model, frames[1:], [])  # type: ignore[arg-type]


@pytest.mark.parametrize("search", SEARCHES)
def test_advancing_leaves_the_old_state_as_it_was(search: Greedy | Beam) -> None:
    model, frames = ToyTransducer(seed=9), random_frames(2, 10, seed=9)
    state = search.advance(model, frames, all_lengths(frames), search.start(model, 2))  # type: ignore[arg-type]
    before = search.results(state)  # type: ignore[arg-type]
    search.advance(model, frames, all_lengths(frames), state)  # type: ignore[arg-type]
    assert search.results(state) == before  # type: ignore[arg-type]


def test_a_very_long_stream_ends_well() -> None:
    """Ten thousand tokens: traces are followed and freed without recursion."""
    model, frames = ToyTransducer(seed=2), random_frames(1, 10_000, seed=2)
    assert len(greedy_search(model, frames, all_lengths(frames), blank_penalty=50.0)[0].best.tokens) == 10_000


def test_rows_of_plain_states() -> None:
    state = (np.arange(6).reshape(3, 2), np.arange(3))
    picked = select(state, np.array([2, 0]))
    np.testing.assert_array_equal(picked[0], [[4, 5], [0, 1]])
    replaced = replace(state, np.array([0]), select(state, np.array([1])))
    np.testing.assert_array_equal(replaced[1], [1, 1, 2])
    np.testing.assert_array_equal(state[1], [0, 1, 2])
    np.testing.assert_array_equal(concatenate([state, picked])[1], [0, 1, 2, 2, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "viterbi"}, "method must be"),
        ({"method": "beam", "beam": 1001}, "beam must be a whole number from 1 to 1000, found 1001"),
        ({"method": "beam", "beam": 0}, "beam must be a whole number from 1 to 1000, found 0"),
        ({"method": "beam", "max_symbols": 2}, "max_symbols must be 1, found 2"),
        ({"max_symbols": 0}, "max_symbols must be at least 1, found 0"),
        ({"blank_penalty": math.nan}, "blank_penalty must be a finite number"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_search(**options)
