"""The sampled softmax: exact where it should be, and unbiased in the sum that it estimates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sottovoce.losses import WordSample, distillation, full_cross_entropy, sample_words, sampled_cross_entropy

V, D, M = 60, 8, 20


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden (M, D), targets (M,) of all frequencies, weight (V, D), bias (V,)."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(M, D, generator=g, dtype=torch.float64)
    targets = torch.arange(M) % V
    targets[::3] = torch.tensor([50, 33, 50, 41, 59, 12, 21])
    return (
        hidden,
        targets,
        torch.randn(V, D, generator=g, dtype=torch.float64) * 0.5,
        torch.randn(V, generator=g).double(),
    )


def test_all_words_are_the_full_softmax(problem: tuple[Tensor, ...]) -> None:
    full = full_cross_entropy(*problem)
    expected = -(problem[0] @ problem[2].T + problem[3]).log_softmax(-1)[torch.arange(M), problem[1]]
    torch.testing.assert_close(full, expected.float())
    for exact, drawn in ((V, 1), (20, 40), (0, V)):
        torch.testing.assert_close(sampled_cross_entropy(*problem, exact=exact, drawn=drawn), full)


def test_the_sum_of_exponentials_is_unbiased(problem: tuple[Tensor, ...]) -> None:
    """exp(loss + target's logit) is the estimated sum; its mean over draws is the full sum."""
    hidden, targets, weight, bias = problem
    logits = hidden @ weight.T + bias
    own = logits[torch.arange(M), targets]
    g = torch.Generator().manual_seed(1)
    sums = torch.stack(
        [(sampled_cross_entropy(*problem, exact=10, drawn=12, generator=g) + own).exp() for _ in range(3000)]
    )
    spread = sums.std(0) / 3000**0.5
    assert bool((sums.std(0) > 0).all())
    assert bool(((sums.mean(0) - logits.exp().sum(-1)).abs() < 5 * spread).all())


def test_gradients_reach_only_the_words_that_were_seen(problem: tuple[Tensor, ...]) -> None:
    hidden, targets, weight, bias = problem
    weight.requires_grad_()
    sampled_cross_entropy(hidden, targets, weight, bias, exact=5, drawn=4).sum().backward()
    assert weight.grad is not None
    touched = weight.grad.abs().sum(-1) > 0
    assert bool(touched[:5].all()) and bool(touched[targets].all())
    assert int(touched.sum()) == len(set(range(5)) | set(targets.tolist())) + 4


def test_no_target_gives_no_loss(problem: tuple[Tensor, ...]) -> None:
    hidden, targets, weight, bias = problem
    assert len(sampled_cross_entropy(hidden[:0], targets[:0], weight, bias, exact=5, drawn=4)) == 0


def test_the_divergence_over_a_sample_is_near_that_of_all_words(problem: tuple[Tensor, ...]) -> None:
    """Corrections cancel in the logarithm and stay in the weights: the mean over samples is the whole divergence, but
    for what the logarithm of an estimated sum is low by, and with every word it is that divergence itself."""
    hidden, targets, weight, bias = problem
    other = weight + 0.3 * torch.randn(V, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def divergence(sample: WordSample) -> float:
        return float(distillation(sample.logits(hidden, other, bias), sample.logits(hidden, weight, bias)))

    whole = distillation(hidden @ other.T + bias, hidden @ weight.T + bias)
    assert divergence(sample_words(targets, V, exact=V, drawn=1)) == pytest.approx(float(whole), rel=1e-5)
    g = torch.Generator().manual_seed(3)
    found = [divergence(sample_words(targets, V, exact=20, drawn=20, generator=g)) for _ in range(400)]
    assert sum(found) / len(found) == pytest.approx(float(whole), rel=0.05)


def test_a_sample_holds_the_frequent_words_the_targets_and_some_of_the_rest(problem: tuple[Tensor, ...]) -> None:
    _, targets, _, _ = problem
    sample = sample_words(targets, V, exact=10, drawn=12, generator=torch.Generator().manual_seed(4))
    assert torch.equal(sample.words[sample.targets], targets)
    assert len(sample.words.unique()) == len(sample.words)
    assert set(range(10)) | set(targets.tolist()) < set(sample.words.tolist())
    alone = set(range(10)) | set(targets.tolist())
    assert float(sample.correction.exp().sum()) == pytest.approx(V)  # together they stand for every word once
    assert int((sample.correction == 0).sum()) == len(alone)
