"""A packed file back into a PyTorch module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, PackedModel, load_model
from sottovoce.quant.packed_modules import PackedWeight, packed_twin
from sottovoce.quant.weights import network, plain_name


@torch.no_grad()
def load(path: str | Path | PackedModel, *, into: nn.Module, packed: bool = False) -> PackedModel:
    """Fill a module of the same tensor names and shapes from a packed file, or from a packed model that was read
    already, and return the packed model.

    By default every weight is decoded, into the parameters as they are: any dtype, device or compiled graph stays.
    With ``packed`` each ``nn.Linear`` and ``nn.Embedding`` whose weight the file holds as codes is replaced by a layer
    that keeps the codes, on its weight's device (so compile afterwards); all others are decoded. The file chooses
    values only: which code runs is decided by the module.

    Raises FormatError when the file cannot be trusted, or naming the tensor that is missing, left over or of another
    shape; the module is unchanged then.
    """
    model = path if isinstance(path, PackedModel) else load_model(path)
    into = network(into)
    state = {plain_name(name): value for name, value in into.state_dict().items()}
    _check("packed model" if isinstance(path, PackedModel) else str(path), model, state)
    replaced = _replace(into, model) if packed else set()
    for name, target in state.items():
        if name not in replaced:
            target.copy_(_values(model.tensor(name)))
    return model


def _check(path: str, model: PackedModel, state: dict[str, Tensor]) -> None:
    names = {*model.tensors, *model.aliases}
    for name in sorted(names ^ state.keys()):
        where = "the file lacks" if name in state else "the module lacks"
        raise FormatError(f"{path}: {where} tensor {name!r}")
    for name, target in state.items():
        found = tuple(model.tensor(name).shape)
        if found != tuple(target.shape):
            raise FormatError(f"{path}: tensor {name!r}: expected shape {tuple(target.shape)}, found {found}")


def _values(tensor: PackedMatrix | np.ndarray) -> Tensor:
    """A writable copy: float32 of a matrix, a plain array in its own dtype."""
    return torch.from_numpy(tensor.decode() if isinstance(tensor, PackedMatrix) else np.array(tensor))


def _replace(into: nn.Module, model: PackedModel) -> set[str]:
    """Put packed layers in the module; the names of the tensors that they took over."""
    weights: dict[str, PackedWeight] = {}
    twins: dict[int, nn.Module] = {}
    replaced: set[str] = set()
    for prefix, module in list(into.named_modules(remove_duplicate=False)):
        name = plain_name(f"{prefix}.weight")
        stored = model.aliases.get(name, name)
        matrix = model.tensors.get(stored)
        if not prefix or not isinstance(matrix, PackedMatrix) or "weight" not in module._parameters:
            continue
        if id(module) not in twins:
            weight = weights.get(stored) or PackedWeight(matrix).to(module._parameters["weight"].device)  # type: ignore[union-attr]
            twin = packed_twin(module, weight)
            if twin is None:
                continue
            weights[stored], twins[id(module)] = weight, twin
        into.set_submodule(prefix, twins[id(module)])
        replaced.add(name)
    return replaced
