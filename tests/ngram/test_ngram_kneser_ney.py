import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_reference import KneserNey

from sottovoce.errors import ConfigError, DataError
from sottovoce.ngram import BOS, UNK, NgramModel, Sentences, Vocabulary, read_arpa, train_kneser_ney
from sottovoce.ngram.kneser_ney import FALLBACK, Discounts, estimate_discounts

WORDS = ["a", "b", "c", "d", "e"]
corpora = st.lists(st.lists(st.sampled_from([*WORDS, "x", "y"]), max_size=7), min_size=1, max_size=14)


def trained(corpus: list[list[str]], order: int, cutoffs: tuple[int, ...] = ()) -> NgramModel:
    vocabulary = Vocabulary.of(WORDS)  # x and y are unknown
    return train_kneser_ney(vocabulary.encode(corpus), vocabulary, order, cutoffs)[0]


def natural_corpus(sentences: int, seed: int = 0) -> list[list[str]]:
    """Words by Zipf's law, each drawn by the one before, so that no count of counts is zero."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(200)])
    weights = 1 / np.arange(1, 201)
    return [
        [str(words[(rng.choice(200, p=weights / weights.sum()) * (i + 1)) % 200]) for i in range(rng.integers(0, 9))]
        for _ in range(sentences)
    ]


@given(corpora, corpora, st.integers(1, 5))
@settings(max_examples=60)
def test_probabilities_are_those_of_the_formulas(corpus: list[list[str]], other: list[list[str]], order: int) -> None:
    model, reference = trained(corpus, order), KneserNey(corpus, list(Vocabulary.of(WORDS).words), order)
    expected = []
    for sentence in other:
        text = [BOS, *(word if word in WORDS else UNK for word in sentence), "</s>"]
        expected += [math.log(reference.prob(tuple(text[:i]), text[i])) for i in range(1, len(text))]
    np.testing.assert_allclose(model.score(model.vocabulary.encode(other)), expected, atol=2e-6)


def test_probabilities_where_discounts_come_from_counts() -> None:
    corpus = natural_corpus(400)
    words = sorted({word for sentence in corpus for word in sentence})[:-20]
    vocabulary = Vocabulary.of(words)
    model, discounts = train_kneser_ney(vocabulary.encode(corpus), vocabulary, 3)
    assert not any(discount.fallback for discount in discounts)
    reference = KneserNey(corpus, list(vocabulary.words), 3)
    np.testing.assert_allclose([d.values for d in discounts], list(reference.discounts.values()), rtol=1e-12)
    sentence = corpus[7] + corpus[8] + ["never"]
    text = [BOS, *(word if word in words else UNK for word in sentence), "</s>"]
    expected = [math.log(reference.prob(tuple(text[:i]), text[i])) for i in range(1, len(text))]
    np.testing.assert_allclose(model.score(vocabulary.encode([sentence])), expected, atol=2e-6)


@given(corpora, st.integers(1, 5), st.sampled_from([(), (0, 1), (0, 0, 1, 2), (0, 9)]))
@settings(max_examples=60)
def test_words_after_every_context_sum_to_one(corpus: list[list[str]], order: int, cutoffs: tuple[int, ...]) -> None:
    model = trained(corpus, order, cutoffs[:order])
    probs = np.exp(model.distribution(np.arange(len(model.log10_backoffs) + 1)))
    assert (probs[:, model.vocabulary.bos] == 0).all()
    np.testing.assert_allclose(probs.sum(1), 1.0, atol=5e-6)


@given(corpora, corpora, st.integers(1, 5))
@settings(max_examples=40)
def test_batches_steps_and_single_sentences_agree(corpus: list[list[str]], other: list[list[str]], order: int) -> None:
    model = trained(corpus, order)
    sentences = model.vocabulary.encode(other)
    scores = model.score(sentences)
    single = [model.score(model.vocabulary.encode([sentence])) for sentence in other]
    np.testing.assert_array_equal(scores, np.concatenate(single))
    stepped = []
    for sentence in other:
        state = np.array([model.start])
        for id in [*model.vocabulary.encode([sentence]).ids, model.vocabulary.eos]:
            row = model.distribution(state)[0, id]
            score, state = model.step(state, [id])
            np.testing.assert_allclose(score[0], row, atol=1e-12)
            stepped.append(score[0])
    np.testing.assert_allclose(scores, stepped, atol=1e-12)


@given(corpora, st.integers(2, 4))
@settings(max_examples=30)
def test_cut_offs_leave_out_what_is_rare_and_nothing_else(corpus: list[list[str]], order: int) -> None:
    whole, cut = trained(corpus, order), trained(corpus, order, (0, 1))
    reference = KneserNey(corpus, list(whole.vocabulary.words), order)
    for k in range(2, order + 1):
        expected = sum(len(gram) == k and count > 1 for gram, count in reference.raw.items())
        assert (cut.counts[k - 1] if k <= cut.order else 0) == expected
    assert set(cut.vocabulary.words) == set(whole.vocabulary.words)


def test_discounts_of_a_worked_example() -> None:
    # n1 = 8, n2 = 4, n3 = 2, n4 = 1: Y = 8 / 16, D1 = 1 - 2 Y 4/8, D2 = 2 - 3 Y 2/4, D3 = 3 - 4 Y 1/2.
    adjusted = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4] + [9] * 3)
    assert estimate_discounts(adjusted) == Discounts((0.5, 1.25, 2.0))


@pytest.mark.parametrize(
    "counts", [[], [1, 2, 2], [1, 1, 3, 3], [1, 2, 3, 3, 3, 3, 3, 3], [1] * 9 + [2] * 9 + [3] + [4] * 9]
)
def test_degenerate_counts_give_the_fallback(counts: list[int]) -> None:
    assert estimate_discounts(np.array(counts, np.int64)) == Discounts(FALLBACK, fallback=True)


def test_sentences_shorter_than_the_order_give_a_shorter_model() -> None:
    model = trained([["a"], ["b"]], 6)
    assert model.order == 3  # <s> a </s>
    np.testing.assert_allclose(np.exp(model.distribution([model.start])).sum(), 1.0, atol=1e-6)


def test_unknown_words_score_as_the_mark() -> None:
    model = trained([["a", "x"], ["y", "b"], ["a"]], 3)
    scores = model.score(model.vocabulary.encode([["a", "never"]]))
    np.testing.assert_array_equal(scores, model.score(model.vocabulary.encode([["a", UNK]])))


def test_bad_arguments_are_refused() -> None:
    vocabulary = Vocabulary.of(WORDS)
    sentences = vocabulary.encode([["a", "b"]])
    for order, cutoffs in ((0, ()), (3, (1,)), (3, (0, 2, 1)), (2, (0, 0, 0))):
        with pytest.raises(ConfigError):
            train_kneser_ney(sentences, vocabulary, order, cutoffs)
    with pytest.raises(DataError, match="expected sentences to count"):
        train_kneser_ney(Sentences.of([]), vocabulary, 2)
    with pytest.raises(DataError, match="marks the beginning or end"):
        train_kneser_ney(Sentences.of([[vocabulary.bos]]), vocabulary, 2)
    model = trained([["a"]], 2)
    with pytest.raises(DataError, match="word id 99 is outside the vocabulary of 8"):
        model.score([[99]])
    with pytest.raises(DataError, match="expected states"):
        model.step([10_000], [0])
    with pytest.raises(DataError, match="lengths"):
        Sentences(np.array([1, 2]), np.array([1]))


def test_vocabularies_are_checked() -> None:
    assert Vocabulary.of(["b", "</s>"]).words == ("<unk>", "<s>", "b", "</s>")
    for words, message in ((("a", "a"), "twice"), (("a b",), "without spaces"), (("",), "without spaces")):
        with pytest.raises(DataError, match=message):
            Vocabulary.of(words)
    with pytest.raises(DataError, match="found no <s>"):
        Vocabulary(("<unk>", "</s>"))
    vocabulary = Vocabulary.of(["a", "b"])
    assert vocabulary.map_to(["b", "</s>", "<unk>", "a"]).tolist() == [4, 2, 0, 3]
    with pytest.raises(DataError, match="only the other model has 'c'"):
        vocabulary.map_to(["a", "b", "c", "</s>", "<unk>"])
    with pytest.raises(DataError, match="sentence 2"):
        vocabulary.encode([["a"], ["<s>"]])


@pytest.mark.parametrize("order", [2, 3, 4])
def test_lmplz_trains_the_same_model(order: int, tmp_path: Path) -> None:
    """On a text of which both take the fallback discounts: lmplz counts the last n-gram of an order by another rule
    (its final loop hands the plain count to the statistics), which moves discounts that come from counts."""
    lmplz = shutil.which("lmplz")
    if lmplz is None:
        pytest.skip("needs KenLM's lmplz on the PATH")
    corpus = [["a", "b", "c"], ["a", "b"], ["d"], ["a", "b", "c", "d", "e"], ["e", "a", "b", "c"]]
    text, arpa = tmp_path / "text", tmp_path / "lm.arpa"
    text.write_text("".join(" ".join(sentence) + "\n" for sentence in corpus))
    command = [lmplz, "-o", str(order), "--discount_fallback", "-S", "5%", "-T", str(tmp_path)]
    subprocess.run([*command, "--text", str(text), "--arpa", str(arpa)], check=True, capture_output=True)
    theirs, ours = read_arpa(arpa), trained(corpus, order)
    assert theirs.counts == ours.counts
    other = [["b", "c", "a", "b"], ["e"], [], ["d", "never", "a", "b", "c"]]
    np.testing.assert_allclose(
        ours.score(ours.vocabulary.encode(other)), theirs.score(theirs.vocabulary.encode(other)), atol=1e-5
    )
