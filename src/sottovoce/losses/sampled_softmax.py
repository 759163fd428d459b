"""Cross-entropy over a large vocabulary: with every word, or with the frequent ones and a sample of the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def full_cross_entropy(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """-log softmax(hidden W^T + b) at the targets: hidden (M, D), targets int64 (M,), weight (V, D), bias (V,) -> nats
    float32 (M,)."""
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), targets, reduction="none")


def sampled_cross_entropy(
    hidden: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    exact: int,
    drawn: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """As ``full_cross_entropy``, the sum over words estimated: the first ``exact`` words and the batch's own targets
    count as they are, ``drawn`` of the others, uniformly and without replacement, for all of these.

    The sum of exponentials is unbiased, for each word that may be drawn weighs one over its probability of inclusion;
    its logarithm is low by Jensen's inequality, so a perplexity comes from ``full_cross_entropy``. Vocabularies are
    sorted by frequency, so that the exact words carry nearly all probability.
    """
    vocabulary = len(weight)
    if exact + drawn >= vocabulary:
        return full_cross_entropy(hidden, targets, weight, bias)
    head = torch.arange(exact, device=weight.device)
    own = torch.unique(targets[targets >= exact])
    tail = torch.ones(vocabulary, dtype=torch.bool, device=weight.device)
    tail[:exact] = False
    tail[own] = False
    others = tail.nonzero()[:, 0]
    chosen = others[torch.randperm(len(others), generator=generator, device=weight.device)[:drawn]]
    words = torch.cat([head, own, chosen])
    correction = torch.zeros(len(words), device=weight.device)
    if len(chosen):
        correction[-len(chosen) :] = torch.log(torch.tensor(len(others) / len(chosen)))
    position = torch.zeros(vocabulary, dtype=torch.int64, device=weight.device)
    position[words] = torch.arange(len(words), device=weight.device)
    logits = F.linear(hidden, weight[words], bias[words]).float() + correction
    return F.cross_entropy(logits, position[targets], reduction="none")
