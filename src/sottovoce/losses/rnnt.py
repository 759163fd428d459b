"""The RNN-T loss on joiner outputs, exact, with the log-softmax fused.

Beside the logits (N, T, U+1, V), the largest tensors of the forward pass have V times fewer elements: log-softmax runs
over pieces that fit the cache. The gradient is one tensor of the logits' shape, or takes the logits' own memory.
"""

# No postponed annotations here: torch.library reads them to derive the operators' schemas.
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sottovoce.losses.checks import check_arguments, check_values, on_host, usable
from sottovoce.losses.lattice import arc_posteriors, log_likelihood, mask_arcs

Reduction = Literal["mean", "sum", "none"]

_CPU_PIECE = 1 << 18  # elements; 1 MiB of float32 stays in a core's second-level cache
_DEVICE_PIECE = 1 << 26  # elements; few launches, and at most 256 MiB of float32 beside the logits


def rnnt_loss_from_logits(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    overwrite_logits: bool = False,
) -> Tensor:
    """Negative log probability (nats) of the targets, summed over all alignments.

    Source: Graves 2012, "Sequence Transduction with Recurrent Neural Networks" (arXiv 1211.3711), section 2.

    Args:
        logits: (N, T, U+1, V), unnormalized; float32, float64, float16 or bfloat16. The two short types are summed in
            float32, and their gradient comes back in the short type.
        targets: (N, U) integers in 0..V-1, none of them blank; what lies past an utterance's length is ignored.
        logit_lengths: (N,) integers in 1..T.
        target_lengths: (N,) integers in 0..U.
        blank: the id of blank.
        reduction: "mean" over the N utterances (not over labels), "sum", or "none" for the (N,) losses.
        overwrite_logits: let the backward pass write the gradient into the logits' memory, so that (N, T, U+1, V) is
            held once in all. The logits must not be read after it; anything that autograd still needs them for then
            fails with PyTorch's own message. Without effect inside ``torch.compile``.

    Returns:
        A scalar, or (N,) for "none"; float64 for float64 logits, else float32. Padding has a gradient of exactly zero.

    Raises:
        ValueError: shapes, types, ranges or options that do not fit. Values that lie on an accelerator are not read
            back, for that would make every step wait: an utterance with a bad length or label there gives NaN.
    """
    check_arguments(logits, targets, logit_lengths, target_lengths, blank, reduction, overwrite_logits)
    posteriors = torch.is_grad_enabled() and logits.requires_grad
    overwrite = overwrite_logits and not torch.compiler.is_compiling()
    losses: Tensor
    losses, _, _ = _losses(
        logits.contiguous(), targets, logit_lengths, target_lengths, blank, posteriors, overwrite
    )  # (N,)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


@torch.no_grad()
def cell_posteriors(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int = 0
) -> Tensor:
    """Probability that an alignment of the targets visits each cell of the lattice: (N, T, U+1), zero in padding.

    Arguments as in ``rnnt_loss_from_logits``. What a model predicts in a cell matters as much as it is visited: the
    divergence of two transducers is the sum over cells of posterior times the divergence of their outputs there.
    """
    posteriors: tuple[Tensor, Tensor, Tensor]
    posteriors = _losses(logits.contiguous(), targets, logit_lengths, target_lengths, blank, True, False)
    return posteriors[1] + posteriors[2]


