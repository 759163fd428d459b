"""Clusters: the groups of weights that share one width, from a whole model down to each gate of an LSTM layer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from sottovoce.errors import PlanError, did_you_mean
from sottovoce.quant.plan import BitPlan
from sottovoce.quant.spec import BandSpec
from sottovoce.quant.weights import Weight, find_weights

LEVELS = ("model", "layer", "tensor", "gate")
_GATES = {4: "ifgo", 3: "rzn"}  # in the order of PyTorch's rows
_ATTENTION = "qkv"


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``stop - 1`` of a weight."""

    weight: str
    start: int
    stop: int


@dataclass(frozen=True)
class Cluster:
    """Weights that get the same number of bits."""

    name: str
    parts: tuple[Part, ...]


def clusters(
    model: nn.Module,
    by: str | Callable[[str], str] = "tensor",
    rows: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Cluster, ...]:
    """The model's weights in clusters, in the model's order.

    by: ``model`` is one cluster; ``layer`` is each layer of an LSTM or GRU, and each sublayer of a Transformer block:
        Linear modules side by side in one parent (query, key, value and output; the two of a feed-forward net) count
        as one, every other module by itself; ``tensor`` is each weight parameter; ``gate`` cuts those that stack gates
        (LSTM i f g o, GRU r z n, attention q k v). A function from a weight's name to a cluster's name does as it says.
    rows: borders by weight, as ``{"output.weight": [1000]}``: each band of rows becomes a cluster of its own. Where a
        vocabulary is sorted by frequency, the rows of the most frequent words carry most of the sensitivity.

    Raises PlanError for an unknown ``by``, a weight that the model does not have, or borders outside it.
    """
    weights = find_weights(model)
    if not weights:
        raise PlanError("the model has no weight that could get bits of its own")
    if isinstance(by, str) and by not in LEVELS:
        raise PlanError(f"clusters must be by {', '.join(LEVELS)} or a function of a weight's name; found {by!r}")
    borders = _borders(weights, rows or {})
    layers = _layers(model, weights)
    found: dict[str, list[Part]] = {}
    for weight in weights:
        for name, part in _parts(weight, by, layers[weight.name], borders.get(weight.name, ())):
            found.setdefault(name, []).append(part)
    return tuple(Cluster(name, tuple(parts)) for name, parts in found.items())


def plan_of(found: Sequence[Cluster], bits: Sequence[int], levels: BandSpec, *, join: bool = True) -> BitPlan:
    """The plan that gives each cluster its bits, on ``levels`` but for their bits and rows.

    join: neighbouring bands that would come out alike are one band where that changes no number: evenly spaced levels
    with a scale for each row.
    """
    bands: dict[str, list[BandSpec]] = {}
    for cluster, width in zip(found, bits, strict=True):
        for part in cluster.parts:
            spec = replace(spec_of(levels, width), start=part.start, stop=part.stop)
            bands.setdefault(part.weight, []).append(spec)
    join = join and joins_bands(levels)
    return BitPlan({name: _ordered(specs, join) for name, specs in bands.items()})


def joins_bands(levels: BandSpec) -> bool:
    """Whether rows come out the same in one band as in two."""
    return levels.kind == "uniform" and levels.grouping == "row"


def spec_of(levels: BandSpec, bits: int) -> BandSpec:
    """``levels`` at another width; a zero among the levels, or none, gives way where that width cannot have it so."""
    impossible = (bits == 1 and levels.zero is True) or (bits == 8 and levels.zero is False)
    return replace(levels, bits=bits, zero=None if impossible else levels.zero, start=0, stop=None)


def _ordered(specs: list[BandSpec], join: bool) -> tuple[BandSpec, ...]:
    merged: list[BandSpec] = []
    for spec in sorted(specs, key=lambda s: s.start):
        last = merged[-1] if merged else None
        if join and last is not None and replace(last, start=0, stop=None) == replace(spec, start=0, stop=None):
            merged[-1] = replace(last, stop=spec.stop)
        else:
            merged.append(spec)
    return tuple(merged)


def _borders(weights: list[Weight], rows: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    known = {name: weight for weight in weights for name in (weight.name, *weight.aliases)}
    found: dict[str, tuple[int, ...]] = {}
    for name, borders in rows.items():
        if name not in known:
            raise PlanError(f"rows: {name!r} is no weight of this model{did_you_mean(name, known)}")
        weight, given = known[name], tuple(borders)
        if list(given) != sorted(set(given)) or not all(0 < border < weight.rows for border in given):
            raise PlanError(f"rows: {name}: expected growing borders between 0 and {weight.rows}, found {list(given)}")
        if found.setdefault(weight.name, given) != given:
            raise PlanError(f"rows: {name!r} is tied to {weight.name!r}, which has other borders")
    return found


def _parts(
    weight: Weight, by: str | Callable[[str], str], layer: tuple[str, str], borders: tuple[int, ...]
) -> list[tuple[str, Part]]:
    """The weight's parts, each with the name of its cluster."""
    whole, gates = layer
    name = weight.name
    if borders:
        edges = (0, *borders, weight.rows)
        cut = itertools.pairwise(edges)
        return [(f"{name}[{start}:{stop}]", Part(name, start, stop)) for start, stop in cut]
    if by == "gate" and len(gates) > 1:
        size = weight.rows // len(gates)
        return [(f"{name}[{gate}]", Part(name, i * size, (i + 1) * size)) for i, gate in enumerate(gates)]
    named = {"model": "model", "layer": whole, "tensor": name, "gate": name}
    return [(named[by] if isinstance(by, str) else by(name), Part(name, 0, weight.rows))]


def _layers(model: nn.Module, weights: list[Weight]) -> dict[str, tuple[str, str]]:
    """For each weight the name of its layer, and the letters of the gates that its rows stack."""
    modules = dict(model.named_modules(remove_duplicate=False))
    owners = {weight.name: weight.name.rpartition(".")[0] for weight in weights}
    parents = [owner.rpartition(".")[0] for owner in owners.values() if isinstance(modules[owner], nn.Linear)]
    found = {}
    for weight in weights:
        owner = owners[weight.name]
        parent = owner.rpartition(".")[0]
        number = re.search(r"_l(\d+)(_reverse)?$", weight.name)
        attention = isinstance(modules[parent], nn.MultiheadAttention)
        side_by_side = parent and not isinstance(modules[parent], nn.ModuleList) and parents.count(parent) > 1
        if isinstance(modules[owner], nn.RNNBase) and number:
            layer = f"{owner}.l{number[1]}".removeprefix(".")
        elif attention or (isinstance(modules[owner], nn.Linear) and side_by_side):
            layer = parent
        else:
            layer = owner or weight.name
        is_attention = isinstance(modules[owner], nn.MultiheadAttention)
        found[weight.name] = layer, _ATTENTION if is_attention else _GATES.get(weight.gates, "")
    return found
