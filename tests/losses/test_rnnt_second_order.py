"""The RNN-T loss that can be differentiated twice, and the posteriors of the lattice's cells."""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.losses import cell_posteriors, rnnt_loss_from_logits, twice_differentiable_rnnt_loss


def batch(seed: int, n: int = 3, t: int = 5, u: int = 3, v: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, t, u + 1, v, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, v, (n, u), generator=generator)
    frames = torch.randint(1, t + 1, (n,), generator=generator)
    labels = torch.randint(0, u + 1, (n,), generator=generator)
    return logits.requires_grad_(), targets, frames, labels


def test_value_and_gradient_are_those_of_the_training_loss() -> None:
    for seed in range(20):
        logits, *rest = batch(seed, t=1 + seed % 5, u=seed % 4)
        ours, theirs = twice_differentiable_rnnt_loss(logits, *rest), rnnt_loss_from_logits(logits, *rest)
        assert torch.allclose(ours, theirs, atol=1e-12)
        gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
        assert torch.allclose(*gradients, atol=1e-10)


def test_second_derivatives_against_differences() -> None:
    logits, *rest = batch(1)
    (gradient,) = torch.autograd.grad(twice_differentiable_rnnt_loss(logits, *rest), logits, create_graph=True)
    direction = torch.randn_like(logits)
    (product,) = torch.autograd.grad(gradient, logits, direction)
    assert torch.autograd.gradgradcheck(lambda x: twice_differentiable_rnnt_loss(x, *rest), logits)
    step = 1e-5
    ends = []
    for sign in (1, -1):
        moved = (logits.detach() + sign * step * direction).requires_grad_()
        ends.append(torch.autograd.grad(rnnt_loss_from_logits(moved, *rest), moved)[0])
    assert torch.allclose(product, (ends[0] - ends[1]) / (2 * step), atol=1e-7)


def test_long_utterances_stay_finite_in_single_precision() -> None:
    logits, targets, _, _ = batch(2, t=200, u=40)
    frames, labels = torch.tensor([200, 150, 7]), torch.tensor([40, 3, 40])
    single = logits.detach().float().requires_grad_()
    loss = twice_differentiable_rnnt_loss(single, targets, frames, labels)
    exact = rnnt_loss_from_logits(logits, targets, frames, labels)
    assert torch.allclose(loss.double(), exact, rtol=1e-5)
    (gradient,) = torch.autograd.grad(loss, single, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), single)
    assert bool(second.isfinite().all())


def test_cells_are_visited_as_often_as_alignments_are_long() -> None:
    logits, targets, frames, labels = batch(3)
    visited = cell_posteriors(logits, targets, frames, labels)
    assert torch.allclose(visited.sum((1, 2)), (frames + labels).double())  # one blank a frame, one arc a label
    for n in range(3):
        assert float(visited[n, frames[n] :].sum()) == 0.0 and float(visited[n, :, labels[n] + 1 :].sum()) == 0.0
        assert torch.allclose(visited[n, 0, 0], torch.ones((), dtype=torch.float64))  # every alignment begins there
