"""Distillation: its value, its gradient, its teacher."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sottovoce as sv
from sottovoce.losses import distillation, taught_cross_entropy


def test_value_and_gradient_against_plain_arithmetic() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    student = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    for temperature in (1.0, 3.0):
        p = (teacher / temperature).softmax(-1).detach()
        log_q = (student / temperature).log_softmax(-1)
        each = (p * (p.log() - log_q)).sum(-1)
        found = sv.distillation(teacher, student, temperature)
        assert float(found.detach()) == pytest.approx(float(temperature**2 * each.detach().mean()))
        found.backward()
        assert teacher.grad is None and student.grad is not None
        # T * (q - p) / positions: as large at any temperature.
        assert torch.allclose(student.grad, temperature * ((student / temperature).softmax(-1) - p) / 12)
        student.grad = None
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0]).expand(3, 4).double()
    each = torch.stack([sv.distillation(teacher[:, i], student[:, i]).detach() for i in range(4)])
    expected = (each * weights[0]).sum() / weights[0].sum()
    assert float(sv.distillation(teacher, student, weights=weights).detach()) == pytest.approx(float(expected))
    assert float(sv.distillation(teacher, teacher).detach()) == pytest.approx(0.0, abs=1e-12)


def test_half_precision_is_summed_in_single() -> None:
    logits = torch.randn(2, 5).bfloat16()
    assert sv.distillation(logits, logits + 1).dtype is torch.float32


def test_the_teacher_is_a_copy_that_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 6))
    x = torch.randn(3, 4)
    teacher = sv.Teacher(model)
    expected = model.eval()(x).detach()
    model.train()
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(teacher(x), expected) and not teacher(x).requires_grad
    assert not any(p.requires_grad for p in teacher.model.parameters())
    half = sv.Teacher(model, logits=lambda net, batch: net(batch)[..., :3])
    assert half(x).shape == (3, 3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="logits of one shape"):
        sv.distillation(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature must be positive"):
        sv.distillation(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_targets_and_teacher_together_are_their_sum(temperature: float) -> None:
    g = torch.Generator().manual_seed(0)
    student = torch.randn(6, 9, generator=g, dtype=torch.float64).float().requires_grad_()
    teacher, targets = torch.randn(6, 9, generator=g), torch.arange(6)
    found = taught_cross_entropy(student, targets, teacher, weight=3.0, temperature=temperature).mean()
    gradient = torch.autograd.grad(found, student)[0]
    expected = F.cross_entropy(student, targets) + 3.0 * distillation(teacher, student, temperature)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0])
    with pytest.raises(ValueError, match="one shape"):
        taught_cross_entropy(student, targets, teacher[:, 1:])
