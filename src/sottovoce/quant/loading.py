"""A packed file back into a PyTorch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, PackedModel, load_model
from sottovoce.quant.packed_modules import PackedWeight, packed_twin
from sottovoce.quant.sorted_rows import PLACE, WEIGHT
from sottovoce.quant.weights import is_flattened, network, plain_name


@dataclass(frozen=True)
class _Source:
    """Where a module's tensor comes from: a tensor of the file, and the places of its rows where those are sorted."""

    stored: str
    place: str | None = None


@torch.no_grad()
def load(path: str | Path | PackedModel, *, into: nn.Module, packed: bool = False) -> PackedModel:
    """Fill a module of the same tensor names and shapes from a packed file, or from a packed model that was read
    already, and return the packed model.

    By default every weight is decoded, into the parameters as they are: any dtype, device or compiled graph stays.
    With ``packed`` each ``nn.Linear`` and ``nn.Embedding`` whose weight the file holds as codes is replaced by a layer
    that keeps the codes, on its weight's device (so compile afterwards); all others, and layers with hooks, are
    decoded. Weights that ``sort_rows`` sorted come back in the module's own order, unless it was sorted too. The file
    chooses values only: which code runs is decided by the module.

    Raises FormatError when the file cannot be trusted, or naming the tensor that is missing, left over or of another
    shape, without memory (meta device) or in shards (FSDP1 and FSDP2); the module is unchanged then.
    """
    model = path if isinstance(path, PackedModel) else load_model(path)
    into = network(into)
    told = "packed model" if isinstance(path, PackedModel) else str(path)
    wrapped = next((name or "the module" for name, module in into.named_modules() if is_flattened(module)), None)
    if wrapped is not None:
        raise FormatError(f"{told}: {wrapped} is in FullyShardedDataParallel; load before wrapping it")
    state = {plain_name(name): value for name, value in into.state_dict().items()}
    sources = _sources(model, state)
    _check(told, model, state, sources)
    replaced = _replace(into, model, sources) if packed else set()
    for name, target in state.items():
        if name not in replaced:
            target.copy_(_values(model, sources[name]))
    return model


def _sources(model: PackedModel, state: Mapping[str, Tensor]) -> dict[str, _Source]:
    """By the name that the module has for it, each tensor of the file, aliases followed."""
    stored = {name: model.aliases.get(name, name) for name in (*model.tensors, *model.aliases)}
    sources = {name: _Source(target) for name, target in stored.items()}
    for name in stored:
        layer, _, last = name.rpartition(".")
        place = f"{layer}.{PLACE}"
        if last == WEIGHT and name not in state and place in stored:
            sources[f"{layer}.weight"] = _Source(stored[name], stored[place])
            del sources[name], sources[place]
    return sources


def _check(path: str, model: PackedModel, state: Mapping[str, Tensor], sources: Mapping[str, _Source]) -> None:
    for name in sorted(sources.keys() ^ state.keys()):
        where = "the file lacks" if name in state else "the module lacks"
        raise FormatError(f"{path}: {where} tensor {name!r}")
    for name, target in state.items():
        if hasattr(target, "full_tensor"):  # a DTensor, whose import takes seconds
            raise FormatError(f"{path}: tensor {name!r}: the module's is in shards; load before fully_shard")
        if target.is_meta:
            raise FormatError(f"{path}: tensor {name!r}: the module's is on the meta device; module.to_empty() first")
        found = tuple(model.tensor(sources[name].stored).shape)
        if found != tuple(target.shape):
            raise FormatError(f"{path}: tensor {name!r}: expected shape {tuple(target.shape)}, found {found}")
        place = sources[name].place
        if place is not None and not _is_order(model.tensors[place], found[0]):
            raise FormatError(f"{path}: tensor {place!r}: expected each of {found[0]} places once")


def _is_order(place: PackedMatrix | NDArray[Any], rows: int) -> bool:
    return isinstance(place, np.ndarray) and place.dtype.kind == "i" and np.array_equal(np.sort(place), np.arange(rows))


def _values(model: PackedModel, source: _Source) -> Tensor:
    """A writable copy: float32 of a matrix, a plain array in its own dtype."""
    tensor = model.tensors[source.stored]
    values = torch.from_numpy(tensor.decode() if isinstance(tensor, PackedMatrix) else np.array(tensor))
    place = _place(model, source)
    return values if place is None else values[place]


def _place(model: PackedModel, source: _Source) -> Tensor | None:
    return None if source.place is None else torch.from_numpy(np.array(model.tensors[source.place]))


def _replace(into: nn.Module, model: PackedModel, sources: Mapping[str, _Source]) -> set[str]:
    """Put packed layers in the module; the names of the tensors that they took over."""
    weights: dict[str, PackedWeight] = {}
    twins: dict[int, nn.Module] = {}
    replaced: set[str] = set()
    for prefix, module in list(into.named_modules(remove_duplicate=False)):
        name = plain_name(f"{prefix}.weight")
        source = sources.get(name)
        matrix = model.tensors[source.stored] if source else None
        if not prefix or source is None or not isinstance(matrix, PackedMatrix) or "weight" not in module._parameters:
            continue
        if id(module) not in twins:
            device = module._parameters["weight"].device
            weight = weights.get(source.stored) or PackedWeight(matrix, _place(model, source)).to(device)
            twin = packed_twin(module, weight)
            if twin is None:
                continue
            weights[source.stored], twins[id(module)] = weight, twin
        into.set_submodule(prefix, twins[id(module)])
        replaced.add(name)
    return replaced
