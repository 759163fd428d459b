"""What a form of weights makes of a model: the weights that its graphs really hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sottovoce.export.weights import Tensor, WeightForm, int4_weight, int8_weight, matrix_of
from sottovoce.packed import PackedMatrix, PackedModel


def rounded(model: PackedModel, form: WeightForm) -> PackedModel:
    """The model with the weights of that form, decoded where they are not the model's own. Float weights, which only
    int8 and int4 round, and everything else stay as they are."""
    if form in ("codes", "float"):
        return model
    names = [*model.tensors, *model.aliases]  # a tied weight is rounded where it multiplies, not where it is looked up
    return replace(model, tensors={name: _rounded(name, model.tensor(name), form) for name in names}, aliases={})


def _rounded(name: str, tensor: Tensor, form: WeightForm) -> Tensor:
    if len(tensor.shape) != 2 or not name.split(".")[-1].startswith("weight"):
        return tensor
    if form == "int8":
        if isinstance(tensor, PackedMatrix):
            return tensor
        weight = int8_weight(tensor)
        return weight.levels.astype(np.float32) * weight.row_scale[:, None]
    return tensor if name.endswith("embedding.weight") else int4_weight(tensor).decode()


def weight_noise_db(model: PackedModel, form: WeightForm) -> float:
    """Power of all weights over that of their rounding, in dB; infinite where the form keeps them."""
    signal = noise = 0.0
    for name, tensor in rounded(model, form).tensors.items():
        own = model.tensor(name)
        if tensor is own:
            continue
        values = matrix_of(own).astype(np.float64)
        signal += float(np.square(values).sum())
        noise += float(np.square(matrix_of(tensor) - values).sum())
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise))
