"""Hotwords: the bonus against its definition, icefall's own examples, and beams against every hypothesis there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoding_searches import all_lengths, exhaustive
from toy_transducer import ToyTransducer, random_frames

from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding import Beam, ContextGraph, Phrase, beam_search, make_search, read_hotwords
from sottovoce.decoding.hotwords import hotword_lines
from sottovoce.decoding.rows import concatenate_rows
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError

LETTERS = "_ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # the blank first


def letters(text: str) -> tuple[int, ...]:
    return tuple(LETTERS.index(letter) for letter in text)


def worth(phrase: tuple[int, ...], phrases: list[Phrase]) -> float:
    """A token of a phrase scores what the best phrase with this beginning gives it."""
    beginnings = [phrase[: i + 1] for i in range(len(phrase))]
    return sum(max(p.score for p in phrases if p.tokens[: len(b)] == b) for b in beginnings)


def brute_force(tokens: tuple[int, ...], phrases: list[Phrase]) -> float:
    """The worth of each phrase at each place where it occurs."""
    return sum(
        worth(phrase, phrases)
        for phrase in {p.tokens for p in phrases}
        for at in range(len(tokens))
        if tokens[at : at + len(phrase)] == phrase
    )


def bonus(tokens: tuple[int, ...], graph: ContextGraph) -> float:
    state, total = 0, 0.0
    for token in tokens:
        total += graph.bonuses(state)[token]
        state = graph.step(state, token)
    return float(total - graph.credit[state])


@pytest.mark.parametrize(("text", "expected"), [
    ("HEHERSHE", 14), ("HERSHE", 12), ("HISHE", 9), ("SHED", 6), ("SHELF", 6), ("HELL", 2), ("HELLO", 7),
    ("DHRHISQ", 4), ("THEN", 2),
])  # fmt: skip
def test_bonuses_are_those_that_icefall_publishes(text: str, expected: int) -> None:
    """The queries and scores of the test of icefall's context graph, one point a token."""
    words = ["S", "HE", "SHE", "SHELL", "HIS", "HERS", "HELLO", "THIS", "THEM"]
    phrases = [Phrase(letters(word), 1.0) for word in words]
    assert bonus(letters(text), ContextGraph(phrases, len(LETTERS))) == expected == brute_force(letters(text), phrases)


PHRASES = st.lists(
    st.builds(
        Phrase, st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple), st.sampled_from([0.25, 0.5, 1.0, 3.0])
    ),
    min_size=1,
    max_size=6,
)


@given(phrases=PHRASES, tokens=st.lists(st.integers(1, 3), max_size=12).map(tuple))
@settings(max_examples=200)
def test_the_bonus_is_the_worth_of_what_occurs(phrases: list[Phrase], tokens: tuple[int, ...]) -> None:
    assert bonus(tokens, ContextGraph(phrases, 4)) == brute_force(tokens, phrases)


def test_a_completed_phrase_costs_the_next_token_nothing() -> None:
    graph = ContextGraph([Phrase((1, 2), 2.0)], 4)
    state = graph.step(graph.step(0, 1), 2)
    assert graph.bonuses(0).tolist() == [0, 2, 0, 0]
    assert graph.bonuses(graph.step(0, 1)).tolist() == [0, 0, 2, -2]  # 1 again: another beginning
    assert graph.bonuses(state).tolist() == [0, 2, 0, 0] and graph.credit[state] == 0
    assert graph.step(state, 0) == state


@given(seed=st.integers(0, 300), phrases=PHRASES)
@settings(max_examples=25)
def test_a_wide_beam_scores_every_hypothesis_with_its_bonus(seed: int, phrases: list[Phrase]) -> None:
    model, frames = ToyTransducer(vocabulary=4, seed=seed), random_frames(1, 4, seed=seed)
    search = Beam(400, hotwords=ContextGraph(phrases, 4))
    (nbest,) = search.results(search.advance(model, frames, all_lengths(frames), search.start(model, 1)))
    expected = {t: score + brute_force(t, phrases) for t, score in exhaustive(model, frames[0]).items()}
    assert {h.tokens for h in nbest} == set(expected)
    for hypothesis in nbest:
        assert hypothesis.score == pytest.approx(expected[hypothesis.tokens], abs=1e-5)
        assert max(hypothesis.token_log_probs, default=0) <= 0  # the model's own
    assert [h.score for h in nbest] == sorted((h.score for h in nbest), reverse=True)


