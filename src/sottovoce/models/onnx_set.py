"""The weights of an ONNX transducer as a module that is compressed like any other; it computes nothing."""

from __future__ import annotations

import torch
from torch import nn

from sottovoce.packed.onnx_set import OnnxSetArchitecture, graph_name


class OnnxSet(nn.Module):
    """A bias-free ``Linear`` (or ``Conv``) for each weight, by the names of the packed file; graphs are buffers."""

    def __init__(self, architecture: OnnxSetArchitecture) -> None:
        super().__init__()
        for name, shape in architecture.weights.items():
            *path, last = name.removesuffix(".weight").split(".")
            _at(self, path).add_module(last, _holder(shape))
        for part, length in architecture.lengths.items():
            *path, last = graph_name(part).split(".")
            _at(self, path).register_buffer(last, torch.zeros(length, dtype=torch.uint8))


def _holder(shape: tuple[int, ...]) -> nn.Module:
    holder = nn.Linear(1, 1, bias=False, device="meta")
    holder.weight = nn.Parameter(torch.zeros(shape))
    return holder


def _at(module: nn.Module, path: list[str]) -> nn.Module:
    for name in path:
        if name not in module._modules:
            module.add_module(name, nn.Module())
        module = module._modules[name] or module
    return module
