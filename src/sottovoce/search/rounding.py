"""A cluster's weights at fewer bits, and putting them in place of the float ones for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sottovoce.errors import PlanError
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.spec import BandSpec
from sottovoce.quant.weights import Weight, as_matrix, find_weights
from sottovoce.search.clustering import Cluster, Part, spec_of

Prototypes = Mapping[int, Mapping[str, Tensor]]
"""By bits, the quantized weights of a whole model by parameter name, as ``state_dict()`` gives them."""


class Weights:
    """The weights of a model by name, and the rows of a cluster's parts in them."""

    def __init__(self, model: nn.Module) -> None:
        self.by_name = {weight.name: weight for weight in find_weights(model)}

    def __getitem__(self, part: Part) -> Weight:
        return self.by_name[part.weight]

    def rows(self, part: Part, tensor: Tensor | None = None) -> Tensor:
        """The part's (R, C) rows of the parameter, or of a tensor of its shape."""
        source = self[part].parameter.data if tensor is None else tensor
        return as_matrix(source)[part.start : part.stop]

    def gates(self, part: Part) -> int:
        """Gates that the part's rows stack: those of the weight where it is the whole of it."""
        weight = self[part]
        return weight.gates if (part.start, part.stop) == (0, weight.rows) else 1

    def of(self, clusters: Sequence[Cluster]) -> list[nn.Parameter]:
        """The parameters that the clusters lie in, each once."""
        return list({id(self[p].parameter): self[p].parameter for c in clusters for p in c.parts}.values())

    def count(self, cluster: Cluster) -> int:
        """Weights in the cluster."""
        return sum((part.stop - part.start) * self[part].columns for part in cluster.parts)


@torch.no_grad()
def rounded(
    weights: Weights, cluster: Cluster, bits: int, levels: BandSpec, prototypes: Prototypes | None = None
) -> list[Tensor]:
    """The cluster's parts at ``bits`` bits, (R, C) each: taken from the prototypes, else rounded directly.

    Raises PlanError for prototypes that lack the bits or the weight.
    """
    if prototypes is not None:
        return [weights.rows(part, _prototype(prototypes, bits, weights[part])) for part in cluster.parts]
    found = []
    for part in cluster.parts:
        rows = weights.rows(part)
        found.append(make_codebook(rows, spec_of(levels, bits), weights.gates(part)).snap_(rows.clone()))
    return found


@contextmanager
def in_place(weights: Weights, parts: Sequence[Part], values: Sequence[Tensor]) -> Iterator[None]:
    """Other values in the parts' own memory (an LSTM's flat weights stay flat); the old ones are back afterwards."""
    kept = [weights.rows(part).clone() for part in parts]
    try:
        with torch.no_grad():
            for part, value in zip(parts, values, strict=True):
                weights.rows(part).copy_(value)
        yield
    finally:
        with torch.no_grad():
            for part, value in zip(parts, kept, strict=True):
                weights.rows(part).copy_(value)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout: the model in evaluation mode, every module's own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def differentiable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """With gradients of these parameters, frozen ones among them; each as it was afterwards."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """The model's parameters, buffers and gradients back as they were."""
    state = [(value, value.detach().clone()) for value in (*model.parameters(), *model.buffers())]
    gradients = [(p, p.grad) for p in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for value, kept in state:
                value.copy_(kept)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _prototype(prototypes: Prototypes, bits: int, weight: Weight) -> Tensor:
    found = prototypes.get(bits, {})
    for name in (weight.name, *weight.aliases):
        if name in found and tuple(found[name].shape) == tuple(weight.parameter.shape):
            return found[name].to(weight.parameter.device)
    shape = tuple(weight.parameter.shape)
    raise PlanError(f"prototypes: expected {weight.name} of shape {shape} at {bits} bits, found none")
