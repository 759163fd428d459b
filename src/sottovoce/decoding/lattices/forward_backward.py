"""Sums and maxima over the paths of a lattice, and what they allow to leave out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sottovoce.decoding.lattices.lattice import Lattice
from sottovoce.decoding.scores import Scores, ScoreWeights
from sottovoce.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Posteriors:
    """``forward``, ``backward``: float64 (N,), log of the sum over the paths to each node and from it.

    ``links``: float64 (L,), log-posterior of each link; ``total``: log of the sum over all paths.
    """

    forward: Scores
    backward: Scores
    links: Scores
    total: float


def posteriors(lattice: Lattice, weights: ScoreWeights | None = None, scale: float = 1.0) -> Posteriors:
    """Forward-backward over link scores times ``scale``, by which posteriors are flattened (0 to 1) or sharpened.

    Raises ConfigError for a scale that is not above 0.
    """
    if not 0 < scale < np.inf:
        raise ConfigError(f"scale: expected a number above 0, found {scale}")
    totals = scale * lattice.totals(weights)
    forward = forward_scores(lattice, totals, "sum")
    backward = backward_scores(lattice, totals, "sum")
    total = float(forward[-1])
    links = np.minimum(forward[lattice.starts] + totals + backward[lattice.ends] - total, 0.0)
    return Posteriors(forward, backward, links, total)


def forward_scores(lattice: Lattice, totals: Scores, over: Literal["sum", "best"]) -> Scores:
    """Log of the sum, or the best, over paths from the first node to each, float64 (N,); link scores are (L,)."""
    order, bounds = lattice.incoming
    return _accumulated(totals[order], lattice.starts[order], bounds, range(1, lattice.nodes), over, first=0)


def backward_scores(lattice: Lattice, totals: Scores, over: Literal["sum", "best"]) -> Scores:
    """The same from each node to the last one."""
    down = range(lattice.nodes - 2, -1, -1)
    return _accumulated(totals, lattice.ends, lattice.outgoing, down, over, first=lattice.final)


def _accumulated(
    totals: Scores, others: np.ndarray, bounds: np.ndarray, nodes: range, over: Literal["sum", "best"], first: int
) -> Scores:
    found = np.zeros(len(bounds) - 1)
    combine = np.logaddexp.reduce if over == "sum" else np.maximum.reduce
    edges = bounds.tolist()
    found[first] = 0.0
    for node in nodes:
        span = slice(edges[node], edges[node + 1])
        found[node] = combine(found[others[span]] + totals[span])
    return found


def prune(lattice: Lattice, beam: float, weights: ScoreWeights | None = None, scale: float = 1.0) -> Lattice:
    """Leave out links whose log-posterior lies more than ``beam`` (nats) under 0; the best path always stays.

    Raises ConfigError for a beam below 0.
    """
    if not beam >= 0:
        raise ConfigError(f"beam: expected a number of at least 0, found {beam}")
    found = posteriors(lattice, weights, scale)
    kept = found.links >= -beam
    kept[best_links(lattice, weights)] = True
    return lattice.keeping(kept)


def best_links(lattice: Lattice, weights: ScoreWeights | None = None) -> list[int]:
    """Links of the best path, in order; ties go to the lowest link."""
    totals = lattice.totals(weights)
    after = backward_scores(lattice, totals, "best")
    edges, node, path = lattice.outgoing.tolist(), 0, list[int]()
    while node != lattice.final:
        span = slice(edges[node], edges[node + 1])
        path.append(edges[node] + int(np.argmax(totals[span] + after[lattice.ends[span]])))
        node = int(lattice.ends[path[-1]])
    return path
