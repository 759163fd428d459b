"""The session as a Lightning callback: compression beside any LightningModule."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from sottovoce.errors import PlanError
from sottovoce.quant import BitPlan
from sottovoce.schemes import Scheme, Session, compress
from sottovoce.schemes.processes import is_sharded

_LOOKS = 50  # at all weights, in a run: each costs about as much as a step on a small network


def looks_every(session: Session) -> int:
    """Steps between two looks at all weights."""
    return max(1, session.total_steps // _LOOKS)


class CompressionCallback(pl.Callback):
    """Compress ``pl_module`` (or the part of it named ``submodule``) while it trains.

    After ``trainer.fit`` call ``callback.session.finish()`` for the packed model. Checkpoints hold latent weights and
    the session's state, so a run resumes where it stopped. The scheme's penalty, if it has one, is added to the
    gradients before they are clipped. One optimizer only; Lightning's WeightAveraging is refused, for it would average
    quantized weights and write over the latents. ``first_step``: optimizer steps that were already taken in
    the checkpoint from which training goes on; schedules are shares of the steps after it.
    """

    def __init__(self, plan: BitPlan, scheme: Scheme, submodule: str | None = None, first_step: int = 0) -> None:
        self.plan = plan
        self.scheme = scheme
        self.submodule = submodule
        self.first_step = first_step
        self.penalty_ratio: float | None = None
        """As it was last looked at, which is about fifty times a run."""
        self._session: Session | None = None
        self._saved: dict[str, Any] | None = None
        self._left: dict[str, Any] | None = None

    @property
    def session(self) -> Session:
        """The session; PlanError before training has begun."""
        if self._session is None:
            raise PlanError("the compression session begins with trainer.fit()")
        return self._session

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise PlanError(f"compression hooks one optimizer, found {len(trainer.optimizers)}")
        averaging = next((c for c in trainer.callbacks if isinstance(c, WeightAveraging)), None)  # type: ignore[attr-defined]
        if averaging is not None:
            raise PlanError(
                f"{type(averaging).__name__} beside compression would average quantized weights; leave it out, or "
                "average in a loop of your own, inside session.on_latents()"
            )
        self._left = None
        if self._session is not None:
            self._session.close(latents=self._saved is None)  # else Lightning has loaded a checkpoint's weights
        model = self._model(pl_module)
        steps = trainer.estimated_stepping_batches - self.first_step
        if not 0 < steps < math.inf:
            raise PlanError("schedules are shares of a run: this loader has no length, so give the Trainer max_steps")
        self._session = compress(
            model,
            self.plan,
            self.scheme,
            optimizer=trainer.optimizers[0],
            total_steps=int(steps),
            processes=dist.group.WORLD if isinstance(trainer.strategy, DDPStrategy) else None,
        )
        self.penalty_ratio = None
        self._take_up()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take_up()  # strategies that shard restore checkpoints after on_fit_start

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        session = self.session
        penalty = self.scheme.penalty(session)
        if penalty is None:
            return
        if (session.step + 1) % looks_every(session) == 0:
            self.penalty_ratio = session.penalty_ratio()  # while the gradients are the task's alone
            if self.penalty_ratio is not None:
                pl_module.log("penalty_ratio", self.penalty_ratio, on_step=False, on_epoch=True, batch_size=1)
        torch.autograd.backward(penalty)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log_dict(self.session.mean_rates())

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        prefix = f"{self.submodule}." if self.submodule else ""
        for name in list(checkpoint["state_dict"]):
            latent = self.session.latent(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if latent is not None:
                checkpoint["state_dict"][name] = latent.detach().clone()

    def state_dict(self) -> dict[str, Any]:
        return self._left or (self.session.state_dict() if self._session else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict or None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._session is None:
            return
        # Checkpoints because of it are saved afterwards. Other processes, whose shards it would take, may not have it.
        try:
            if not any(is_sharded(parameter) for parameter in self._session.model.parameters()):
                self._left = self._session.state_dict()
        finally:  # its copies may not fit, where memory was the exception
            self._session.close()

    def _take_up(self) -> None:
        if self._saved is not None:
            self.session.load_state_dict(self._saved)
            self._saved = None  # a later fit may begin anew

    def _model(self, pl_module: pl.LightningModule) -> nn.Module:
        return pl_module.get_submodule(self.submodule) if self.submodule else pl_module
