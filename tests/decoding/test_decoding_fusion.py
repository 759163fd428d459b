"""Language models in the beam search: every score is the sum of its parts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from test_decoding_searches import all_lengths, exhaustive, run
from toy_language_model import ToyNetwork
from toy_transducer import ToyTransducer, random_frames

from sottovoce.decoding import Beam, make_search
from sottovoce.decoding.fusion import Fusion, TokenReader, WordReader, internal_scores
from sottovoce.decoding.language_model import TokenModel
from sottovoce.decoding.protocol import select
from sottovoce.decoding.sentence_scores import score_sentences
from sottovoce.errors import ConfigError

PIECES = ("<blk>", "▁a", "b", "▁", "c")


def tokens_of(size: int) -> TokenReader:
    """The recognizer's token k is the model's size - k."""
    return TokenReader(ToyNetwork(size + 1, seed=1), np.array([0, *(size - k for k in range(1, size))]))


def word_model(seed: int = 2) -> TokenModel:
    """Each letter is a token of the model: 1 to 3 for a, b, c."""
    return TokenModel(ToyNetwork(4, seed), lambda word: ["abc".index(letter) + 1 for letter in word])


def internal_of(model: ToyTransducer, tokens: tuple[int, ...]) -> float:
    total, state, last = 0.0, model.predictor_start(1), -1
    for token in tokens:
        output, state = model.predictor_step(np.array([last]), state)
        log_probs = model.joiner(np.zeros_like(output), output)[0].astype(np.float64)
        total += log_probs[token] - math.log(math.fsum(np.exp(log_probs[1:])))
        last = token
    return total


def words_of(tokens: tuple[int, ...]) -> list[str]:
    return "".join(PIECES[token] for token in tokens).replace("▁", " ").split()


@pytest.mark.parametrize("internal", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_gives_every_sequence_the_sum_of_its_parts(seed: int, internal: float) -> None:
    model, frames = ToyTransducer(vocabulary=3, seed=seed), random_frames(1, 5, seed=seed)
    reader = tokens_of(3)
    found = run(Beam(3**5, fusion=Fusion(reader, 0.7, internal)), model, frames, [])[0]
    acoustic = exhaustive(model, frames[0])
    assert {h.tokens for h in found} == set(acoustic)
    wanted = {
        tokens: score
        + 0.7 * reader.network.score([int(reader.tokens[t]) for t in tokens])
        - internal * internal_of(model, tokens)
        for tokens, score in acoustic.items()
    }
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(wanted[hypothesis.tokens], abs=1e-5)
    assert found.best.tokens == max(wanted, key=wanted.__getitem__)
    plain = run(Beam(3**5), model, frames, [])[0]
    assert run(Beam(3**5, fusion=Fusion(reader, 0.0)), model, frames, [])[0] == plain


@pytest.mark.parametrize("internal", [0.0, 0.5])
def test_words_are_scored_where_they_end(internal: float) -> None:
    """Also a mark with nothing behind it, letters before any mark, and the last word of each sequence."""
    transducer, frames = ToyTransducer(vocabulary=5, seed=4), random_frames(1, 4, seed=4)
    model = word_model()
    found = run(Beam(1000, fusion=Fusion(WordReader(model, PIECES), 1.5, internal)), transducer, frames, [])[0]
    acoustic = exhaustive(transducer, frames[0])
    assert {h.tokens for h in found} == set(acoustic)
    scores = score_sentences(model, [words_of(h.tokens) for h in found])
    for hypothesis, score in zip(found, scores, strict=True):
        wanted = acoustic[hypothesis.tokens] + 1.5 * score - internal * internal_of(transducer, hypothesis.tokens)
        assert hypothesis.score == pytest.approx(wanted, abs=1e-5)


def test_a_word_brings_its_score_with_the_piece_after_it() -> None:
    model = word_model()
    reader = WordReader(model, PIECES)
    state = reader.start(1)
    assert not reader.scores(state).any()
    state = reader.read(np.array([1]), state)  # ▁a
    state = reader.read(np.array([2]), state)  # b
    word, before = model.step(["ab"], model.start(1))
    assert reader.scores(state)[0] == pytest.approx([0, word[0], 0, word[0], 0])
    assert reader.final(state) == pytest.approx(word + model.end(before))
    after = reader.read(np.array([3]), state)  # ▁
    assert not reader.scores(after).any() and reader.final(after) == pytest.approx(model.end(before))
    assert state[0].tolist() == ["ab"]


def test_words_are_read_at_their_ends_alone() -> None:
    class Counting(ToyNetwork):
        read = 0

        def step(self, tokens, state):
            Counting.read += len(tokens)
            return super().step(tokens, state)

    reader = WordReader(TokenModel(Counting(9, 2), lambda word: [len(word)]), PIECES)  # one token a word
    state = reader.start(2)
    for token in (1, 2, 4, 2):  # ▁abcb
        state = reader.read(np.array([token, token]), state)
    assert Counting.read == 2  # </s>, from which both begin
    reader.read(np.array([1, 2]), state)
    assert Counting.read == 3


def test_the_internal_model_leaves_out_the_blank() -> None:
    model = ToyTransducer(seed=3)
    outputs, _ = model.predictor_step(np.array([-1, 1, 2]), model.predictor_start(3))
    found = internal_scores(model, outputs)
    assert np.exp(found[:, 1:]).sum(axis=1) == pytest.approx(1) and not found[:, 0].any()
    joint = model.joiner(np.zeros_like(outputs), outputs)
    assert np.diff(found[:, 1:]) == pytest.approx(np.diff(joint[:, 1:]), abs=1e-5)
    np.testing.assert_array_equal(found[1:2], internal_scores(model, outputs[1:2]))


FUSIONS = [Fusion(tokens_of(5), 0.8, 0.3), Fusion(WordReader(word_model(), PIECES), 0.5)]


@pytest.mark.parametrize("fusion", FUSIONS, ids=["tokens", "words"])
def test_chunks_and_batches_give_the_same(fusion: Fusion) -> None:
    model, frames, lengths = ToyTransducer(seed=6), random_frames(5, 14, seed=6), np.array([14, 3, 0, 9, 14])
    search = Beam(4, fusion=fusion)
    batch = search.results(search.advance(model, frames, lengths, search.start(model, 5)))
    for nbest, row, length in zip(batch, frames, lengths, strict=True):
        for cuts in ([], [1, 2, 7]):
            assert run(search, model, row[None, :length], cuts) == [nbest]


@pytest.mark.parametrize("fusion", FUSIONS, ids=["tokens", "words"])
def test_a_new_segment_is_a_new_sentence(fusion: Fusion) -> None:
    """The predictor remembers, and with it the internal model; the language model begins anew."""
    model, frames = ToyTransducer(seed=8), random_frames(2, 12, seed=8)
    search = Beam(3, fusion=fusion)
    state = search.restart(search.advance(model, frames[:, :6], np.array([6, 6]), search.start(model, 2)))
    begun = fusion.reader.start(1)
    for heard in state.heard.flat:
        assert fusion.finals([heard])[0] == pytest.approx(fusion.weight * fusion.reader.final(begun)[0])
        wanted = fusion.weight * fusion.reader.scores(begun)[0] + heard.internal
        assert not heard.bonus[0] and heard.bonus[1:] == pytest.approx(wanted[1:])
    if fusion.internal:
        own = fusion.internal * internal_scores(model, state.output[:, 0])
        np.testing.assert_allclose([row[0].internal for row in state.heard], -own)
    assert search.results(state)[0].best.tokens == ()
    search.results(search.advance(model, frames[:, 6:], all_lengths(frames[:, 6:]), state))


def test_readers_take_and_give_rows() -> None:
    """Hypotheses read together or alone are the same, so that any of them can go on."""
    for fusion in FUSIONS:
        for tokens in itertools.permutations([1, 2, 4]):
            together = fusion.reader.read(np.array(tokens), fusion.reader.start(3))
            for row, token in enumerate(tokens):
                alone = fusion.reader.read(np.array([token]), fusion.reader.start(1))
                for a, b in zip(select(together, np.array([row])), alone, strict=True):
                    np.testing.assert_array_equal(a, b)


def test_mistakes() -> None:
    for weights in ((-1.0,), (math.nan,), (1.0, math.inf), (1.0, -0.5)):
        with pytest.raises(ConfigError, match="lm_weight: expected a finite number of at least 0"):
            Fusion(tokens_of(3), *weights)
    with pytest.raises(ConfigError, match="a language model needs a beam search: method must be 'beam'"):
        make_search("greedy", fusion=FUSIONS[0])