def test_hotwords_change_what_a_narrow_beam_finds_and_only_that() -> None:
    model, frames = ToyTransducer(vocabulary=6, seed=3), random_frames(1, 20, seed=3)
    plain = beam_search(model, frames, all_lengths(frames))[0].best
    wanted = next(p for p in itertools.permutations(range(1, 6), 3) if brute_force(plain.tokens, [Phrase(p, 1.0)]) == 0)
    graph = ContextGraph([Phrase(wanted, 9.0)], 6)
    found = {}
    for name, hotwords in (("with", graph), ("absent", ContextGraph([Phrase((5, 5, 5, 5, 5, 5, 5), 1e-9)], 6))):
        search = Beam(4, hotwords=hotwords)
        state = search.advance(model, frames, all_lengths(frames), search.start(model, 1))
        found[name] = search.results(state)[0].best
    assert brute_force(found["with"].tokens, [Phrase(wanted, 1.0)]) > 0
    assert found["absent"].tokens == plain.tokens


def test_streams_with_and_without_hotwords_share_a_batch() -> None:
    model, frames = ToyTransducer(vocabulary=6, seed=4), random_frames(3, 15, seed=4)
    searches = [Beam(3), Beam(3, hotwords=ContextGraph([Phrase((1, 2), 4.0)], 6)),
                Beam(3, hotwords=ContextGraph([Phrase((3,), 2.0), Phrase((4, 4), 2.0)], 6))]  # fmt: skip
    together = concatenate_rows([search.start(model, 1) for search in searches])
    together = searches[0].advance(model, frames, all_lengths(frames), together)
    for i, (search, found) in enumerate(zip(searches, searches[0].results(together), strict=True)):
        alone = search.advance(model, frames[i : i + 1], np.array([15]), search.start(model, 1))
        assert search.results(alone) == [found]


TOKENIZER = Tokenizer(train_tokenizer(["turn on the light", "kitchen lamp"] * 3, kind="unigram", vocabulary=40))


def test_lines_are_read_with_their_scores() -> None:
    lines = ["turn on", "", "  kitchen  light :3", "lamp :0.5"]
    phrases = read_hotwords(lines, TOKENIZER, 1.5)
    assert [TOKENIZER.decode(phrase.tokens) for phrase in phrases] == ["turn on", "kitchen light", "lamp"]
    assert [phrase.score for phrase in phrases] == [1.5, 3.0, 0.5]
    assert hotword_lines("turn on/lamp :2\nlight") == ["turn on", "lamp :2", "light"]


@pytest.mark.parametrize(("line", "message"), [
    ("xylophone", "hotword 'xylophone': the model's tokenizer has no tokens"),
    ("Lamp", "'Lamp': the model's tokenizer has no tokens"),
    (":2", "expected words before the score"),
    ("lamp :loud", "expected a number after ':', found 'loud'"),
    ("lamp :-1", "expected a positive number"),
    ("lamp :nan", "expected a positive number"),
])  # fmt: skip
def test_lines_that_cannot_be_used_are_refused_in_one_line(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_hotwords(["lamp", line], TOKENIZER, 1.5)
    assert "\n" not in str(caught.value)


def test_greedy_search_and_bad_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match="hotwords need a beam search"):
        make_search("greedy", hotwords=ContextGraph([Phrase((1,), 1.0)], 4))
    for score in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="hotwords_score: expected a positive number"):
            read_hotwords(["lamp"], TOKENIZER, score)
    for phrase in (Phrase((), 1.0), Phrase((0,), 1.0), Phrase((4,), 1.0)):
        with pytest.raises(ConfigError, match="expected token ids of 1 to 3"):
            ContextGraph([phrase], 4)
