"""One byte budget for models that decide together: each cluster is judged by the word errors of their fused lists.

A nat of a recognizer and a nat of a language model have no exchange rate. What both change is the posterior over the
entries of an n-best list, and with it that of the number of word errors: how far it moves is the sensitivity here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sottovoce.errors import ConfigError, PlanError
from sottovoce.evaluation.fused import FusedLists
from sottovoce.evaluation.line_search import Floats
from sottovoce.progress import Progress
from sottovoce.quant.plan import BitPlan
from sottovoce.quant.spec import BandSpec
from sottovoce.schemes import PTQ, compress
from sottovoce.search.cache import search_cache
from sottovoce.search.clustering import Cluster, clusters
from sottovoce.search.measuring import MID_RISE, sized, widths_of
from sottovoce.search.rounding import Weights, evaluating, in_place, restored, rounded
from sottovoce.search.sizes import model_bytes
from sottovoce.search.table import SensitivityTable

DIVERGENCE, EXPECTED = METRICS = ("divergence of word errors", "word errors")
_ROLE = ":"  # between a role and what is its own
_TIE = 1e-3  # words a nat: what divergence counts for beside word errors


@dataclass(frozen=True, eq=False)
class ListScorer:
    """One of the models, as it scores lists: ``scores()`` gives the log-probabilities float64 (M,) of all entries, one
    list after another, by the weights as they stand in ``model``; ``name`` is the lists' name for them.

    rows: borders of bands, as ``clusters`` has them. fields, tokenizer_bytes: what the model's file holds beside
    weights. cache: a folder for what was found.
    """

    name: str
    model: nn.Module
    scores: Callable[[], Floats]
    rows: Mapping[str, Sequence[int]] = field(default_factory=dict)
    fields: Mapping[str, Any] | None = None
    tokenizer_bytes: int | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class ListErrors:
    """Word errors of lists: those expected of the posterior, and those of the best entries."""

    expected: float
    best: int


def joint_sensitivity(
    scorers: Mapping[str, ListScorer],
    lists: FusedLists,
    bits: Sequence[int] = (1, 2, 4, 8),
    *,
    by: str = "gate",
    metric: str = DIVERGENCE,
    levels: BandSpec = MID_RISE,
    progress: Progress = lambda done, total: None,
) -> SensitivityTable:
    """What the word errors of ``lists`` suffer where one cluster alone is quantized: one table over the clusters of all
    models, whose names begin with their role (``lm:output.weight``).

    scorers: by role. The lists have the float models' scores. metric: ``divergence of word errors``, in nats, of how
    many there are (``FusedLists.divergence``); or ``word errors``, by which the expected ones grow, clusters that seem
    to gain counting for nothing, so that a little of the divergence decides among them: far worse on dev speech
    (docs/benchmarks.md). The table's details have both, the signed changes too, by role. One call of a model's
    ``scores`` for each cluster and width. ``split_plan`` gives the models' own plans back. Raises PlanError for
    clusters, bits or a metric that do not fit, ConfigError for scores that are not finite.
    """
    if metric not in METRICS:
        raise PlanError(f"metric: expected {' or '.join(METRICS)}, found {metric!r}")
    widths = widths_of(bits, None)
    found = {role: clusters(x.model, by, x.rows) for role, x in scorers.items()}
    tables = {
        role: sized(x.model, found[role], widths, levels, x.fields, x.tokenizer_bytes) for role, x in scorers.items()
    }
    total, done = sum(table.omega.size for table in tables.values()), 0
    expected = lists.expected_errors()
    details: dict[str, Any] = {"expected_errors": expected, "words": lists.words, "change": {}, "divergence": {}}
    for role, scorer in scorers.items():
        told = partial(_told, progress, done, total)
        errors, divergence = _measured(scorer, lists, tables[role], told)
        details["change"][role] = (errors - expected).tolist()
        details["divergence"][role] = divergence.tolist()
        done += errors.size
    return judged_by(replace(join_tables(tables), details=details), metric)


def judged_by(table: SensitivityTable, metric: str) -> SensitivityTable:
    """What ``joint_sensitivity`` found, by either of its metrics; nothing is measured.

    Lists are few, and many a cluster has no effect on their word errors that can be seen, or a lucky one. By word
    errors alone all its widths would be equal, and it would get the fewest bits though bytes were left.
    """
    details = table.details
    change, divergence = (np.concatenate([*map(np.array, details[key].values())]) for key in ("change", "divergence"))
    omega = divergence if metric == DIVERGENCE else np.maximum(change, 0.0) + _TIE * divergence
    return replace(table, metric=metric, omega=omega)


def join_tables(tables: Mapping[str, SensitivityTable]) -> SensitivityTable:
    """The clusters of several models in one table, for one budget of all their files together.

    tables: by role, of equal widths, levels and unit of sensitivity. Raises PlanError for others.
    """
    every = list(tables.values())
    if not every or any((t.bits, t.levels) != (every[0].bits, every[0].levels) for t in every):
        raise PlanError("tables of one budget must have the same bits and levels")
    return replace(
        every[0],
        clusters=tuple(_renamed(role, c) for role, table in tables.items() for c in table.clusters),
        omega=np.concatenate([t.omega for t in every]),
        weights=np.concatenate([t.weights for t in every]),
        bytes=np.concatenate([t.bytes for t in every]),
        fixed_bytes=sum(t.fixed_bytes for t in every),
        join_bytes=min(t.join_bytes for t in every),
        parameters=sum(t.parameters for t in every),
        details={},
    )


def split_plan(plan: BitPlan, roles: Sequence[str]) -> dict[str, BitPlan]:
    """The plan of each role, from one over all of them."""
    return {
        role: BitPlan(
            {
                name.removeprefix(role + _ROLE): bands
                for name, bands in plan.weights.items()
                if name.startswith(role + _ROLE)
            }
        )
        for role in roles
    }


def errors_of_plans(scorers: Mapping[str, ListScorer], lists: FusedLists, plans: Mapping[str, BitPlan]) -> ListErrors:
    """Word errors over the lists with each model rounded by its plan, all at once; a role without a plan stays float.

    Weights, and what the file stores as float16, are those of the packed file; activations are float32.
    """
    scores = {}
    for role, plan in plans.items():
        scorer = scorers[role]
        with restored(scorer.model), evaluating(scorer.model):
            compress(scorer.model, plan, PTQ()).finish()
            scores[scorer.name] = scorer.scores()
    return ListErrors(lists.expected_errors(scores), lists.errors_of_best(scores))


def bytes_of_plan(scorer: ListScorer, plan: BitPlan) -> int:
    """Bytes of the model's file by this plan, without its tokenizer."""
    return model_bytes(scorer.model, plan, scorer.fields, tokenizer_bytes=scorer.tokenizer_bytes)


