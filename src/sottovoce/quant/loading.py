"""A packed file back into a PyTorch module."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sottovoce.errors import FormatError
from sottovoce.packed import PackedModel, load_model
from sottovoce.quant.weights import network, plain_name


@torch.no_grad()
def load(path: str | Path, *, into: nn.Module) -> PackedModel:
    """Decode a packed file into a module of the same tensor names and shapes, and return the packed model.

    Raises FormatError when the file cannot be trusted, or naming the tensor that is missing, left over or of another
    shape; the module is unchanged then.
    """
    packed = load_model(path)
    values = {name: packed.decode(name) for name in (*packed.tensors, *packed.aliases)}
    state = {plain_name(name): value for name, value in network(into).state_dict().items()}
    for name in sorted(values.keys() ^ state.keys()):
        where = "the file lacks" if name in state else "the module lacks"
        raise FormatError(f"{path}: {where} tensor {name!r}")
    for name, value in values.items():
        if tuple(value.shape) != tuple(state[name].shape):
            raise FormatError(
                f"{path}: tensor {name!r}: expected shape {tuple(state[name].shape)}, found {tuple(value.shape)}"
            )
    for name, value in values.items():
        state[name].copy_(torch.from_numpy(value.copy()))
    return packed
