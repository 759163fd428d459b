"""The sensitivity of each cluster of a model to fewer bits: one call for either metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sottovoce.errors import ConfigError, PlanError
from sottovoce.progress import Progress
from sottovoce.quant.makers import level_count
from sottovoce.quant.plan import BitPlan
from sottovoce.quant.spec import BandSpec
from sottovoce.search.cache import Cache, search_cache
from sottovoce.search.clustering import Cluster, clusters, plan_of, spec_of
from sottovoce.search.hessian import DISTRIBUTIONS, PRODUCTS, Trace, fingerprints, trace_samples
from sottovoce.search.kl import Reference, divergence, references
from sottovoce.search.rounding import Prototypes, Weights, evaluating, in_place, rounded
from sottovoce.search.sizes import model_bytes, part_bytes
from sottovoce.search.table import SensitivityTable

METRICS = ("kl", "hessian")
Perturbation = Literal["prototype", "rounding"]
"""What the Hessian's error is to, where prototypes are given."""
MID_RISE = BandSpec(8, "uniform", "row")  # what lost least at two bits, of all tables and groupings
Function = Callable[[Any], Any]


def sensitivity(
    model: nn.Module,
    batches: Sequence[Any],
    metric: str = "kl",
    bits: Sequence[int] = (1, 2, 4, 8),
    *,
    by: str | Callable[[str], str] | Sequence[Cluster] = "tensor",
    rows: Mapping[str, Sequence[int]] | None = None,
    levels: BandSpec = MID_RISE,
    logits: Function | None = None,
    loss: Function | None = None,
    position_weights: Function | None = None,
    observed: Function | None = None,
    prototypes: Prototypes | None = None,
    probes: int = 16,
    distribution: str = "rademacher",
    products: str = "block",
    normalize: bool = True,
    perturbation: str = "prototype",
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    tokenizer_bytes: int | None = None,
    cache: str | Path | None = None,
    progress: Progress = lambda done, total: None,
) -> SensitivityTable:
    """How much each cluster of weights suffers at each width, all else being float.

    metric ``kl``: mean over positions of KL(model || model with the cluster quantized), over the whole distribution.
        Wants logits, (..., V) of a batch: ``logits(batch)``, or the model's own output. ``position_weights(batch)``
        says how much each position counts; ``observed(batch)``, the ids that followed, turns it into the printed form,
        which weights the observed word only.
    metric ``hessian``: trace of the cluster's block of the Hessian of ``loss(batch)`` (a mean), over the cluster's
        weights unless ``normalize`` is off, times the squared rounding error. ``probes``, ``distribution`` and
        ``products`` are Hutchinson's (``hessian.trace_samples``); negative traces count as zero, and the table's
        details hold each standard error.

    One batch of 32 utterances is enough (Xu et al. 2021). The model is put in evaluation mode meanwhile, and neither it
    nor its weights are changed in the end.

    by, rows: see ``clusters``; ``by`` may be a list of clusters, others stay float. levels: table and scales; their
    bits and rows do not count. prototypes: by bits, quantized weights by parameter name, taken in place of direct
    rounding; ``perturbation`` says whether the Hessian's error is to the ``prototype`` or of direct ``rounding``.
    fields: the packed file's architecture, input and provenance, for its size; tokenizer_bytes: the length of its
    tokenizer, where it has one, whose entry in the header counts. cache: a folder of what was found, by the content of
    weights, batches, options and what the functions give on the float model, so that an interrupted search goes on.
    progress: called with steps done and all of them.

    Memory: n x V float32 logits of all batches (``kl``); the graph of two derivatives of one batch (``hessian``).
    Source: Xu et al. 2021 (arXiv 2112.11438), sections IV-A and IV-B; Dong et al. 2020 (HAWQ-V2) for the mean trace.
    Raises PlanError for clusters, bits or prototypes that do not fit the model, ConfigError for options or functions
    that do not.
    """
    widths = widths_of(bits, prototypes)
    _member("metric", metric, METRICS)
    _member("distribution", distribution, DISTRIBUTIONS)
    _member("products", products, PRODUCTS)
    _member("perturbation", perturbation, get_args(Perturbation))
    batches = list(batches)
    if not batches or probes < 1:
        raise ConfigError(f"sensitivity wants a batch and a probe at least, found {len(batches)} and {probes}")
    found = clusters(model, by, rows) if isinstance(by, str) or callable(by) else tuple(by)
    table = sized(model, found, widths, levels, fields, tokenizer_bytes)
    weights = Weights(model)
    chosen = _Chosen(weights, found, widths, levels, prototypes, progress)
    with evaluating(model):
        if metric == "kl":
            options: dict[str, Any] = {"form": "full" if observed is None else "observed"}
            reference = references(batches, logits or model, position_weights, observed)
            outputs = [[item.log_probs, item.weights, item.observed] for item in reference]
            memory = search_cache(cache, model, [*batches, *outputs], metric, options, found, levels, prototypes)
            omega = _kl(chosen, reference, logits or model, observed is not None, memory)
        else:
            options = {"distribution": distribution, "products": products, "seed": seed}
            if loss is None:
                raise ConfigError("the Hessian is of a loss: give loss=, a function of a batch")
            seen = [] if cache is None else fingerprints(weights, found, batches, loss)
            memory = search_cache(cache, model, [*batches, *seen], metric, options, found, levels, prototypes)
            traces = _traces(chosen, batches, loss, probes, options, memory)
            omega = _curvature(chosen, traces, normalize, prototypes if perturbation == "prototype" else None)
            options |= {"probes": probes, "normalize": normalize, "perturbation": perturbation}
            options["trace"] = [trace.mean for trace in traces]
            options["standard_error"] = [trace.standard_error for trace in traces]
    options["prototypes"] = prototypes is not None
    return replace(table, metric=metric, omega=np.maximum(omega, 0.0), details=options)


