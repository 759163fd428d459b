"""A log of a training: a line an epoch, and one a minute in an epoch that takes longer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sottovoce.training.phases import EpochLines


def log_of(seconds_a_step: float, capsys: pytest.CaptureFixture[str], **changes: Any) -> list[str]:
    """Lines of two epochs of 100 steps."""
    now = [0.0]
    lines = EpochLines(2, clock=lambda: now[0])
    trainer: Any = SimpleNamespace(
        max_steps=200, global_step=0, current_epoch=0, is_global_zero=True, check_val_every_n_epoch=1,
        callback_metrics={"train_loss": torch.tensor(1.5)},
    )  # fmt: skip
    vars(trainer).update(changes)
    module: Any = None
    for trainer.current_epoch in range(2):
        lines.on_train_epoch_start(trainer, module)
        for batch in range(100):
            now[0] += seconds_a_step
            trainer.global_step += 1
            lines.on_train_batch_end(trainer, module, None, None, batch)
        lines.on_train_epoch_end(trainer, module)
    return capsys.readouterr().out.splitlines()


def test_a_long_epoch_has_a_line_a_minute_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_of(2.0, capsys) == [
        "epoch 1 of 2: step 30 of 200, 30 a minute, 6 min left",
        "epoch 1 of 2: step 60 of 200, 30 a minute, 5 min left",
        "epoch 1 of 2: step 90 of 200, 30 a minute, 4 min left",
        "epoch 1 of 2: train_loss 1.5; 3 min each, 3 min left",
        "epoch 2 of 2: step 130 of 200, 30 a minute, 2 min left",
        "epoch 2 of 2: step 160 of 200, 30 a minute, 80 s left",
        "epoch 2 of 2: step 190 of 200, 30 a minute, 20 s left",
        "epoch 2 of 2: train_loss 1.5; 3 min each",
    ]


def test_short_epochs_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_of(0.5, capsys) == [
        "epoch 1 of 2: train_loss 1.5; 50 s each, 50 s left", "epoch 2 of 2: train_loss 1.5; 50 s each",
    ]  # fmt: skip


def test_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_of(2.0, capsys, is_global_zero=False) == []
