"""A vocabulary in order of frequency inside a model whose own rows are in another order, so that a band of rows can
name the frequent words.

The weight's memory is sorted, and the layers that hold it go through the order: tokens in and logits out are those of
the model as it was. Nothing that trains, packs or stores weights needs to know; ``load`` undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sottovoce.errors import PlanError
from sottovoce.quant.weights import find_weights, network

WEIGHT, PLACE = "sorted_weight", "place"


class SortedRows(nn.Module):
    """A layer whose weight (R, C) lies sorted: row r of the model's own is row ``place[r]`` of ``sorted_weight``.

    ``weight`` is in the model's own order, for code that reads the attribute.
    """

    sorted_weight: nn.Parameter
    place: Tensor

    def __init__(self, layer: nn.Module, place: Tensor) -> None:
        super().__init__()
        self.register_parameter(WEIGHT, layer.get_parameter("weight"))
        self.register_buffer(PLACE, place)
        self.train(layer.training)

    @property
    def weight(self) -> Tensor:
        return self.sorted_weight[self.place]


class SortedEmbedding(SortedRows):
    """``nn.Embedding`` over sorted rows."""

    def __init__(self, embedding: nn.Embedding, place: Tensor) -> None:
        super().__init__(embedding, place)
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx, self.sparse = embedding.padding_idx, embedding.sparse
        self.scale_grad_by_freq = embedding.scale_grad_by_freq

    def forward(self, input: Tensor) -> Tensor:
        """int64 (...) -> (..., embedding_dim)."""
        rows = F.embedding(
            self.place[input],
            self.sorted_weight,
            scale_grad_by_freq=self.scale_grad_by_freq,
            sparse=self.sparse,
        )
        if self.padding_idx is None:
            return rows
        # No gradient for padding; its row's number is not asked for, because a state that is loaded may change it.
        return torch.where((input == self.padding_idx).unsqueeze(-1), rows.detach(), rows)


class SortedLinear(SortedRows):
    """``nn.Linear`` over sorted rows; the bias stays in the model's own order."""

    def __init__(self, linear: nn.Linear, place: Tensor) -> None:
        super().__init__(linear, place)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        product = F.linear(input, self.sorted_weight).index_select(-1, self.place)
        return product if self.bias is None else product + self.bias.to(product.dtype)


@torch.no_grad()
def sort_rows(model: nn.Module, name: str, order: Sequence[int] | Tensor) -> str:
    """Sort the rows of an embedding's or output layer's weight, and return its new name for a plan.

    name: a weight of an ``nn.Embedding`` or ``nn.Linear``; layers tied to it go along. order: all R rows of it, that
    which comes first first (the most frequent word's). The model computes what it did, sums in another order. The
    parameter stays the same object: call it before an optimizer has moments of it. A file of the model fills the model
    as it was too: ``load`` puts rows back in their own order.

    Raises PlanError for a name or an order that do not fit, and where another kind of layer holds the weight.
    """
    model = network(model)
    weight = next((w for w in find_weights(model) if name in (w.name, *w.aliases)), None)
    if weight is None:
        raise PlanError(f"{name}: no weight of this model: nothing to sort")
    rows = torch.as_tensor(order, dtype=torch.int64).cpu()
    if rows.shape != (weight.rows,) or not torch.equal(rows.sort().values, torch.arange(weight.rows)):
        raise PlanError(f"{name}: expected an order of its {weight.rows} rows, each once")
    holders = [alias.rpartition(".")[0] for alias in (weight.name, *weight.aliases)]
    for holder in holders:
        _check(holder, model.get_submodule(holder))
    place = rows.argsort().to(torch.int32).to(weight.parameter.device)
    weight.parameter.data.copy_(weight.parameter.data[rows.to(weight.parameter.device)])
    twins: dict[int, SortedRows] = {}
    for holder in holders:
        layer = model.get_submodule(holder)
        if id(layer) not in twins:
            twins[id(layer)] = _twin(layer, place)
        model.set_submodule(holder, twins[id(layer)])
    return f"{holders[0]}.{WEIGHT}"


def _check(name: str, layer: nn.Module) -> None:
    forward: Any = type(layer).forward
    plain = forward in (nn.Linear.forward, nn.Embedding.forward) and getattr(layer, "max_norm", None) is None
    if not name or not plain:
        raise PlanError(f"{name or 'the model'}: expected nn.Embedding or nn.Linear, found {type(layer).__name__}")


def _twin(layer: nn.Module, place: Tensor) -> SortedRows:
    if isinstance(layer, nn.Embedding):
        return SortedEmbedding(layer, place)
    assert isinstance(layer, nn.Linear)
    return SortedLinear(layer, place)
