"""One phase of training: from a module and data to trained weights, resumable at the last epoch."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from sottovoce.errors import ConfigError
from sottovoce.progress import rate, span
from sottovoce.training.config import PhaseConfig, TrainingConfig
from sottovoce.training.run import write_file
from sottovoce.training.task_module import PhaseData, TaskModule

_LINE_SECONDS = 60.0  # between lines in a long epoch
_LOSS_CHECK = 50  # batches between looks at the loss of an accelerator, for each waits for it


def fit(
    module: TaskModule,
    data: PhaseData,
    phase: PhaseConfig,
    training: TrainingConfig,
    folder: Path,
    *,
    seed: int,
    devices: int = 1,
    validate: bool = True,
    progress: bool = True,
    callbacks: Sequence[pl.Callback] = (),
    fork: Fork | None = None,
    start: Path | None = None,
) -> pl.Trainer:
    """Train for one phase in ``folder``; a checkpoint there from an interrupted run is taken up.

    ``fork`` keeps a snapshot for other runs; ``start`` is such a snapshot to go on from, the rest of its schedule with
    the batches that were left.

    The same seed gives the same weights on one machine's CPU with the same number of threads. Where ``patience`` stops
    training early, the module ends with the weights of its best dev figure. Raises ConfigError for devices that are not
    there.
    """
    quiet_libraries()
    pl.seed_everything(seed, verbose=False)
    checkpoints = folder / "checkpoints"
    precision = module.training_config.precision
    here = training.model_copy(update={"precision": precision})
    trainer = _trainer(
        here, folder, devices, data.num_batches(phase.epochs, devices), validate, progress,
        [
            *callbacks,
            *_callbacks(training, checkpoints, folder, seed, phase.epochs, validate, progress, fork, module.monitor),
        ],
    )  # fmt: skip
    if progress and precision != training.precision and trainer.is_global_zero:
        _print(f"this processor has no fast {training.precision}: training in {precision}")
    last = checkpoints / "last.ckpt"
    _run(trainer, module, data, last if last.exists() else start)
    stopped = trainer.early_stopping_callback is not None and trainer.early_stopping_callback.stopped_epoch > 0
    if not stopped and trainer.global_step != trainer.max_steps:
        raise RuntimeError(f"{folder}: trained {trainer.global_step} steps where {trainer.max_steps} were due")
    _take_best(trainer, module)
    return trainer


def _trainer(
    training: TrainingConfig,
    folder: Path,
    devices: int,
    steps: int,
    validate: bool,
    progress: bool,
    callbacks: list[pl.Callback],
) -> pl.Trainer:
    try:
        return pl.Trainer(
            # Steps and not epochs: the sampler has no length, schedules are shares of the run, and Lightning asked for
            # the length of epochs would fetch the first batches before a checkpoint says which epoch they are of.
            max_epochs=-1,
            max_steps=steps,
            accelerator="auto" if torch.cuda.is_available() else "cpu",
            devices=devices,
            precision=training.precision,
            gradient_clip_val=training.clip,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="", version="tensorboard") if progress else False,
            enable_progress_bar=any(isinstance(callback, EpochBar) for callback in callbacks),
            enable_model_summary=False,
            enable_checkpointing=training.patience is not None and validate,
            num_sanity_val_steps=0,
            check_val_every_n_epoch=training.validate_every,
            limit_val_batches=None if validate else 0,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=0,
            log_every_n_steps=10,
            default_root_dir=folder,
        )
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _run(trainer: pl.Trainer, module: TaskModule, data: PhaseData, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        _check_whole(checkpoint)
    try:
        trainer.fit(module, datamodule=cast(pl.LightningDataModule, data), ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except SystemExit as error:  # how Lightning ends on ctrl-c
        raise KeyboardInterrupt from error


def _check_whole(checkpoint: Path) -> None:
    """Raises ConfigError for a file that torch.save did not end: it ends with the directory of a zip file."""
    if not zipfile.is_zipfile(checkpoint):
        raise ConfigError(f"{checkpoint}: expected a whole checkpoint, found a damaged one; training has to begin anew")


def _put(fresh: Path, path: Path) -> None:
    """In the place of a file, once it is on the disk: a power cut leaves the old one, or this one."""
    with fresh.open("rb") as stream:
        os.fsync(stream.fileno())
    fresh.replace(path)


def _take_best(trainer: pl.Trainer, module: TaskModule) -> None:
    """Where training stops early, the weights of the epoch with the best dev figure."""
    best = trainer.checkpoint_callback
    if isinstance(best, ModelCheckpoint) and best.best_model_path:
        saved = torch.load(best.best_model_path, weights_only=True, map_location="cpu")
        module.load_state_dict(saved["state_dict"])


@dataclass(frozen=True)
class Fork:
    """A snapshot to keep: at the start of epoch ``epoch`` (0-based), in ``path``."""

    epoch: int
    path: Path


def steps_taken(checkpoint: Path) -> int:
    """Optimizer steps before a checkpoint. Raises ConfigError for a damaged one."""
    _check_whole(checkpoint)
    return int(torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)["global_step"])


class ResumePoint(pl.Callback):
    """``last.ckpt`` at the start of each epoch after the first, whole or not at all; one of them is kept as a fork.

    The stream of random numbers (dropout) begins anew there from the seed and the epoch, so that a resumed run goes on
    exactly as an uninterrupted one. Lightning's own end-of-epoch checkpoints need a loader with a length or validation.
    """

    def __init__(self, folder: Path, seed: int, fork: Fork | None = None) -> None:
        self.folder = folder
        self.seed = seed
        self.fork = fork

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            return
        # Lightning clears the count of batches just after this hook; saved as it is, it says that the epoch is over.
        trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()
        fresh = self.folder / "next.ckpt"
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            if self.fork is not None and trainer.current_epoch == self.fork.epoch and not self.fork.path.exists():
                copied = self.fork.path.with_suffix(".partial")
                shutil.copyfile(fresh, copied)
                _put(copied, self.fork.path)
            _put(fresh, self.folder / "last.ckpt")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            torch.manual_seed(zlib.crc32(f"{self.seed} {trainer.current_epoch} {trainer.global_rank}".encode()))


class FiniteLoss(pl.Callback):
    """Stops with one line where the loss is no number any more, before it gets into the weights: every loss on a CPU,
    elsewhere now and then, and at the end of an epoch."""

    def __init__(self) -> None:
        self.batches = 0

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self.batches += 1
        if loss.device.type != "cpu" and self.batches % _LOSS_CHECK and not trainer.is_last_batch:
            return
        if not math.isfinite(value := float(loss.detach())):
            folder = trainer.default_root_dir
            raise ConfigError(
                f"{folder}: the loss is {value} at step {trainer.global_step}; lower phase.learning_rate or "
                "training.clip, and train anew in another folder or delete this one"
            )


class EpochBar(RichProgressBar):
    """Lightning's bar, which knows of steps only, with the epochs of the phase."""

    def __init__(self, epochs: int) -> None:
        super().__init__(leave=True)
        self.epochs = epochs

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.epochs}"


