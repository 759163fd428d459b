import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_cases import all_paths, lattices, words_of

from sottovoce.decoding.language_model import (
    Interpolated,
    NgramLanguageModel,
    TokenModel,
    read_history,
)
from sottovoce.decoding.lattices import best_path, make_lattice
from sottovoce.decoding.lattices.rescoring import rescore_lattice
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.sentence_scores import score_sentences
from sottovoce.errors import ConfigError
from sottovoce.ngram import NgramModel, train_kneser_ney
from sottovoce.ngram import Vocabulary as NgramVocabulary

VOCABULARY = ["</s>", "<unk>", "a", "b", "c"]


class Toy:
    """A next-token network without end to its memory: the state is a number that every token changes, and the
    distribution comes from it. Counts the histories that it reads."""

    def __init__(self, seed: int = 0, size: int = 5) -> None:
        self.table = np.random.default_rng(seed).normal(size=(97, size))
        self.read = 0

    def start(self, n: int):
        return (np.ones(n, np.int64),)

    def step(self, tokens, state):
        self.read += len(tokens)
        after = (state[0] * 31 + tokens * 7 + 3) % 97
        logits = self.table[after]
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return log_probs.astype(np.float32), (after,)


def encode(word: str) -> list[int]:
    return [VOCABULARY.index(word) if word in VOCABULARY else 1]


def toy(seed: int = 0) -> TokenModel:
    return TokenModel(Toy(seed), encode)


def alone(model: TokenModel, words) -> float:
    """Score of one sentence, a token at a time and with nothing shared."""
    network = model.network
    state, total, token = network.start(1), 0.0, 0
    for word in (*words, "</s>"):
        for following in [0] if word == "</s>" else model.encode(word):
            log_probs, state = network.step(np.array([token]), state)
            total += float(log_probs[0, following])
            token = following
    return total


WEIGHTS = ScoreWeights({"acoustic": 1.0, "lm": 0.5, "neural": 1.5}, -0.25)


@given(lattices(max_nodes=5), st.integers(0, 5))
def test_with_all_histories_every_path_has_exactly_its_score(lattice, seed: int) -> None:
    model = toy(seed)
    found = rescore_lattice(lattice, model, WEIGHTS, name="neural", max_histories=10**6)
    wanted = {}
    totals = lattice.totals(ScoreWeights({"acoustic": 1.0, "lm": 0.5}, -0.25))
    for links in all_paths(lattice):
        key = words_of(lattice, links), round(math.fsum(totals[links]), 6)
        wanted[key] = alone(model, key[0])
    without = found.totals(ScoreWeights({"acoustic": 1.0, "lm": 0.5}, -0.25))
    seen = {}
    for links in all_paths(found):
        key = words_of(found, links), round(math.fsum(without[links]), 6)
        seen[key] = math.fsum(found.scores["neural"][links])
    assert seen == pytest.approx(wanted, abs=1e-5)
    best = max(key[1] + 1.5 * score for key, score in wanted.items())
    assert best_path(found).score == pytest.approx(best, abs=1e-5)
    assert found.weights == WEIGHTS and set(found.scores) == {"acoustic", "lm", "neural"}


@given(lattices(), st.integers(1, 3), st.integers(1, 4))
def test_merging_and_limits_bound_the_expansion(lattice, order: int, histories: int) -> None:
    found = rescore_lattice(lattice, toy(), WEIGHTS, name="neural", order=order, max_histories=histories)
    assert found.nodes <= lattice.nodes * histories + 1
    assert found.links <= lattice.links * histories + histories
    kept = {words_of(found, links) for links in all_paths(found)}
    assert kept <= {words_of(lattice, links) for links in all_paths(lattice)} and kept