@dataclass(frozen=True)
class _Chosen:
    """What is looked at, and at which widths."""

    weights: Weights
    clusters: tuple[Cluster, ...]
    widths: tuple[int, ...]
    levels: BandSpec
    prototypes: Prototypes | None
    progress: Progress


def _kl(
    chosen: _Chosen,
    reference: Sequence[Reference],
    logits: Function,
    observed: bool,
    memory: Cache,
) -> NDArray[np.float64]:
    """Divergences (C, B)."""

    def find(cluster: Cluster, width: int) -> float:
        values = rounded(chosen.weights, cluster, width, chosen.levels, chosen.prototypes)
        with in_place(chosen.weights, cluster.parts, values):
            return divergence(reference, logits, observed=observed)

    omega = np.zeros((len(chosen.clusters), len(chosen.widths)))
    for k, (i, j) in enumerate(np.ndindex(omega.shape)):
        cluster, width = chosen.clusters[i], chosen.widths[j]
        omega[i, j] = memory.get(f"{cluster.name} at {width}", partial(find, cluster, width))
        chosen.progress(k + 1, omega.size)
    return omega


def _traces(
    chosen: _Chosen,
    batches: Sequence[Any],
    loss: Function,
    probes: int,
    options: Mapping[str, Any],
    memory: Cache,
) -> list[Trace]:
    done = count(1)
    samples = trace_samples(
        chosen.weights,
        chosen.clusters,
        batches,
        loss,
        probes=probes,
        remember=memory.get,
        done=lambda: chosen.progress(next(done), probes * len(batches)),
        **options,
    )
    return [Trace.of(values) for values in samples]


@torch.no_grad()
def _curvature(
    chosen: _Chosen, traces: Sequence[Trace], normalize: bool, prototypes: Prototypes | None
) -> NDArray[np.float64]:
    """Trace, over the cluster's weights if ``normalize``, times ``|rounded - weight|**2``: (C, B)."""
    omega = np.zeros((len(chosen.clusters), len(chosen.widths)))
    for i, j in np.ndindex(omega.shape):
        cluster = chosen.clusters[i]
        values = rounded(chosen.weights, cluster, chosen.widths[j], chosen.levels, prototypes)
        pairs = zip(values, cluster.parts, strict=True)
        error = sum(float((value - chosen.weights.rows(part)).double().square().sum()) for value, part in pairs)
        share = chosen.weights.count(cluster) if normalize else 1
        omega[i, j] = max(traces[i].mean, 0.0) / share * error
    return omega


def sized(
    model: nn.Module,
    found: Sequence[Cluster],
    widths: tuple[int, ...],
    levels: BandSpec,
    fields: Mapping[str, Any] | None = None,
    tokenizer_bytes: int | None = None,
) -> SensitivityTable:
    """A table whose sensitivities are zero: what each cluster weighs, and the file around it.

    Raises PlanError for clusters that do not fit the model.
    """
    plan = plan_of(found, [max(widths)] * len(found), levels, join=False)
    weights = Weights(model)
    size = np.zeros((len(found), len(widths)), np.int64)
    for i, cluster in enumerate(found):
        for j, width in enumerate(widths):
            spec = spec_of(levels, width)
            size[i, j] = sum(part_bytes(weights[part], part.stop - part.start, spec) for part in cluster.parts)
    laid_out = partial(model_bytes, model, fields=fields, tokenizer_bytes=tokenizer_bytes)
    whole = laid_out(plan)
    return SensitivityTable(
        metric="",
        clusters=tuple(found),
        bits=widths,
        omega=np.zeros(size.shape),
        weights=np.array([weights.count(cluster) for cluster in found], np.int64),
        bytes=size,
        fixed_bytes=whole - int(size[:, -1].sum()),
        join_bytes=_join_bytes(laid_out, plan, whole),
        parameters=sum(p.numel() for p in model.parameters()),
        levels=replace(levels, start=0, stop=None),
    )


def _join_bytes(laid_out: Callable[[BitPlan], int], plan: BitPlan, whole: int) -> int:
    """Bytes of the header that one band fewer saves, at least: what each weight in bands would save in one."""
    saved = []
    for name, bands in plan.weights.items():
        if len(bands) > 1:
            one = BitPlan({**plan.weights, name: (replace(bands[0], start=0, stop=None),)})
            tables = (len(bands) - 1) * level_count(bands[0])
            scales = (len(bands) - 1) * 4 * (bands[0].grouping == "tensor")
            saved.append((whole - laid_out(one) - tables - scales) // (len(bands) - 1))
    return max(min(saved, default=0) - 8, 0)  # numbers of fewer digits


def widths_of(bits: Sequence[int], prototypes: Prototypes | None) -> tuple[int, ...]:
    """The widths, in order. Raises PlanError for what is no width, or one that the prototypes lack."""
    widths = tuple(sorted(set(bits)))
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= 8:
            raise PlanError(f"bits must be whole numbers from 1 to 8, found {width!r}")
        if prototypes is not None and width not in prototypes:
            raise PlanError(f"prototypes: expected weights at {width} bits, found {sorted(prototypes)}")
    if not widths:
        raise PlanError("bits: expected one width at least, found none")
    return widths


def _member(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}; found {value!r}")
