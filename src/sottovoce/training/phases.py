"""One phase of training: from a module and data to trained weights, resumable at the last epoch."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from sottovoce.data.datamodule import SpeechDataModule
from sottovoce.errors import ConfigError
from sottovoce.training.config import PhaseConfig, TrainingConfig
from sottovoce.training.module import RnntModule
from sottovoce.training.run import write_file


def fit(
    module: RnntModule,
    data: SpeechDataModule,
    phase: PhaseConfig,
    training: TrainingConfig,
    folder: Path,
    *,
    seed: int,
    devices: int = 1,
    validate: bool = True,
    progress: bool = True,
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Train for one phase in ``folder``; a checkpoint there from an interrupted run is taken up.

    The same seed gives the same weights on one machine. Raises ConfigError for a checkpoint that cannot be read.
    """
    quiet_libraries()
    pl.seed_everything(seed, verbose=False)
    checkpoints = folder / "checkpoints"
    trainer = pl.Trainer(
        max_epochs=phase.epochs,
        # The sampler has no length, and schedules are shares of the run.
        max_steps=math.ceil(data.num_batches(phase.epochs) / devices),
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        devices=devices,
        precision=training.precision,
        gradient_clip_val=training.clip,
        callbacks=[*callbacks, *_callbacks(training, checkpoints, folder, validate, progress)],
        logger=TensorBoardLogger(folder, name="", version="tensorboard") if progress else False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=training.validate_every,
        limit_val_batches=None if validate else 0,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=0,
        log_every_n_steps=10,
        default_root_dir=folder,
    )
    last = checkpoints / "last.ckpt"
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    except (EOFError, RuntimeError) as error:
        if last.exists() and "zip archive" in str(error):
            raise ConfigError(f"{last}: the checkpoint is damaged; delete it to train this phase anew") from error
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    return trainer


class MetricsFile(pl.Callback):
    """One JSON object an epoch in ``metrics.jsonl``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {key: round(float(value), 6) for key, value in trainer.callback_metrics.items()}
        kept = [
            line for line in self._lines() if json.loads(line)["epoch"] < row["epoch"]
        ]  # a resumed epoch counts once
        write_file(self.path, "\n".join([*kept, json.dumps(row)]) + "\n")

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def quiet_libraries() -> None:
    """Lightning's hints address a developer, not the user of a command."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|lhotse)\..*")
    warnings.filterwarnings("ignore", message=r".*(does not have many workers|isinstance\(treespec|tensorboardX).*")


def _callbacks(
    training: TrainingConfig, checkpoints: Path, folder: Path, validate: bool, progress: bool
) -> list[pl.Callback]:
    found: list[pl.Callback] = [
        MetricsFile(folder / "metrics.jsonl"),
        ModelCheckpoint(checkpoints, save_last=True, save_top_k=0, every_n_epochs=1, save_on_train_epoch_end=True),
    ]
    if training.averaging is not None:
        found.append(EMAWeightAveraging(decay=training.averaging))
    if training.patience is not None and validate:
        found.append(EarlyStopping("dev_wer", mode="min", patience=training.patience))
    if progress:
        found.append(RichProgressBar(leave=True))
    return found
