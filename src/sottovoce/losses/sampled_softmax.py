"""Cross-entropy over a large vocabulary: with every word, or with the frequent ones and a sample of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def full_cross_entropy(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """-log softmax(hidden W^T + b) at the targets: hidden (M, D), targets int64 (M,), weight (V, D), bias (V,) -> nats
    float32 (M,)."""
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), targets, reduction="none")


@dataclass(frozen=True)
class WordSample:
    """Words (S,) that stand for a whole vocabulary, where the targets are among them, (M,), and the logarithms (S,) of
    how many words each stands for: 0 where it stands for itself alone."""

    words: Tensor
    targets: Tensor
    correction: Tensor

    def logits(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Logits float32 (M, S) of hidden (M, D), weight (V, D), bias (V,). The sum of their exponentials estimates
        that of all words, without bias, so that a softmax over them is one over the vocabulary.

        The corrections cancel between two networks on one sample: the divergence of these softmaxes estimates that of
        the whole ones.
        """
        return F.linear(hidden, weight[self.words], bias[self.words]).float() + self.correction


def sample_words(
    targets: Tensor, vocabulary: int, *, exact: int, drawn: int, generator: torch.Generator | None = None
) -> WordSample:
    """The first ``exact`` words and the batch's own targets int64 (M,), each for itself, and ``drawn`` of the others,
    uniformly and without replacement, which stand for all of these."""
    device = targets.device
    own = torch.unique(targets[targets >= exact])
    tail = torch.ones(vocabulary, dtype=torch.bool, device=device)
    tail[:exact] = False
    tail[own] = False
    others = tail.nonzero()[:, 0]
    chosen = others[torch.randperm(len(others), generator=generator, device=device)[:drawn]]
    words = torch.cat([torch.arange(min(exact, vocabulary), device=device), own, chosen])
    correction = torch.zeros(len(words), device=device)
    if len(chosen):
        correction[-len(chosen) :] = torch.log(torch.tensor(len(others) / len(chosen)))
    position = torch.zeros(vocabulary, dtype=torch.int64, device=device)
    position[words] = torch.arange(len(words), device=device)
    return WordSample(words, position[targets], correction)


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
    """As ``full_cross_entropy``, the sum over words estimated from ``sample_words``.

    The sum of exponentials is unbiased, for each word that may be drawn weighs one over its probability of inclusion;
    its logarithm is low by Jensen's inequality, so a perplexity comes from ``full_cross_entropy``. Vocabularies are
    sorted by frequency, so that the exact words carry nearly all probability.
    """
    if exact + drawn >= len(weight):
        return full_cross_entropy(hidden, targets, weight, bias)
    sample = sample_words(targets, len(weight), exact=exact, drawn=drawn, generator=generator)
    return F.cross_entropy(sample.logits(hidden, weight, bias), sample.targets, reduction="none")
