"""What counts as a weight: the parameters of a module that compression may touch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

_RECURRENT = r"weight_(ih|hh|hr)(_l\d+(_reverse)?)?"
# (module type, names of its weights, gates stacked in the rows)
_KINDS: tuple[tuple[type[nn.Module], str, int], ...] = (
    (nn.LSTM, _RECURRENT, 4),
    (nn.GRU, _RECURRENT, 3),
    (nn.RNNBase, _RECURRENT, 1),
    (nn.LSTMCell, _RECURRENT, 4),
    (nn.GRUCell, _RECURRENT, 3),
    (nn.RNNCell, _RECURRENT, 1),
    (nn.MultiheadAttention, r"in_proj_weight", 3),
    (nn.MultiheadAttention, r"[qkv]_proj_weight", 1),
    (nn.Linear, r"weight", 1),
    (nn.Embedding, r"weight", 1),
    (nn.Conv1d, r"weight", 1),
    (nn.Conv2d, r"weight", 1),
)


@dataclass(frozen=True, eq=False)
class Weight:
    """A compressible parameter: its first name in the model, itself, and how many gates its rows stack.

    aliases: other names under which the model holds the same parameter (tied weights are compressed once).
    """

    name: str
    parameter: nn.Parameter
    gates: int
    aliases: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.parameter.shape[0])

    @property
    def columns(self) -> int:
        return int(self.parameter.numel() // self.parameter.shape[0])


def find_weights(model: nn.Module) -> list[Weight]:
    """Every matrix of the model's LSTM, GRU, Linear, Embedding, Conv1d, Conv2d and MultiheadAttention modules, in
    order.

    Names are those of the user's network, compiled and wrapped (DistributedDataParallel) or not. Subclasses count; a
    parameter met again under another name is an alias of its first one. Projections of an LSTM (``weight_hr``) have one
    gate.
    """
    names: dict[int, list[str]] = {}
    found: dict[int, tuple[nn.Parameter, int]] = {}
    for name, parameter, gates in _candidates(model):
        names.setdefault(id(parameter), []).append(name)
        found.setdefault(id(parameter), (parameter, gates))
    return [Weight(names[k][0], p, gates, tuple(names[k][1:])) for k, (p, gates) in found.items()]


def network(model: nn.Module) -> nn.Module:
    """The user's own network inside what ``torch.compile``, DistributedDataParallel or DataParallel made of it."""
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        inner = model.module
    return network(inner) if isinstance(inner, nn.Module) else model


def plain_name(name: str) -> str:
    """A tensor's name without what ``torch.compile`` of a part of the network puts into it."""
    return name.replace("_orig_mod.", "")


def as_matrix(tensor: Tensor) -> Tensor:
    """An (R, C) view of a weight: convolutions flatten to (C_out, C_in * k)."""
    return tensor.view(tensor.shape[0], prod(tensor.shape[1:]))


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    for prefix, module in network(model).named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            gates = _gates(module, name)
            if gates and parameter.dim() >= 2 and parameter.is_floating_point():
                yield plain_name(f"{prefix}.{name}" if prefix else name), parameter, gates


def _gates(module: nn.Module, name: str) -> int:
    """Gates in the rows of this parameter of this module, 0 when it is no weight."""
    for kind, pattern, gates in _KINDS:
        if isinstance(module, kind) and re.fullmatch(pattern, name):
            return 1 if name.startswith("weight_hr") else gates
    return 0
