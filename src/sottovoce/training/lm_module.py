"""A language model as a LightningModule: cross-entropy a token, and dev perplexity over all words."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from sottovoce.data.text_batches import IGNORED
from sottovoce.losses import full_cross_entropy, sample_words, sampled_cross_entropy, taught_cross_entropy
from sottovoce.models import LanguageModel, LstmLm, make_lm
from sottovoce.models.lstm_lm import LstmState
from sottovoce.packed import LmArchitecture
from sottovoce.training.config import LmTrainingConfig, PhaseConfig, SampledSoftmax
from sottovoce.training.task_module import TaskModule

Batch = dict[str, Tensor]
_FREQUENT = (300, 1000, 3000)


class LmModule(TaskModule):
    """Trains ``model`` for one phase. Logs ``train_loss`` (nats a token, over the words that training sums over),
    ``dev_loss`` (nats a token, over all words) and ``dev_perplexity``.

    Batches are those of ``TextDataModule``; where they go on from the ones before, so does the model's state, without
    a gradient. It moves on when a batch ends: a step that evaluates its closure more than once begins each time from
    the same state, and leaves that of the first, which is the one at the weights themselves.
    """

    monitor: ClassVar[str] = "dev_perplexity"
    model: LanguageModel

    def __init__(self, architecture: LmArchitecture, training: LmTrainingConfig, phase: PhaseConfig) -> None:
        super().__init__(training, phase)
        self.softmax = training.softmax
        self.model = make_lm(architecture, training.dropout)
        self._state: LstmState | None = None
        self._teacher_state: LstmState | None = None
        self._after: LstmState | None = None
        self._teacher_after: LstmState | None = None
        self._dev = torch.zeros(2, dtype=torch.float64)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Mean loss a token."""
        hidden, targets, after = self._hidden(batch)
        self._after = self._after or after
        losses = self._losses(hidden, targets) if self.teacher is None else self._taught(batch, hidden, targets)
        loss = losses.sum() / max(1, len(targets))
        self.log("train_loss", loss.detach(), batch_size=max(1, len(targets)), on_epoch=True, on_step=False)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._state, self._teacher_state = self._after, self._teacher_after
        self._after = self._teacher_after = None

    # -- what a search asks: functions of a batch that change nothing; each row of it begins from nothing --

    def loss(self, batch: Batch) -> Tensor:
        """Mean nats a token over all words, differentiable twice where the network is."""
        return F.cross_entropy(self.logits(batch), self.observed(batch))

    def terms(self, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def logits(self, batch: Batch) -> Tensor:
        """Logits (M, V) at the batch's targets."""
        hidden = self.model.hidden(batch["inputs"])[0]
        logits: Tensor = self.model.output(hidden[batch["targets"] != IGNORED])
        return logits

    def position_weights(self, batch: Batch) -> None:
        """Every token counts the same."""
        return

    def observed(self, batch: Batch) -> Tensor:
        """The words that followed, int64 (M,)."""
        return batch["targets"][batch["targets"] != IGNORED]

    def row_borders(self) -> dict[str, tuple[int, ...]]:
        """Words are sorted by frequency: the rows of the most frequent ones deserve bits of their own."""
        borders = tuple(row for row in _FREQUENT if 2 * row <= self.model.architecture.vocabulary)
        names = ("embedding.weight",) if self.model.architecture.tied else ("embedding.weight", "output.weight")
        return dict.fromkeys(names, borders) if borders else {}

    # -- dev --

    def on_train_epoch_start(self) -> None:
        self._state = self._teacher_state = self._after = self._teacher_after = None

    def on_validation_epoch_start(self) -> None:
        self._state = None
        self._dev = torch.zeros(2, dtype=torch.float64)

    def validation_step(self, batch: Batch, index: int) -> None:
        hidden, targets, self._state = self._hidden(batch)
        losses = full_cross_entropy(hidden, targets, self.model.output.weight, self.model.output.bias)
        self._dev += torch.tensor([float(losses.double().sum()), len(losses)], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        gathered = torch.as_tensor(self.all_gather(self._dev.to(self.device))).view(-1, 2).sum(0)
        nats = gathered[0] / gathered[1].clamp_min(1)
        self.log("dev_loss", nats, rank_zero_only=False)
        self.log("dev_perplexity", nats.exp(), prog_bar=True, rank_zero_only=False)
        self._state = None

    def _hidden(self, batch: Batch) -> tuple[Tensor, Tensor, LstmState | None]:
        """What the output layer reads at each target, (M, D), the targets, (M,), and the state after them."""
        real = batch["targets"] != IGNORED
        hidden, after = _read(self.model, batch, self._state)
        return hidden[real], batch["targets"][real], after

    def _losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Losses (M,) over the words that training sums over."""
        output, words = self.model.output, self.softmax
        if words is None:
            return full_cross_entropy(hidden, targets, output.weight, output.bias)
        return sampled_cross_entropy(hidden, targets, output.weight, output.bias, exact=words.exact, drawn=words.drawn)

    def _taught(self, batch: Batch, hidden: Tensor, targets: Tensor) -> Tensor:
        """Losses (M,) with the weighted divergence from the teacher's distributions, over the same words both."""
        assert self.teacher is not None
        teacher = cast(LanguageModel, self.teacher.model)
        words = self.softmax or SampledSoftmax(exact=self.model.architecture.vocabulary)
        sample = sample_words(targets, self.model.architecture.vocabulary, exact=words.exact, drawn=words.drawn)
        with torch.no_grad():
            taught, after = _read(teacher, batch, self._teacher_state)
            self._teacher_after = self._teacher_after or after
            taught = sample.logits(taught[batch["targets"] != IGNORED], teacher.output.weight, teacher.output.bias)
        logits = sample.logits(hidden, self.model.output.weight, self.model.output.bias)
        chosen = self.distillation
        return taught_cross_entropy(
            logits, sample.targets, taught, weight=chosen.weight, temperature=chosen.temperature
        )


def _read(model: LanguageModel, batch: Batch, state: LstmState | None) -> tuple[Tensor, LstmState | None]:
    """Hidden vectors (N, T, D), going on from the state that the batch before left; and the state after it."""
    if not isinstance(model, LstmLm):
        return model.hidden(batch["inputs"])[0], None
    hidden, (h, c) = model.hidden(batch["inputs"], _carried(batch["fresh"], state))
    return hidden, (h.detach(), c.detach())


def _carried(fresh: Tensor, state: LstmState | None) -> LstmState | None:
    """The state of the batch before, zeros for rows that begin anew; None where all do."""
    if state is None or state[0].shape[1] != len(fresh) or bool(fresh.all()):
        return None
    keep = (~fresh)[None, :, None]
    return state[0] * keep, state[1] * keep
