"""Perplexity by hand, its interval, paired comparisons and mixtures of scored sentences."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sottovoce.errors import DataError
from sottovoce.evaluation import (
    PERPLEXITY_MARGIN,
    SentenceScore,
    compare_perplexity,
    mix_scores,
    mixture_weights,
    read_scores,
    summarize,
    verdict,
    write_scores,
)
from sottovoce.evaluation.scores import stream


def scores(conversations: int = 12, seed: int = 0, shift: float = 0.0) -> list[SentenceScore]:
    rng = np.random.default_rng(seed)
    found = []
    for c in range(conversations):
        for s in range(5):
            values = -rng.gamma(2.0 + 0.1 * c, 1.0, rng.integers(1, 9)).astype(np.float32)
            found.append(SentenceScore(f"{c}-{s}", str(c), len(values), values - np.float32(shift)))
    return found


def test_a_uniform_model_has_its_vocabulary_as_perplexity() -> None:
    uniform = [SentenceScore(str(i), "c", n, np.full(n, -math.log(50), np.float32)) for i, n in enumerate((3, 1, 7))]
    found = summarize(uniform)
    assert found.perplexity == pytest.approx(50, rel=1e-6) == found.per_token
    assert found.ci95 == pytest.approx((50, 50), rel=1e-6)
    assert (found.words, found.tokens, found.sentences, found.conversations) == (11, 11, 3, 1)


def test_words_and_pieces_differ() -> None:
    two = [SentenceScore(str(i), "c", 2, np.array([-1.0, -2.0, -3.0], np.float32)) for i in range(2)]
    found = summarize(two)
    assert found.perplexity == pytest.approx(math.exp(3)) and found.per_token == pytest.approx(math.exp(2))


def test_the_interval_is_that_of_conversations() -> None:
    """Each conversation repeated five times inside itself says nothing new: the interval must not shrink."""
    base = scores(16)
    low, high = summarize(base).ci95
    repeated = [SentenceScore(f"{s.id}/{i}", s.conversation, s.words, s.log_probs) for i in range(5) for s in base]
    again = summarize(repeated)
    assert low < again.perplexity < high and again.ci95 == pytest.approx((low, high), rel=1e-9)
    alone = [SentenceScore(s.id, s.id, s.words, s.log_probs) for s in repeated]
    assert summarize(alone).ci95[1] - summarize(alone).ci95[0] < 0.7 * (high - low)


def test_a_loss_of_a_twentieth_of_a_nat_is_five_percent() -> None:
    control, system = scores(), scores(shift=0.05)
    difference = compare_perplexity([control], [system])
    assert difference.estimate == pytest.approx(math.expm1(0.05), abs=1e-6)
    assert verdict(difference, PERPLEXITY_MARGIN).kind == "inferior"
    assert verdict(compare_perplexity([control], [scores(shift=0.004)]), PERPLEXITY_MARGIN).kind == "non-inferior"
    with pytest.raises(DataError, match="the same sentences"):
        compare_perplexity([control], [system[::-1]])
    with pytest.raises(DataError, match="as many runs"):
        compare_perplexity([control], [system, system])


def test_mixtures_are_made_token_by_token_and_models_must_match() -> None:
    first, second = scores(), scores(shift=0.3)
    mixed = mix_scores([first, second], [0.25, 0.75])
    for a, b, m in zip(first, second, mixed, strict=True):
        expected = 0.25 * np.exp(a.log_probs.astype(float)) + 0.75 * np.exp(b.log_probs.astype(float))
        np.testing.assert_allclose(np.exp(m.log_probs.astype(float)), expected, rtol=1e-5)
        assert (m.id, m.conversation, m.words) == (a.id, a.conversation, a.words)
    assert mixture_weights([stream(first), stream(second)]).weights[0] > 0.999
    with pytest.raises(DataError, match="the same sentences and tokens"):
        mix_scores([first, first[1:]], [0.5, 0.5])
    with pytest.raises(DataError, match="expected 2 weights"):
        mix_scores([first, second], [0.5, 0.9])


def test_scores_come_back_from_their_file(tmp_path: Path) -> None:
    path, found = tmp_path / "scores.jsonl", scores(3)
    write_scores(path, found)
    for a, b in zip(found, read_scores(path), strict=True):
        assert (a.id, a.conversation, a.words) == (b.id, b.conversation, b.words)
        np.testing.assert_array_equal(a.log_probs, b.log_probs)
    path.write_text('{"id": "a", "conversation": "c", "words": 1, "log_probs": [0.5]}\n')
    with pytest.raises(DataError, match=r"scores\.jsonl:1: expected log-probabilities"):
        read_scores(path)
    path.write_text("{\n")
    with pytest.raises(DataError, match=r"scores\.jsonl:1: expected id"):
        read_scores(path)
