"""What counts as a weight: the parameters of a module that compression may touch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from sottovoce.errors import PlanError

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
    (nn.Module, r"sorted_weight", 1),  # quant/sorted_rows.py
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
    parameter met again under another name, in whatever module, is an alias of its first one. Projections of an LSTM
    (``weight_hr``) have one gate.
    """
    names: dict[int, list[str]] = {}
    found: dict[int, tuple[nn.Parameter, int]] = {}
    for name, parameter, gates in _matrices(model):
        names.setdefault(id(parameter), []).append(name)
        if gates:
            found.setdefault(id(parameter), (parameter, gates))
    return [Weight(names[k][0], p, gates, tuple(names[k][1:])) for k, (p, gates) in found.items()]


def network(model: nn.Module) -> nn.Module:
    """The user's own network inside what ``torch.compile``, DistributedDataParallel or DataParallel made of it."""
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        inner = model.module
    return network(inner) if isinstance(inner, nn.Module) else model


def is_flattened(module: nn.Module) -> bool:
    """Whether FSDP1 holds the weights below this module as flat vectors, of which a state dict has copies."""
    # By name, because importing it takes seconds.
    return any(kind.__name__ == "FullyShardedDataParallel" for kind in type(module).__mro__)


def plain_name(name: str) -> str:
    """A tensor's name without what ``torch.compile`` of a part of the network puts into it."""
    return name.replace("_orig_mod.", "")


def check_weight(name: str, parameter: Tensor) -> None:
    """Raises PlanError for a weight whose memory cannot be worked on in place, or that is not float32."""
    if parameter.dtype is not torch.float32:
        raise PlanError(f"{name}: expected float32 master weights, found {parameter.dtype}; use autocast for speed")
    if not parameter.is_contiguous():
        raise PlanError(f"{name}: expected contiguous memory; channels_last cannot be compressed")


def float_reasons(model: nn.Module) -> dict[str, str]:
    """Every tensor of the model's state that is no weight, by its first name, and why it stays as it is.

    Parameters, whatever holds them, and buffers that are saved with the model; tied ones once.
    """
    weights = {id(weight.parameter) for weight in find_weights(model)}
    seen: set[int] = set()
    reasons: dict[str, str] = {}
    model = network(model)
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in weights or id(value) in seen:
            continue
        seen.add(id(value))
        owner, _, last = name.rpartition(".")
        reasons[plain_name(name)] = _reason(model.get_submodule(owner), owner, last, value)
    return reasons


def as_matrix(tensor: Tensor) -> Tensor:
    """An (R, C) view of a weight: convolutions flatten to (C_out, C_in * k)."""
    return tensor.view(tensor.shape[0], prod(tensor.shape[1:]))


def _matrices(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    """Every parameter that could be a weight, under each of its names, and its gates there: 0 where a module holds it
    that makes no weight of it."""
    for prefix, module in network(model).named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.dim() >= 2 and parameter.numel() and parameter.is_floating_point():
                yield plain_name(f"{prefix}.{name}" if prefix else name), parameter, _gates(module, name)


def _gates(module: nn.Module, name: str) -> int:
    """Gates in the rows of this parameter of this module, 0 when it is no weight."""
    for kind, pattern, gates in _KINDS:
        if isinstance(module, kind) and re.fullmatch(pattern, name):
            return 1 if name.startswith("weight_hr") else gates
    return 0


def _reason(module: nn.Module, owner: str, name: str, value: Tensor) -> str:
    if not isinstance(value, nn.Parameter):
        return "buffer"
    if "norm" in type(module).__name__.lower():
        return "norm"
    if "bias" in name:
        return "bias"
    if not value.numel():
        return f"empty: a shape of {tuple(value.shape)} holds no weight"
    if isinstance(module, ParametrizationList):
        made, what = type(module[0]).__name__.lstrip("_"), owner.rpartition(".")[2]
        return f"{made} computes the {what} from it: torch.nn.utils.parametrize.remove_parametrizations undoes that"
    if value.dim() < 2:
        return f"a vector of shape {tuple(value.shape)}: a weight is a matrix"
    if not value.is_floating_point():
        return f"{value.dtype}: a weight is float32"
    if _supported(module):
        return f"no weight of {type(module).__name__}: {name}"
    return f"unsupported layer: {type(module).__name__}"


def _supported(module: nn.Module) -> bool:
    return any(isinstance(module, kind) for kind, _, _ in _KINDS if kind is not nn.Module)
