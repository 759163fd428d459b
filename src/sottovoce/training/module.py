"""The RNN-T as a LightningModule: loss, and the dev word error rate."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sottovoce.decoding.greedy import greedy_search
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.evaluation.wer import score, total
from sottovoce.losses import (
    cell_posteriors,
    check_joint_memory,
    distillation,
    rnnt_loss_from_logits,
    twice_differentiable_rnnt_loss,
)
from sottovoce.models import Rnnt, SteppingRnnt
from sottovoce.packed import RnntArchitecture
from sottovoce.training.config import PhaseConfig, RnntTrainingConfig
from sottovoce.training.task_module import TaskModule


class RnntModule(TaskModule):
    """Trains ``model`` for one phase. Logs ``train_loss``, ``dev_loss`` (nats an utterance) and ``dev_wer`` (percent).

    Batches are those of ``SpeechDataModule``. The auxiliary CTC head is the module's, not the model's: it is never
    packed.
    """

    monitor: ClassVar[str] = "dev_wer"
    model: Rnnt

    def __init__(
        self, architecture: RnntArchitecture, tokenizer: Tokenizer, training: RnntTrainingConfig, phase: PhaseConfig
    ) -> None:
        super().__init__(training, phase)
        self._ctc = training.ctc
        self.tokenizer = tokenizer
        self.model = Rnnt(architecture, training.dropout)
        self.ctc_head = nn.Linear(architecture.joiner_units, architecture.vocabulary) if training.ctc > 0 else None
        self._hypotheses: dict[str, str] = {}
        self._references: dict[str, str] = {}

    def set_cmvn(self, mean: Tensor, istd: Tensor) -> None:
        """Global feature normalization, (F,) each, from training features."""
        self.model.encoder.mean.copy_(mean)
        self.model.encoder.istd.copy_(istd)

    # -- what a search asks (search.Searchable) --

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean RNN-T loss over utterances, differentiable twice; without the auxiliary head, which is never packed."""
        logits, _, lengths = self._outputs(batch)
        return twice_differentiable_rnnt_loss(logits, batch["tokens"], lengths, batch["token_lengths"])

    def terms(self, batch: dict[str, Any]) -> int:
        return len(batch["tokens"])

    def logits(self, batch: dict[str, Any]) -> Tensor:
        """Logits (n, V) of the lattice's cells, padding left out."""
        logits, _, lengths = self._outputs(batch)
        return logits[_cells(logits, lengths, batch["token_lengths"])]

    def position_weights(self, batch: dict[str, Any]) -> Tensor:
        """How likely each of those cells is visited by an alignment of the transcript, (n,)."""
        with torch.no_grad():
            logits, _, lengths = self._outputs(batch)
            visited = cell_posteriors(logits, batch["tokens"], lengths, batch["token_lengths"])
            return visited[_cells(logits, lengths, batch["token_lengths"])]

    def observed(self, batch: dict[str, Any]) -> None:
        """A cell has no single label that followed."""
        return

    def row_borders(self) -> dict[str, tuple[int, ...]]:
        """Sentencepiece units are not sorted by frequency."""
        return {}

    def _outputs(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = self.model(batch["features"], batch["feature_lengths"], batch["tokens"])
        return found

    # -- training --

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss.detach(), batch_size=len(batch["ids"]), on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        n = len(batch["ids"])
        self.log("dev_loss", self._loss(batch), batch_size=n, on_epoch=True, sync_dist=True)
        stepping = SteppingRnnt(self.model)
        frames, lengths = stepping.encode(batch["features"], batch["feature_lengths"])
        for key, text, tokens in zip(
            batch["ids"], batch["texts"], greedy_search(stepping, frames, lengths), strict=True
        ):
            self._references[key] = text
            self._hypotheses[key] = self.tokenizer.decode(tokens.best.tokens)

    def on_validation_epoch_end(self) -> None:
        counts = total(score(self._references, self._hypotheses))
        # Under DDP each process decodes its share of the dev set; the counts add up.
        gathered = self.all_gather(torch.tensor([counts.errors, counts.words], device=self.device))
        summed = torch.as_tensor(gathered).view(-1, 2).sum(0)
        self.log("dev_wer", 100.0 * summed[0] / summed[1].clamp_min(1), prog_bar=True, rank_zero_only=False)
        self._references, self._hypotheses = {}, {}

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean over utterances of the RNN-T loss, plus the weighted CTC loss where there is a head."""
        features, tokens = batch["features"], batch["tokens"]
        architecture = self.model.architecture
        frames_out = architecture.output_frames(features.shape[1])
        # The joiner keeps its tanh beside the logits; both have a gradient.
        width = architecture.vocabulary + architecture.joiner_units
        dtype = torch.float32 if self.training_config.precision == "32-true" else torch.bfloat16
        check_joint_memory(len(tokens), frames_out, tokens.shape[1], width, dtype=dtype, device=features.device)
        logits, frames, lengths = self._outputs(batch)
        teaching = self.teacher is not None and self.training
        extra = self._divergence(batch, logits, lengths) if teaching else 0.0
        loss = extra + rnnt_loss_from_logits(
            logits, tokens, lengths, batch["token_lengths"], overwrite_logits=not teaching
        )
        if self.ctc_head is None:
            return loss
        log_probs = self.ctc_head(frames).float().log_softmax(-1).transpose(0, 1)  # (T', N, V)
        ctc = F.ctc_loss(log_probs, tokens, lengths, batch["token_lengths"], reduction="none", zero_infinity=True)
        return loss + self._ctc * ctc.mean()

    def _divergence(self, batch: dict[str, Any], logits: Tensor, lengths: Tensor) -> Tensor:
        """Weighted divergence from the teacher, in the cells that its own alignments visit."""
        assert self.teacher is not None
        taught = self.teacher.model(batch["features"], batch["feature_lengths"], batch["tokens"])[0]
        visited = cell_posteriors(taught, batch["tokens"], lengths, batch["token_lengths"])
        settings = self.distillation
        return settings.weight * distillation(taught, logits, settings.temperature, visited)


def _cells(logits: Tensor, lengths: Tensor, token_lengths: Tensor) -> Tensor:
    """Cells of the lattice inside each utterance, bool (N, T', U+1)."""
    frames = torch.arange(logits.shape[1], device=logits.device)[:, None]
    positions = torch.arange(logits.shape[2], device=logits.device)
    inside: Tensor = (frames < lengths[:, None, None]) & (positions <= token_lengths[:, None, None])
    return inside
