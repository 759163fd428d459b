"""What every trained network is to the trainer: a model that is packed, its optimizer, and a dev figure to watch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import lightning.pytorch as pl
import torch
from torch import nn

from sottovoce.losses import Teacher
from sottovoce.training.config import DistillationConfig, PhaseConfig, TrainingConfig
from sottovoce.training.precision import precision_here


class TaskModule(pl.LightningModule):
    """``model`` is what gets packed; whatever else a module holds (auxiliary heads) is not. ``monitor``
    names the logged dev figure that training is judged by, the smaller the better."""

    monitor: ClassVar[str]
    model: nn.Module

    def __init__(self, training: TrainingConfig, phase: PhaseConfig) -> None:
        super().__init__()
        self.training_config = training.model_copy(update={"precision": precision_here(training.precision)})
        self.phase = phase
        self.teacher: Teacher | None = None
        self.distillation = DistillationConfig()

    def learn_from(self, model: nn.Module, settings: DistillationConfig) -> None:
        """From now on training adds the divergence from ``model``, of which a frozen copy is kept beside the module."""
        self.teacher = Teacher(model)
        self.distillation = settings

    def on_fit_start(self) -> None:
        """The teacher is no part of the module, so that no checkpoint holds it, and nobody else moves it."""
        if self.teacher is not None:
            self.teacher.model.to(self.device)

    def configure_optimizers(self) -> Any:
        """AdamW with the phase's warm-up and cosine."""
        phase = self.phase
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=phase.learning_rate,
            betas=self.training_config.betas,
            weight_decay=phase.weight_decay,
            fused=self.training_config.precision == "32-true",  # clipping under mixed precision refuses the fused form
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total, phase))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class PhaseData(Protocol):
    """A Lightning data module that knows its number of batches."""

    def num_batches(self, epochs: int = 1, devices: int = 1) -> int:
        """Training batches that each of ``devices`` processes sees in the first ``epochs`` epochs."""

    def sample(self, split: str, count: int, seed: int = 0, batches: int = 1) -> Sequence[Any]:
        """``count`` utterances or sentences of a split drawn at random, not augmented, in so many batches at least."""


def rate(step: int, total: int, phase: PhaseConfig) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then a cosine down to the floor."""
    if step < phase.warmup_steps:
        return (step + 1) / phase.warmup_steps
    done = (step - phase.warmup_steps) / max(total - phase.warmup_steps, 1)
    return phase.floor + (1 - phase.floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
