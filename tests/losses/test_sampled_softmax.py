"""The sampled softmax: exact where it should be, and unbiased in the sum that it estimates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sottovoce.losses import full_cross_entropy, sampled_cross_entropy

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