@given(lattices(), st.integers(0, 3))
def test_a_bigram_needs_one_word_of_history(lattice, seed: int) -> None:
    class Bigram(Toy):
        def step(self, tokens, state):
            return super().step(tokens, (np.ones(len(tokens), np.int64),))

    model = TokenModel(Bigram(seed), encode)
    exact = rescore_lattice(lattice, model, WEIGHTS, name="neural", max_histories=10**6)
    merged = rescore_lattice(lattice, model, WEIGHTS, name="neural", order=2, max_histories=10**6)
    assert best_path(merged).score == pytest.approx(best_path(exact).score, abs=1e-5)
    assert merged.nodes <= exact.nodes and merged.nodes <= lattice.nodes * 4 + 1


def test_the_beam_leaves_out_what_is_far_behind() -> None:
    lattice = make_lattice("u", [0, 1, 2], [0, 0, 1], [1, 1, 2], ["a", "b", "c"], {"acoustic": [0, -50, 0]})
    weights = ScoreWeights({"acoustic": 1.0, "lm": 1.0})
    assert rescore_lattice(lattice, toy(), weights).links == 6
    small = rescore_lattice(lattice, toy(), weights, beam=20)
    assert [small.word(i) for i in range(small.links)] == ["a", "c", ""]
    for options in ({"order": 0}, {"beam": -1}, {"beam": math.nan}, {"max_histories": 0}):
        with pytest.raises(ConfigError, match="rescoring: expected"):
            rescore_lattice(lattice, toy(), weights, **options)
    with pytest.raises(ConfigError, match="expected a weight for the score 'lm'"):
        rescore_lattice(lattice, toy(), ScoreWeights({"acoustic": 1.0}))


def test_a_word_after_a_history_is_read_once_wherever_it_leads() -> None:
    lattice = make_lattice("u", [0, 1, 2, 3], [0, 0, 1, 2], [1, 2, 3, 3], ["a", "a", "", ""], {"acoustic": [0] * 4})
    model = toy()
    rescore_lattice(lattice, model, ScoreWeights({"acoustic": 1.0, "lm": 1.0}))
    assert model.network.read == 2  # </s>, and "a" after it


def test_words_that_do_not_go_on_are_not_read() -> None:
    """Twenty words at each of three places, of which one history goes on: it is read, and the beginning."""
    links = [(place, f"w{place}-{i}") for place in range(3) for i in range(20)]
    lattice = make_lattice(
        "u",
        [0, 1, 2, 3],
        [p for p, _ in links],
        [p + 1 for p, _ in links],
        [w for _, w in links],
        {"acoustic": [0] * 60},
    )
    model = toy()
    rescore_lattice(lattice, model, ScoreWeights({"acoustic": 1.0, "lm": 1.0}), max_histories=1)
    assert model.network.read == 1 + 3


@given(st.lists(st.text("abc", max_size=3), min_size=1, max_size=4), st.integers(0, 5))
def test_peeking_is_a_steps_score(words, seed: int) -> None:
    several = TokenModel(Toy(seed), lambda word: [VOCABULARY.index(letter) for letter in word])
    for model in (several, toy(seed), Interpolated((several, toy(seed + 1)), (0.4, 0.6))):
        state = model.start(len(words))
        for _ in range(2):
            before = model.peek(words, state)
            scores, state = model.step(words, state)
            np.testing.assert_array_equal(before, scores)


sentences = st.lists(st.lists(st.sampled_from([*"abc", "zzz"]), max_size=5), max_size=12)


@given(sentences, st.integers(1, 5))
def test_shared_beginnings_change_no_score(texts, batch: int) -> None:
    found = score_sentences(toy(), texts, batch=batch)
    assert found == pytest.approx([alone(toy(), text) for text in texts], abs=1e-5)


def test_shared_beginnings_are_read_once() -> None:
    model = toy()
    score_sentences(model, [list("abc"), list("abb"), list("ab"), [], list("abc")])
    assert model.network.read == 1 + 1 + 1 + 2  # </s>, a, b, and c beside b


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=3), sentences)
def test_a_conversation_goes_on(before, texts) -> None:
    model = toy()
    history = read_history(model, before)
    found = score_sentences(model, texts, starts=history)
    flat = [word for sentence in before for word in (*sentence, "</s>")]
    wanted = []
    for text in texts:
        wanted.append(alone(model, [*flat, *text]) - _prefix(model, flat))
    assert found == pytest.approx(wanted, abs=1e-4)
    both = tuple(np.concatenate(arrays) for arrays in zip(model.start(1), history, strict=True))
    mixed = score_sentences(model, [*texts, *texts], starts=both, origins=[0] * len(texts) + [1] * len(texts))
    assert mixed == pytest.approx([alone(model, text) for text in texts] + wanted, abs=1e-4)


