"""The RNN-T loss in operations that can be differentiated twice, for Hessians; slower than the one for training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_NEVER = -1e30  # a log-probability, finite so that differences of it are numbers


def twice_differentiable_rnnt_loss(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int = 0
) -> Tensor:
    """Mean over utterances of the negative log probability (nats) of the targets; the value of
    ``rnnt_loss_from_logits``.

    logits: (N, T, U+1, V) float32 or float64; targets: (N, U); lengths: (N,). One step a frame: with L the running sum
    of a frame's label log-probabilities, ``alpha_t(u) = L_t(u) + log sum_(k <= u) exp(alpha_(t-1)(k) + blank_(t-1)(k)
    - L_t(k))``. What lies past an utterance's end is never read. (torch.logcumsumexp will not do: where its output has
    no gradient, its second derivative is wrong.) Memory: a few tensors of the logits' shape, and (N, T, U+1, U+1).
    """
    log_probs = logits.log_softmax(-1)
    by_blank = log_probs[..., blank]  # (N, T, U+1)
    labels = targets[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
    by_label = log_probs[:, :, : targets.shape[1]].gather(3, labels)[..., 0]
    reached = F.pad(by_label.cumsum(2), (1, 0))  # (N, T, U+1)
    positions = reached.shape[2]
    later = torch.ones(positions, positions, dtype=torch.bool, device=logits.device).triu(1)
    alphas = [reached[:, 0]]
    for t in range(1, logits.shape[1]):
        before = alphas[-1] + by_blank[:, t - 1] - reached[:, t]
        earlier = before[:, None].expand(-1, positions, -1).masked_fill(later, _NEVER)  # (N, U+1, U+1)
        alphas.append(reached[:, t] + earlier.logsumexp(2))
    utterance = torch.arange(len(logits), device=logits.device)
    ends = torch.stack(alphas, 1) + by_blank
    found: Tensor = -ends[utterance, logit_lengths - 1, target_lengths].mean()
    return found