class EpochLines(pl.Callback):
    """In the bar's place where there is no terminal: a plain line an epoch, and one a minute in an epoch that takes
    longer."""

    def __init__(self, epochs: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.epochs, self._clock = epochs, clock
        self._begin: float | None = None
        self._first = 0
        self._seen = (0.0, 0)  # when, and after how many steps, the latest line or epoch was

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen = (self._clock(), trainer.global_step)
        if self._begin is None:
            self._begin, self._first = self._seen[0], trainer.current_epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        (since, before), now, step = self._seen, self._clock(), trainer.global_step
        if now - since < _LINE_SECONDS or step == before or not trainer.is_global_zero:
            return
        self._seen = (now, step)
        speed = (step - before) / (now - since)
        left = f", {span((trainer.max_steps - step) / speed)} left" if step < trainer.max_steps else ""
        told = f"step {step:,} of {trainer.max_steps:,}, {rate(speed)}{left}"
        _print(f"epoch {trainer.current_epoch + 1} of {self.epochs}: {told}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or self._begin is None:
            return
        done = trainer.current_epoch + 1
        each = (self._clock() - self._begin) / (done - self._first)
        found = ", ".join(f"{name} {value:.4g}" for name, value in sorted(_figures(trainer).items()))
        left = f", {span((self.epochs - done) * each)} left" if done < self.epochs else ""
        _print(f"epoch {done} of {self.epochs}: {found}; {span(each)} each{left}")


def _print(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)


class MetricsFile(pl.Callback):
    """One JSON object an epoch in ``metrics.jsonl``; ``seconds`` are those of its training, validation left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = self._validation = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin += time.perf_counter() - self._validation

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {name: round(value, 6) for name, value in _figures(trainer).items()}
        row["seconds"] = round(time.perf_counter() - self._begin, 3)
        # A resumed epoch counts once.
        kept = [line for line in self._lines() if json.loads(line)["epoch"] < row["epoch"]]
        write_file(self.path, "\n".join([*kept, json.dumps(row)]) + "\n")

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def _figures(trainer: pl.Trainer) -> dict[str, float]:
    """What this epoch logged. Lightning also keeps the dev figures of an earlier one, where this one had no dev."""
    validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
    found = trainer.callback_metrics.items()
    return {name: float(value) for name, value in found if validated or not name.startswith("dev_")}


def quiet_libraries() -> None:
    """Lightning's hints address a developer, not the user of a command."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|lhotse)\..*")
    warnings.filterwarnings("ignore", message=r".*(does not have many workers|isinstance\(treespec|tensorboardX).*")


def _callbacks(
    training: TrainingConfig,
    checkpoints: Path,
    folder: Path,
    seed: int,
    epochs: int,
    validate: bool,
    progress: bool,
    fork: Fork | None,
    monitor: str,
) -> list[pl.Callback]:
    found: list[pl.Callback] = [
        FiniteLoss(),
        MetricsFile(folder / "metrics.jsonl"),
        ResumePoint(checkpoints, seed, fork),
    ]
    if training.averaging is not None:
        found.append(EMAWeightAveraging(decay=training.averaging))
    if training.patience is not None and validate:
        found.append(EarlyStopping(monitor, mode="min", patience=training.patience))
        found.append(
            ModelCheckpoint(checkpoints, filename="best", monitor=monitor, mode="min", enable_version_counter=False)
        )
    if progress:
        drawn = sys.stdout.isatty() and Console().is_interactive
        found.append(EpochBar(epochs) if drawn else EpochLines(epochs))
    return found
