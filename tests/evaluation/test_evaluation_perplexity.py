import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation import bootstrap, mix, mixture_weights, perplexity_interval, segment_losses
from sottovoce.evaluation.perplexity import perplexity


def streams(models: int, tokens: int, seed: int) -> np.ndarray:
    return np.log(np.random.default_rng(seed).uniform(0.001, 1.0, (models, tokens)))


def test_perplexity_is_the_branching_factor() -> None:
    assert perplexity(np.log([0.25] * 7)) == pytest.approx(4.0)
    assert perplexity([0.0]) == 1.0 and perplexity([-math.inf, -1.0]) == math.inf


def test_losses_are_summed_by_segment() -> None:
    losses = segment_losses([-1.0, -2.0, -4.0], [2, 0, 1])
    assert losses.tolist() == [3.0, 0.0, 4.0]
    with pytest.raises(DataError, match="segments of 3 tokens in all, found 2"):
        segment_losses([-1.0, -2.0, -4.0], [1, 1])


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=50)
def test_mixture_is_the_sum_of_weighted_probabilities(models: int, tokens: int, seed: int) -> None:
    given_streams = streams(models, tokens, seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(models))
    np.testing.assert_allclose(mix(given_streams, weights), np.log(weights @ np.exp(given_streams)), atol=1e-12)


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_em_finds_the_best_of_all_weights(seed: int) -> None:
    two = streams(2, 200, seed)
    found = mixture_weights(two)
    grid = [perplexity(mix(two, [w, 1 - w])) for w in np.linspace(0, 1, 201)]
    assert found.perplexity <= min(grid) * (1 + 1e-6)
    assert found.perplexity == pytest.approx(perplexity(mix(two, found.weights)))
    assert found.weights.sum() == pytest.approx(1.0) and (found.weights >= 0).all()


def test_em_recovers_the_weights_that_made_the_text() -> None:
    rng = np.random.default_rng(5)
    models, truth = rng.dirichlet(np.ones(6), size=3), np.array([0.6, 0.3, 0.1])  # (3, 6)
    words = rng.choice(6, size=200_000, p=truth @ models)
    found = mixture_weights(np.log(models[:, words]))
    np.testing.assert_allclose(found.weights, truth, atol=0.03)


def test_a_model_that_is_never_better_gets_nothing() -> None:
    good = streams(1, 500, 1)[0]
    found = mixture_weights([good, good - 3.0])
    assert found.weights[0] > 0.999 and found.perplexity == pytest.approx(perplexity(good), rel=1e-3)
    alone = mixture_weights([good, np.full(500, -math.inf)])
    assert alone.weights.tolist() == [1.0, 0.0]
    assert mixture_weights([good, good]).weights.tolist() == [0.5, 0.5]


def test_bad_streams_are_refused() -> None:
    good = [-1.0, -2.0]
    for bad, message in (
        ([good, [-1.0]], r"equal length, found \(2,\), \(1,\)"),
        ([], "found none"),
        ([[], []], r"found \(0,\)"),
        ([good, [-1.0, math.nan]], "found nan at token 1 of stream 2"),
        ([[0.5, -1.0]], "found 0.5 at token 0 of stream 1"),
        ([[-math.inf, -1.0], [-math.inf, -1.0]], "token 0 has probability 0 in every model"),
    ):
        with pytest.raises(DataError, match=message):
            mixture_weights(bad)
    assert mix([[-math.inf, -1.0]], [1.0])[0] == -math.inf
    for weights in ([1.0], [0.7, 0.7], [1.5, -0.5]):
        with pytest.raises(DataError, match="expected 2 weights"):
            mix([good, good], weights)


def test_interval_holds_the_perplexity_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(1, 12, 300)
    log_probs = -rng.exponential(4.0, tokens.sum())
    losses = segment_losses(log_probs, tokens)
    low, high = perplexity_interval(losses, tokens, draws=500)
    assert low < perplexity(log_probs) < high and high / low < 1.5
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(bootstrap, "_BLOCK", 60_000)  # 200 draws at once
    assert perplexity_interval(losses, tokens, draws=500, progress=lambda *done: told.append(done)) == (low, high)
    assert told == [(200, 500), (400, 500), (500, 500)]
    wide = perplexity_interval(losses, tokens, np.arange(300) // 100, draws=500)
    assert wide != (low, high)
    assert perplexity_interval([2.0, 2.0], [1, 1], draws=10) == (math.exp(2), math.exp(2))
    with pytest.raises(DataError, match="expected losses and tokens"):
        perplexity_interval(losses, tokens[1:])


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for run in range(200):
        losses = rng.gamma(4.0, 1.0, 60)
        low, high = perplexity_interval(losses, np.ones(60), draws=400, seed=run)
        covered += low <= math.exp(4.0) <= high
    assert 0.88 * 200 <= covered <= 199
