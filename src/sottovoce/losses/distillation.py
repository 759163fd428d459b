"""Distillation: the float model's distributions as targets for the one that is being compressed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def distillation(
    teacher_logits: Tensor, logits: Tensor, temperature: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Mean over positions of KL(teacher || student) at a temperature, times its square, so that gradients keep size.

    teacher_logits, logits: (..., V); no gradient goes to the teacher. weights: (...), how much each position counts,
    zero for padding; None counts all alike. Returns a scalar, summed in float32 at least. Add it to the task's loss.
    Source: Hinton et al. 2015, arXiv 1503.02531, section 2.

    Raises ValueError for shapes that differ or a temperature that is not positive.
    """
    if teacher_logits.shape != logits.shape:
        shapes = f"{tuple(teacher_logits.shape)} and {tuple(logits.shape)}"
        raise ValueError(f"teacher and student give logits of one shape, found {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, found {temperature}")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    target = (teacher_logits.detach().to(dtype) / temperature).log_softmax(-1)
    student = (logits.to(dtype) / temperature).log_softmax(-1)
    each = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)  # (...)
    if weights is None:
        return temperature**2 * each.mean()
    return temperature**2 * (each * weights).sum() / weights.sum().clamp_min(torch.finfo(dtype).tiny)


def taught_cross_entropy(
    logits: Tensor, targets: Tensor, teacher_logits: Tensor, *, weight: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """``cross_entropy`` of the targets plus ``weight`` times the divergence from the teacher, nats float32 (M,).

    logits, teacher_logits: (M, V); targets int64 (M,). At temperature 1 both are one cross-entropy with mixed targets,
    which passes over the logits once. Raises ValueError as ``distillation`` does.
    """
    if temperature != 1 or teacher_logits.shape != logits.shape:
        extra = weight * distillation(teacher_logits, logits, temperature)
        return F.cross_entropy(logits.float(), targets, reduction="none") + extra
    with torch.no_grad():
        log_p = teacher_logits.float().log_softmax(-1)
        mixed = log_p.exp()
        own = weight * torch.linalg.vecdot(mixed, log_p)  # the teacher's negative entropy (M,)
        mixed.mul_(weight)[torch.arange(len(mixed), device=mixed.device), targets] += 1
    losses: Tensor = own - (mixed * logits.float().log_softmax(-1)).sum(-1)
    return losses


class Teacher:
    """A frozen copy of a model as it stands, in evaluation mode: made before compression begins, asked at every step.

    ``teacher(*inputs)`` is the copy's output without gradient; ``logits`` says how logits follow from model and inputs
    where they are not the model's output, and ``model`` is the copy. The teacher is no module, so that no optimizer and
    no checkpoint finds it.
    """

    def __init__(self, model: nn.Module, logits: Callable[..., Tensor] | None = None) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        self._logits = logits

    @torch.no_grad()
    def __call__(self, *inputs: Any) -> Tensor:
        output: Tensor = self.model(*inputs) if self._logits is None else self._logits(self.model, *inputs)
        return output
