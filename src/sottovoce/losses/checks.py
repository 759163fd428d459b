"""What the RNN-T loss refuses, each with one line that names the argument."""

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32)
_REDUCTIONS = ("mean", "sum", "none")


def check_arguments(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    reduction: str,
    overwrite_logits: bool,
) -> None:
    """Refuse shapes, types and options that do not fit, without reading a value. Raises ValueError."""
    if logits.dim() != 4 or 0 in logits.shape:
        raise ValueError(f"logits: expected (N, T, U+1, V), none of them 0, found {tuple(logits.shape)}")
    if logits.dtype not in _FLOATS:
        raise ValueError(f"logits: expected float32, float64, float16 or bfloat16, found {logits.dtype}")
    n, _, positions, vocabulary = logits.shape
    _check_integers("targets", targets, (n, positions - 1))
    _check_integers("logit_lengths", logit_lengths, (n,))
    _check_integers("target_lengths", target_lengths, (n,))
    if not 0 <= blank < vocabulary:
        raise ValueError(f"blank: expected an id in 0..{vocabulary - 1}, found {blank}")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected one of {', '.join(_REDUCTIONS)}, found {reduction!r}")
    if overwrite_logits and logits.is_leaf and logits.requires_grad:
        raise ValueError("overwrite_logits: the logits are a leaf of the graph, whose values would be lost")


def check_values(logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int) -> None:
    """Refuse lengths and labels out of range; all but the logits lie in host memory. Raises ValueError."""
    _, frames, positions, vocabulary = logits.shape
    _check_range("logit_lengths", logit_lengths, 1, frames)
    _check_range("target_lengths", target_lengths, 0, positions - 1)
    wrong = _wrong_labels(targets, target_lengths, vocabulary, blank)
    if wrong.any():
        n, u = wrong.nonzero()[0].tolist()
        label = int(targets[n, u])
        found = f"blank ({blank})" if label == blank else str(label)
        raise ValueError(f"targets: utterance {n}, label {u}: expected an id in 0..{vocabulary - 1}, found {found}")


def on_host(*values: Tensor) -> bool:
    """Whether all of these can be read without waiting for an accelerator."""
    return all(value.is_cpu for value in values)


def usable(logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """Which utterances ``check_values`` would pass, (N,) bool, without leaving the device."""
    _, frames, positions, vocabulary = logits.shape
    lengths = (logit_lengths >= 1) & (logit_lengths <= frames)
    lengths &= (target_lengths >= 0) & (target_lengths < positions)
    return lengths & ~_wrong_labels(targets, target_lengths, vocabulary, blank).any(1)


def _check_integers(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(values.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape} to match the logits, found {tuple(values.shape)}")
    if values.dtype not in _INTEGERS:
        raise ValueError(f"{name}: expected int64 or int32, found {values.dtype}")


def _check_range(name: str, lengths: Tensor, low: int, high: int) -> None:
    for n, length in enumerate(lengths.tolist()):
        if not low <= length <= high:
            raise ValueError(f"{name}: utterance {n}: expected {low}..{high}, found {length}")


def _wrong_labels(targets: Tensor, target_lengths: Tensor, vocabulary: int, blank: int) -> Tensor:
    """Labels inside their utterance that are no label: (N, U) bool."""
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    return inside & ((targets < 0) | (targets >= vocabulary) | (targets == blank))