@torch.library.custom_op("sottovoce::rnnt_losses", mutates_args=())
def _losses(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    posteriors: bool,
    overwrite: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (N,) and, if ``posteriors``, those of the blank and label arcs (N, T, U+1); else empty tensors."""
    readable = on_host(targets, logit_lengths, target_lengths)
    if readable:
        check_values(logits, targets, logit_lengths, target_lengths, blank)
    targets, logit_lengths, target_lengths = (
        values.to(logits.device, non_blocking=True) for values in (targets, logit_lengths, target_lengths)
    )
    arcs = mask_arcs(*_arc_log_probs(logits, targets, blank), logit_lengths, target_lengths)
    if posteriors:
        total, by_blank, by_label = arc_posteriors(arcs, logit_lengths, target_lengths)
    else:
        total = log_likelihood(arcs, logit_lengths, target_lengths)
        by_blank, by_label = total.new_empty(0), total.new_empty(0)
    if not readable:
        good = usable(logits, targets, logit_lengths, target_lengths, blank)
        total = torch.where(good, total, torch.nan)
        by_blank = torch.where(good[:, None, None], by_blank, torch.nan) if posteriors else by_blank
    return -total, by_blank, by_label


@_losses.register_fake
def _(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    posteriors: bool,
    overwrite: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = logits.shape[:3] if posteriors else (0,)
    dtype = _sum_dtype(logits)
    losses = logits.new_empty(logits.shape[0], dtype=dtype)
    return losses, logits.new_empty(shape, dtype=dtype), logits.new_empty(shape, dtype=dtype)


@torch.library.custom_op("sottovoce::rnnt_gradient", mutates_args=())
def _gradient(logits: Tensor, targets: Tensor, by_blank: Tensor, by_label: Tensor, blank: int) -> Tensor:
    """The gradient (N, T, U+1, V) of losses whose arc posteriors, times the losses' own gradients, are given."""
    gradient = torch.empty_like(logits)
    _write_gradient(gradient, logits, targets, by_blank, by_label, blank)
    return gradient


@_gradient.register_fake
def _(logits: Tensor, targets: Tensor, by_blank: Tensor, by_label: Tensor, blank: int) -> Tensor:
    return torch.empty_like(logits)


@torch.library.custom_op("sottovoce::rnnt_gradient_", mutates_args=("logits",))
def _gradient_(logits: Tensor, targets: Tensor, by_blank: Tensor, by_label: Tensor, blank: int) -> None:
    """The same, written over the logits."""
    _write_gradient(logits, logits, targets, by_blank, by_label, blank)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, _, _, ctx.blank, _, ctx.overwrite = inputs
    ctx.save_for_backward(logits, targets, output[1], output[2])


def _backward(ctx: Any, gradient: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    logits, targets, by_blank, by_label = ctx.saved_tensors
    scale = gradient[:, None, None]
    arguments = (logits, targets, by_blank * scale, by_label * scale, ctx.blank)
    if ctx.overwrite:
        _gradient_(*arguments)
        return (logits, *(None,) * 6)
    return (_gradient(*arguments), *(None,) * 6)


_losses.register_autograd(_backward, setup_context=_save)


def _sum_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _cell_labels(targets: Tensor, frames: int, vocabulary: int) -> Tensor:
    """The label that each cell's label arc emits, any id where it has none: (N, U) to (N*T*(U+1), 1)."""
    labels = F.pad(targets.long().clamp(0, vocabulary - 1), (0, 1))
    return labels[:, None].expand(-1, frames, -1).reshape(-1, 1)


def _pieces(logits: Tensor) -> list[slice]:
    """Runs of cells, few enough of them to work on at a time."""
    cells, vocabulary = logits.shape[:-1].numel(), logits.shape[-1]
    step = max(1, (_CPU_PIECE if logits.is_cpu else _DEVICE_PIECE) // vocabulary)
    return [slice(start, start + step) for start in range(0, cells, step)]


def _arc_log_probs(logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Log-softmax of the logits at blank and at each cell's label: (N, T, U+1) each."""
    shape, dtype = logits.shape[:3], _sum_dtype(logits)
    labels = _cell_labels(targets, shape[1], logits.shape[3])
    cells = logits.view(-1, logits.shape[3])
    by_blank, by_label = (logits.new_empty((cells.shape[0], 1), dtype=dtype) for _ in range(2))
    for piece in _pieces(logits):
        log_probs = torch.log_softmax(cells[piece], 1, dtype=dtype)
        by_blank[piece] = log_probs[:, blank, None]
        torch.gather(log_probs, 1, labels[piece], out=by_label[piece])
    return by_blank.view(shape), by_label.view(shape)


def _write_gradient(
    out: Tensor, logits: Tensor, targets: Tensor, by_blank: Tensor, by_label: Tensor, blank: int
) -> None:
    """Softmax times each cell's posterior, less the arcs' own at blank and label; ``out`` may be ``logits``."""
    vocabulary = logits.shape[3]
    labels = _cell_labels(targets.to(logits.device), logits.shape[1], vocabulary)
    cells, out = logits.view(-1, vocabulary), out.view(-1, vocabulary)
    by_blank, by_label = by_blank.reshape(-1, 1), by_label.reshape(-1, 1)
    occupied = by_blank + by_label
    for piece in _pieces(logits):
        gradient = torch.softmax(cells[piece], 1, dtype=by_blank.dtype).mul_(occupied[piece])
        gradient[:, blank, None] -= by_blank[piece]
        gradient.scatter_add_(1, labels[piece], -by_label[piece])
        out[piece] = gradient
