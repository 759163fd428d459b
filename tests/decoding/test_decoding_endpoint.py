"""Endpoint rules, and segments of a stream that goes on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoding_searches import SEARCHES
from toy_transducer import ToyTransducer, random_frames

from sottovoce.decoding import Beam, EndpointRule, EndpointRules, Greedy, Segment
from sottovoce.errors import ConfigError


@pytest.mark.parametrize(("frames", "blanks", "nonsilence", "expected"), [
    (59, 59, False, False), (60, 60, False, True),  # rule 1: 2.4 s of nothing, frames of 40 ms
    (40, 29, True, False), (40, 30, True, True), (30, 30, False, False),  # rule 2: 1.2 s after a token
    (499, 0, True, False), (500, 0, True, True),  # rule 3: 20 s
])  # fmt: skip
def test_the_default_rules_are_sherpas(frames: int, blanks: int, nonsilence: bool, expected: bool) -> None:
    assert EndpointRules().hold(Segment(0, frames, blanks, nonsilence), 0.04) is expected


def test_each_rule_is_what_it_says() -> None:
    never = EndpointRule(True, 1e9, 1e9)
    rules = EndpointRules(never, EndpointRule(True, 0.5, 2.0), never)
    assert rules.hold(Segment(10, 20, 5, True), 0.1)
    assert not rules.hold(Segment(10, 19, 5, True), 0.1)
    assert not rules.hold(Segment(10, 20, 4, True), 0.1)
    assert not rules.hold(Segment(10, 20, 20, False), 0.1)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["min_trailing_silence", "min_utterance_length"])
def test_times_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be seconds of 0 or more"):
        EndpointRule(**{name: value})


@given(cuts=st.lists(st.integers(0, 30), max_size=5), symbols=st.sampled_from([1, 3]), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_greedy_segments_together_are_the_stream_without_resets(cuts: list[int], symbols: int, seed: int) -> None:
    model, frames, search = ToyTransducer(seed=seed), random_frames(2, 30, seed=seed), Greedy(symbols)
    every = np.array([30, 30])
    (whole, other) = search.results(search.advance(model, frames, every, search.start(model, 2)))
    state, found = search.start(model, 2), []
    for chunk in np.split(frames, sorted(cuts), axis=1):
        state = search.advance(model, chunk, np.full(2, chunk.shape[1]), state)
        found.append([nbest.best for nbest in search.results(state)])
        state = search.restart(state)
    for nbest, hypotheses in zip((whole, other), zip(*found, strict=True), strict=True):
        assert sum((h.tokens for h in hypotheses), ()) == nbest.best.tokens
        assert sum((h.times for h in hypotheses), ()) == nbest.best.times
        assert sum(h.score for h in hypotheses) == pytest.approx(nbest.best.score)


@pytest.mark.parametrize("search", SEARCHES)
def test_segments_are_told_by_the_best_hypothesis(search: Greedy | Beam) -> None:
    model, frames = ToyTransducer(seed=11), random_frames(3, 25, seed=11)
    state = search.start(model, 3)
    state = search.restart(search.advance(model, frames[:, :9], np.array([9, 4, 0]), state))
    assert all(nbest.best.tokens == () and nbest.best.score == 0 and len(nbest) == 1 for nbest in search.results(state))
    state = search.advance(model, frames[:, 9:], np.array([16, 16, 3]), state)
    for segment, nbest, start, count in zip(
        search.segments(state), search.results(state), (9, 4, 0), (16, 16, 3), strict=True
    ):
        times = nbest.best.times
        assert (segment.start, segment.frames, segment.nonsilence) == (start, count, bool(times))
        assert segment.trailing_blanks == (start + count - 1 - times[-1] if times else count)
        assert all(start <= time < start + count for time in times)


def test_a_beam_goes_on_from_its_best_hypothesis() -> None:
    """One hypothesis in the beam: then a reset changes nothing but where the transcript begins."""
    model, frames, every = ToyTransducer(seed=12), random_frames(1, 24, seed=12), np.array([24])
    (whole,) = Beam(1).results(Beam(1).advance(model, frames, every, Beam(1).start(model, 1)))
    half = Beam(1).advance(model, frames[:, :12], every // 2, Beam(1).start(model, 1))
    rest = Beam(1).advance(model, frames[:, 12:], every // 2, Beam(1).restart(half))
    first, second = Beam(1).results(half)[0].best, Beam(1).results(rest)[0].best
    assert first.tokens + second.tokens == whole.best.tokens and first.times + second.times == whole.best.times