def _prefix(model: TokenModel, words) -> float:
    state, total = model.start(1), 0.0
    for word in words:
        score, state = model.step([word], state)
        total += float(score[0])
    return total


def test_words_of_several_tokens_and_words_without() -> None:
    model = TokenModel(Toy(), lambda word: [VOCABULARY.index(letter) for letter in word])
    found = score_sentences(model, [["ab", "c"], ["a", "bca"], ["a", "b", "c"]])
    assert found[0] == pytest.approx(found[2]) == pytest.approx(alone(model, ["abc"]), abs=1e-5)
    assert found[1] == pytest.approx(alone(model, ["abca"]), abs=1e-5)
    assert score_sentences(model, [["", "a", ""], [""]]) == pytest.approx([alone(model, ["a"]), alone(model, [])])
    with pytest.raises(ConfigError, match="batch"):
        score_sentences(model, [], batch=0)


@pytest.fixture(scope="module")
def ngrams() -> NgramModel:
    vocabulary = NgramVocabulary.of("abc")
    text = ["a b c", "a b", "b a", "c c a", "a b c a", "b b", "c"]
    model, _ = train_kneser_ney(vocabulary.encode([line.split() for line in text]), vocabulary, 3)
    return model


@given(texts=sentences)
def test_ngrams_score_as_they_do_alone(ngrams: NgramModel, texts) -> None:
    found = score_sentences(NgramLanguageModel(ngrams), texts)
    alone = [float(ngrams.score(ngrams.vocabulary.encode([text])).sum()) for text in texts]
    assert found == pytest.approx(alone)
    after = score_sentences(NgramLanguageModel(ngrams), texts, starts=read_history(NgramLanguageModel(ngrams), ["ab"]))
    assert after == pytest.approx(alone)  # nothing is remembered over the end of a sentence


@given(lattice=lattices())
def test_a_trigram_needs_two_words_of_history(ngrams: NgramModel, lattice) -> None:
    model = NgramLanguageModel(ngrams)
    exact = rescore_lattice(lattice, model, WEIGHTS, name="neural", max_histories=10**6)
    merged = rescore_lattice(lattice, model, WEIGHTS, name="neural", order=3, max_histories=10**6)
    assert best_path(merged).score == pytest.approx(best_path(exact).score)


def test_interpolation_is_linear_in_probabilities(ngrams: NgramModel) -> None:
    mixed = Interpolated((toy(1), NgramLanguageModel(ngrams), toy(2)), (0.5, 0.3, 0.2))
    state, parts = mixed.start(2), [model.start(2) for model in mixed.models]
    for words in (["a", "b"], ["c", "</s>"], ["b", "b"]):
        scores, state = mixed.step(words, state)
        singles = []
        for k, model in enumerate(mixed.models):
            single, parts[k] = model.step(words, parts[k])
            singles.append(np.exp(single))
        assert np.exp(scores) == pytest.approx(0.5 * singles[0] + 0.3 * singles[1] + 0.2 * singles[2])
    ends = [np.exp(model.end(part)) for model, part in zip(mixed.models, parts, strict=True)]
    assert np.exp(mixed.end(state)) == pytest.approx(0.5 * ends[0] + 0.3 * ends[1] + 0.2 * ends[2])


@pytest.mark.parametrize("weights", [(0.5,), (0.5, 0.6), (1.0, 0.0), (1.5, -0.5), ()])
def test_weights_of_a_mixture(weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="interpolation: expected a positive weight for each of 2 models"):
        Interpolated((toy(), toy()), weights)
