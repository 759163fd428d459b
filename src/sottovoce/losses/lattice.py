"""Sums over all alignments of an RNN-T lattice, one vector operation for each anti-diagonal.

Cell (t, u) has emitted u labels and looks at frame t. A blank arc leads to (t + 1, u), a label arc to (t, u + 1), and
an alignment ends with the blank arc that leaves (T_n - 1, U_n). All cells of one anti-diagonal t + u depend only on the
diagonal before it, so they are one operation (Graves 2012, arXiv 1211.3711, section 2.4, gives the recursions).

Utterances of different lengths end in different cells. Free arcs (log probability 0) lead each of them along the one
remaining path to the common corner (T, U), so the backward recursion is the forward recursion on the flipped lattice,
and both run in one loop as a batch of 2N.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_OFFSET_EVERY = 8  # diagonals


@dataclass(frozen=True)
class Arcs:
    """Log probabilities of the arcs, -inf where an utterance has no such arc: blank and label, each (N, T, U+1)."""

    blank: Tensor
    label: Tensor


def mask_arcs(blank: Tensor, label: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> Arcs:
    """Remove what lies outside each utterance: blank and label (N, T, U+1), lengths (N,)."""
    inside = _frames(blank) < logit_lengths[:, None, None]  # (N, T, 1)
    position = _positions(blank)
    lengths = target_lengths[:, None, None]
    return Arcs(
        torch.where(inside & (position <= lengths), blank, -math.inf),
        torch.where(inside & (position < lengths), label, -math.inf),
    )


def log_likelihood(arcs: Arcs, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Log probability of each utterance's labels, summed over its alignments: (N,)."""
    blank, label = _free_arcs(arcs, logit_lengths, target_lengths)
    scores, offsets = _scores(blank, label)
    return scores[-1, -1] + offsets.sum(0)


def arc_posteriors(arcs: Arcs, logit_lengths: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log likelihoods (N,), and the probability that an alignment takes each blank and label arc, (N, T, U+1) each."""
    blank, label = _free_arcs(arcs, logit_lengths, target_lengths)
    n, frames, positions = blank.shape
    both = torch.cat([blank, blank.flip(1, 2)]), torch.cat([label, label.flip(1, 2)])
    scores, offsets = _scores(*both)
    total = scores[-1, -1, :n] + offsets[:, :n].sum(0)
    alpha, beta = scores[:, 1:, :n], scores[:, 1:, n:].flip(0, 1)  # (T+U+1, U+1, N) each
    # Every path crosses every diagonal in one cell. Dividing by a diagonal's own sum, instead of the whole lattice's,
    # keeps the rounding errors of hundreds of float32 additions out of the gradient. An arc joins alpha of one diagonal
    # with beta of the next, which lacks the offset that beta took on in between.
    alpha = alpha - (alpha + beta).logsumexp(1, keepdim=True) - offsets[:, n:].flip(0)[:, None]
    before, after = (_unskew(side.contiguous(), frames + 1) for side in (alpha, beta))  # (N, T+1, U+1) each
    blank_posterior = (before[:, :frames] + arcs.blank + after[:, 1:]).exp_().contiguous()
    label_posterior = torch.zeros_like(blank_posterior)
    last = positions - 1
    label_posterior[:, :, :last] = before[:, :frames, :last] + arcs.label[:, :, :last] + after[:, :frames, 1:]
    label_posterior[:, :, :last].exp_()
    return total, blank_posterior, label_posterior


def _frames(blank: Tensor) -> Tensor:
    return torch.arange(blank.shape[1], device=blank.device)[:, None]  # (T, 1)


def _positions(blank: Tensor) -> Tensor:
    return torch.arange(blank.shape[2], device=blank.device)  # (U+1,)


def _free_arcs(arcs: Arcs, logit_lengths: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Add the free arcs to the common corner: blank (N, T, U+1), label (N, T+1, U)."""
    position, lengths = _positions(arcs.blank), target_lengths[:, None, None]
    ended = (_frames(arcs.blank) >= logit_lengths[:, None, None]) & (position == lengths)
    blank = arcs.blank.masked_fill(ended, 0.0)
    n, _, positions = blank.shape
    last_row = blank.new_full((n, 1, positions), -math.inf).masked_fill_(position >= lengths, 0.0)
    return blank, torch.cat([arcs.label, last_row], dim=1)[:, :, : positions - 1]


def _scores(blank: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Forward scores by diagonal: blank (M, T, U+1), label (M, T+1, U) to (T+U+1, U+2, M), and offsets (T+U+1, M).

    Entry [d, u + 1], plus the offsets up to d, is the log of the summed probability of all paths from (0, 0) to cell
    (d - u, u). Entry [d, 0] is -inf, what a label arc into u = 0 would come from. M is innermost so that each diagonal
    is one contiguous run. Now and then a diagonal's maximum moves into the offsets: float32 resolves small scores best.
    """
    batch, frames, positions = blank.shape
    diagonals, width = frames + positions, positions * batch
    arcs = _skew(blank, label).flatten(2).unbind()
    scores = blank.new_full((diagonals, positions + 1, batch), -math.inf)
    offsets = blank.new_zeros((diagonals, batch))
    scores[0, 1] = 0.0
    rows = scores[:, 1:].flatten(1).unbind()
    # [d, 0] is row u - 1 and [d, 1] row u of the same memory: the two cells from which cell u of d + 1 is reached.
    sources = scores.as_strided((diagonals, 2, width), (width + batch, batch, 1)).unbind()
    reached = torch.empty_like(arcs[0])
    by_label, by_blank = reached.unbind()
    for diagonal, arc in enumerate(arcs, start=1):
        torch.add(sources[diagonal - 1], arc, out=reached)
        torch.logaddexp(by_label, by_blank, out=rows[diagonal])
        if diagonal % _OFFSET_EVERY == 0:
            _move_maximum(scores[diagonal, 1:], offsets[diagonal])
    return scores, offsets


def _move_maximum(scores: Tensor, offset: Tensor) -> None:
    """Take each utterance's maximum out of scores (U+1, M) into offset (M,), both in place."""
    torch.amax(scores, 0, out=offset)
    offset.clamp_(min=torch.finfo(scores.dtype).min)  # an impossible utterance stays -inf and does not become NaN
    scores -= offset


def _skew(blank: Tensor, label: Tensor) -> Tensor:
    """Arcs by the diagonal that they leave and the position that they reach: (T+U, 2, U+1, M), label arcs first."""
    batch, frames, positions = blank.shape
    skewed = blank.new_full((frames + positions - 1, 2, positions, batch), -math.inf)
    diagonal, kind = skewed.stride(0), skewed.stride(1)
    steps = (1, diagonal, diagonal + batch)  # of n, t and u
    skewed.as_strided(blank.shape, steps, kind).copy_(blank)
    if positions > 1:
        skewed.as_strided(label.shape, steps, batch).copy_(label)
    return skewed


def _unskew(scores: Tensor, frames: int) -> Tensor:
    """A view of contiguous scores by diagonal (T+U+1, U+1, N) by cell: (N, frames, U+1)."""
    _, positions, batch = scores.shape
    diagonal = positions * batch
    return scores.as_strided((batch, frames, positions), (1, diagonal, diagonal + batch))
