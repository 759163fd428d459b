"""Sensitivity as divergence: what one cluster's quantization does to the model's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sottovoce.errors import ConfigError

Form = Literal["full", "observed"]
"""Over the whole distribution, or its printed form."""
_PIECE = 1 << 22  # logits worked on at a time


@dataclass(frozen=True)
class Reference:
    """The float model's output on one batch: log-probabilities (n, V), shares (n,) of the positions, observed ids."""

    batch: Any
    log_probs: Tensor
    weights: Tensor
    observed: Tensor | None


@torch.no_grad()
def references(
    batches: Sequence[Any],
    logits: Callable[[Any], Tensor],
    weights: Callable[[Any], Tensor | None] | None,
    observed: Callable[[Any], Tensor | None] | None,
) -> list[Reference]:
    """The outputs to compare with, float32 (n, V) in memory for each batch.

    Raises ConfigError for outputs that are not finite numbers or functions that do not fit them.
    """
    found = []
    for index, batch in enumerate(batches):
        log_probs = _rows(logits(batch)).float().log_softmax(-1)
        n = len(log_probs)
        if n == 0 or not bool(log_probs.isfinite().all()):
            raise ConfigError(f"batch {index}: expected logits of finite numbers at one position or more, found others")
        given = weights(batch) if weights is not None else None
        share = torch.ones(n, device=log_probs.device) if given is None else given.flatten().float()
        words = observed(batch) if observed is not None else None
        if observed is not None and words is None:
            raise ConfigError(
                f"batch {index}: expected the ids that followed, found none: the observed form is for language models"
            )
        for name, value in (("position weights", share), ("observed ids", words)):
            if value is not None and value.numel() != n:
                raise ConfigError(
                    f"batch {index}: expected {n} {name}, one for each row of logits; found {value.numel()}"
                )
        found.append(Reference(batch, log_probs, share, None if words is None else words.flatten()))
    return found


@torch.no_grad()
def divergence(reference: Sequence[Reference], logits: Callable[[Any], Tensor], *, observed: bool = False) -> float:
    """Mean over positions of KL(reference || model as it stands), in nats.

    ``observed``: the form that is printed in the source, the observed word's term of the sum alone,
    ``P(w) ln(P(w) / Q(w))`` (Xu et al. 2021, arXiv 2112.11438, section IV-A); it can be negative.
    Raises ConfigError where the quantized model's logits are not finite.
    """
    total, count = 0.0, 0.0
    for item in reference:
        scores = _rows(logits(item.batch))
        step = max(1, _PIECE // scores.shape[-1])
        for start in range(0, len(scores), step):
            piece = slice(start, start + step)
            log_q, log_p = scores[piece].float().log_softmax(-1), item.log_probs[piece]
            if observed and item.observed is not None:
                word = item.observed[piece, None].to(log_p.device)
                p, q = log_p.gather(1, word)[:, 0], log_q.gather(1, word)[:, 0]
                each = p.exp() * (p - q)
            else:
                each = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
            total += float((each * item.weights[piece]).sum())
        count += float(item.weights.sum())
    mean = total / max(count, 1e-30)
    if mean != mean or abs(mean) == float("inf"):
        raise ConfigError("the quantized model's logits are not finite numbers: no divergence can be taken")
    return mean


def _rows(logits: Any) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dim() < 1:
        raise ConfigError(
            f"logits: expected a tensor of (..., V), found {type(logits).__name__}; give a function that returns one"
        )
    return logits.reshape(-1, logits.shape[-1])