def _measured(
    scorer: ListScorer, lists: FusedLists, table: SensitivityTable, told: Callable[[int], None]
) -> tuple[Floats, Floats]:
    """Expected errors with each cluster at each width, all else float, and how far they diverge, both (C, B)."""
    weights = Weights(scorer.model)
    content = [[x.values, x.errors] for x in lists.features]
    options = {**lists.weights.factors, "word penalty": lists.weights.word_penalty, "of": scorer.name}
    memory = search_cache(scorer.cache, scorer.model, content, "joint-lists", options, table.clusters, table.levels)

    def find(cluster: Cluster, width: int) -> list[float]:
        values = rounded(weights, cluster, width, table.levels)
        with in_place(weights, cluster.parts, values):
            scores = scorer.scores()
        if not np.isfinite(scores).all():
            raise ConfigError(f"{cluster.name} at {width} bits: expected finite scores of every entry, found others")
        own = {scorer.name: scores}
        return [lists.expected_errors(own), lists.divergence(own)]

    found = np.zeros((*table.omega.shape, 2))
    with evaluating(scorer.model):
        for k, (i, j) in enumerate(np.ndindex(table.omega.shape)):
            cluster, width = table.clusters[i], table.bits[j]
            found[i, j] = memory.get(f"{cluster.name} at {width}", partial(find, cluster, width))
            told(k + 1)
    return found[..., 0], found[..., 1]


def _told(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _renamed(role: str, cluster: Cluster) -> Cluster:
    parts = tuple(replace(part, weight=f"{role}{_ROLE}{part.weight}") for part in cluster.parts)
    return Cluster(f"{role}{_ROLE}{cluster.name}", parts)
