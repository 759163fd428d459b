"""From a trained model to a packed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.errors import ConfigError
from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.quant.weights import network, plain_name
from sottovoce.schemes.bands import TrainedBand
from sottovoce.schemes.processes import gathered, local

_TORCH = {"float16": torch.float16, "float32": torch.float32, "uint8": torch.uint8}


@torch.no_grad()
def pack_model(model: nn.Module, bands: list[TrainedBand], float_dtype: str = "float16") -> PackedModel:
    """Codes for every planned weight; parameters that stay float are rounded, in the model too, so both are equal.

    float_dtype: ``float16`` or ``float32`` for biases, norms and weights outside the plan; a parameter that float16
    cannot hold (overflow, or magnitudes all below its normal range) stays float32, and so do buffers. Of a model that
    is sharded (FSDP2) every process packs the whole, and all of them must ask for it. Raises ConfigError naming a
    tensor that holds nan, which no file may.
    """
    matrices = _matrices(bands)

    def array(value: Tensor, dtype: str) -> np.ndarray:
        stored = gathered(value.detach()).to(_TORCH.get(dtype, value.dtype))
        if stored.dtype is torch.float16:
            local(value).copy_(local(value).half())
        return stored.cpu().numpy().copy()

    tensors, aliases = lay_out(model, matrices, array, float_dtype)
    for name, values in tensors.items():
        if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
            raise ConfigError(f"{name}: cannot be packed: it holds nan")
    return PackedModel(tensors=tensors, aliases=aliases)


def lay_out(
    model: nn.Module,
    matrices: Mapping[int, PackedMatrix],
    array: Callable[[Tensor, str], np.ndarray],
    float_dtype: str = "float16",
) -> tuple[dict[str, PackedMatrix | np.ndarray], dict[str, str]]:
    """What the file of a model holds, by name, and its aliases: the one place that says so.

    matrices: by the id of their parameter, in the place of it; everything else is ``array(value, dtype)``. What has
    two names is held once, under the first.
    """
    model = network(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    tensors: dict[str, PackedMatrix | np.ndarray] = {}
    aliases: dict[str, str] = {}
    for held, value in model.state_dict(keep_vars=True).items():
        name = plain_name(held)
        known = first.setdefault(id(value), name)
        if known != name:
            aliases[name] = known
        elif id(value) in matrices:
            tensors[name] = matrices[id(value)]
        else:
            dtype = float_dtype if held in parameters else "float32"
            tensors[name] = array(value.data, stored_dtype(gathered(value.data), dtype))
    return tensors, aliases


def pack_float(model: nn.Module) -> PackedModel:
    """The model as it is, in float32: the reference that a compressed file is compared with."""
    return pack_model(model, [], "float32")


def _matrices(bands: list[TrainedBand]) -> dict[int, PackedMatrix]:
    parts: dict[int, list[TrainedBand]] = {}
    for band in bands:
        parts.setdefault(id(band.planned.weight.parameter), []).append(band)
    return {
        key: PackedMatrix(tuple(group[0].planned.weight.parameter.shape), tuple(band.pack() for band in group))
        for key, group in parts.items()
    }


@torch.no_grad()
def stored_dtype(value: Tensor, float_dtype: str) -> str:
    """How the file holds a tensor that is not packed: ``float16`` where that is asked for and holds it, else
    ``float32``; booleans as ``uint8``, a mask that loads back from 0 and 1."""
    if value.is_floating_point():
        half = value.half()
        fits = bool(half.isfinite().all()) and torch.allclose(half.float(), value.float(), rtol=2**-9, atol=1e-6)
        return "float16" if float_dtype == "float16" and fits else "float32"
    return "uint8" if value.dtype is torch.bool else str(value.dtype).removeprefix("torch.")
