"""The session as a callback of Hugging Face's Trainer; importing this module needs transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from sottovoce.errors import PlanError
from sottovoce.packed.replacing import replacing
from sottovoce.quant import BitPlan
from sottovoce.schemes import Scheme, Session, compress

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.training_args import ParallelMode
except ImportError as error:
    raise ImportError("compression beside a Trainer needs transformers: pip install 'sottovoce[hf]'") from error

STATE_FILE = "compression.pt"
_STEP = "trainer_step"  # beside the session's own, which counts no skipped steps


class TrainerCompressionCallback(TrainerCallback):
    """Compress the Trainer's model (or the part of it named ``submodule``) while it trains.

    After ``trainer.train()`` call ``callback.session.finish()`` for the packed model. Each checkpoint of the Trainer
    gets ``compression.pt``, the session's state with the latent weights, so that a run resumes where it stopped; the
    checkpoint's own weights are those that the forward saw. ``resume_from``: the checkpoint to go on from, where
    it is not ``output_dir/checkpoint-N``. With ``load_best_model_at_end`` the session goes back to the best checkpoint
    too; evaluation sees quantized weights where training does, so the best one may be of before. The
    scheme's penalty, if it has one, is added to the gradients after they are clipped.

    The first log after an epoch has its ``hit_rate`` and ``clip_rate``, the shares of weights on a level and beyond the
    outermost one; ``state.log_history`` and the console have them, reports that are sent before callbacks run do not.

    FSDP and DeepSpeed are refused: a Trainer shards after the optimizer is known to its callbacks, or flattens weights.
    """

    def __init__(
        self, plan: BitPlan, scheme: Scheme, submodule: str | None = None, resume_from: str | Path | None = None
    ) -> None:
        self.plan = plan
        self.scheme = scheme
        self.submodule = submodule
        self.resume_from = Path(resume_from) if resume_from is not None else None
        self._session: Session | None = None
        self._rates: dict[str, float] = {}

    @property
    def session(self) -> Session:
        """The session; PlanError before training has begun."""
        if self._session is None:
            raise PlanError("the compression session begins with trainer.train()")
        return self._session

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.deepspeed or args.fsdp:
            raise PlanError(
                "compression beside a Trainer: fsdp and deepspeed are not supported; use DDP or one process"
            )
        model: nn.Module = kwargs["model"]
        if self._session is not None:
            self._session.close(latents=state.global_step == 0)  # else the Trainer has loaded a checkpoint's weights
        self._session = compress(
            model.get_submodule(self.submodule) if self.submodule else model,
            self.plan,
            self.scheme,
            optimizer=kwargs["optimizer"],
            total_steps=state.max_steps,
            processes=dist.group.WORLD if args.parallel_mode == ParallelMode.DISTRIBUTED else None,
        )
        if state.global_step > 0:
            folder = self.resume_from or Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            self._take_up(folder, state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        penalty = self.scheme.penalty(self.session)
        if penalty is None:
            return
        scaler = getattr(kwargs["optimizer"], "scaler", None)
        scaled = scaler is not None and not args.max_grad_norm > 0  # clipping takes the scale off the gradients
        torch.autograd.backward(scaler.scale(penalty) if scaled and scaler is not None else penalty)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._rates = self.session.mean_rates()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for told in (kwargs["logs"], state.log_history[-1]):  # the Trainer has copied the one into the other
            told.update(self._rates)
        self._rates = {}

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with replacing(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE) as stream:
                torch.save({**self.session.state_dict(), _STEP: state.global_step}, stream)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._take_up(Path(state.best_model_checkpoint))

    def _take_up(self, folder: Path, step: int | None = None) -> None:
        try:
            saved = torch.load(folder / STATE_FILE, weights_only=True, map_location="cpu")
        except OSError as error:
            raise PlanError(
                f"{folder / STATE_FILE}: cannot read the checkpoint's compression state; resume_from names its folder"
            ) from error
        if step is not None and saved.get(_STEP, step) != step:
            raise PlanError(
                f"{folder / STATE_FILE}: compression state of step {saved[_STEP]}, the Trainer goes on from step "
                f"{step}; resume_from names its checkpoint"
            )
        self.session.load_state_dict(saved)
