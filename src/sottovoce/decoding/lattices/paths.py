"""Paths of a lattice: the n best that differ in their words, and the one nearest to a reference."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sottovoce.decoding.lattices.forward_backward import backward_scores, best_links
from sottovoce.decoding.lattices.lattice import Integers, Lattice
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import ConfigError


class _Way(NamedTuple):
    """The last link of a path, and how its start was reached."""

    link: int
    before: _Way | None


_Reached = dict[int, tuple[float, _Way | None]]  # nodes, the best score there, and the way


@dataclass(frozen=True)
class LatticePath:
    """Links from the first node to the last, the words on them, and their weighted score (nats)."""

    links: tuple[int, ...]
    words: tuple[str, ...]
    score: float


def path_of(lattice: Lattice, links: Sequence[int], weights: ScoreWeights | None = None) -> LatticePath:
    """The path of these links."""
    words = tuple(lattice.word(link) for link in links if lattice.labels[link])
    return LatticePath(tuple(links), words, float(lattice.totals(weights)[list(links)].sum()))


def path_scores(lattice: Lattice, path: LatticePath) -> dict[str, float]:
    """Each named score of a path, unweighted."""
    return {name: float(values[list(path.links)].sum()) for name, values in lattice.scores.items()}


def best_path(lattice: Lattice, weights: ScoreWeights | None = None) -> LatticePath:
    """The path with the best weighted score."""
    return path_of(lattice, best_links(lattice, weights), weights)


def nbest_paths(lattice: Lattice, n: int, weights: ScoreWeights | None = None) -> list[LatticePath]:
    """The n best paths with different words, best first, exactly; of paths with equal words the best stands for all.

    A* over word sequences: a sequence knows every node that it can have reached and the best score there, so that it is
    looked at once however many ways there are to align it, and what is still to come is known exactly from a backward
    pass. So only beginnings of what is returned are ever extended. Raises ConfigError for n below 1.
    """
    if n < 1:
        raise ConfigError(f"n-best: expected at least 1, found {n}")
    return _NBestSearch(lattice, weights).run(n)


class _NBestSearch:
    def __init__(self, lattice: Lattice, weights: ScoreWeights | None) -> None:
        self.lattice, self.weights = lattice, weights
        totals = lattice.totals(weights)
        self.after = backward_scores(lattice, totals, "best").tolist()
        self.totals, self.labels, self.ends = totals.tolist(), lattice.labels.tolist(), lattice.ends.tolist()
        self.edges = lattice.outgoing.tolist()

    def run(self, n: int) -> list[LatticePath]:
        # Entries: best complete score (negated), order of arrival, nodes reached with score and way, or a finished way.
        queue: list[tuple[float, int, _Reached | None, _Way | None]] = [(-self.after[0], 0, {0: (0.0, None)}, None)]
        arrived, found = 1, list[LatticePath]()
        while queue and len(found) < n:
            _, _, reached, back = heapq.heappop(queue)
            if reached is None:
                found.append(path_of(self.lattice, _unrolled(back), self.weights))
                continue
            reached = self._through_silence(reached)
            if self.lattice.final in reached:
                score, back = reached[self.lattice.final]
                heapq.heappush(queue, (-score, arrived, None, back))
                arrived += 1
            for extended in self._extensions(reached).values():
                best = max(score + self.after[node] for node, (score, _) in extended.items())
                heapq.heappush(queue, (-best, arrived, extended, None))
                arrived += 1
        return found

    def _through_silence(self, reached: _Reached) -> _Reached:
        """Also what links without a word lead to; nodes in rising order, so that each is complete before it is left."""
        reached, waiting = dict(reached), list(reached)
        heapq.heapify(waiting)
        done = set[int]()
        while waiting:
            node = heapq.heappop(waiting)
            if node in done:
                continue
            done.add(node)
            score, back = reached[node]
            for link in range(self.edges[node], self.edges[node + 1]):
                if self.labels[link]:
                    continue
                end, total = self.ends[link], score + self.totals[link]
                if end not in reached or total > reached[end][0]:
                    reached[end] = (total, _Way(link, back))
                    heapq.heappush(waiting, end)
        return reached

    def _extensions(self, reached: _Reached) -> dict[int, _Reached]:
        """For each word that may follow, the nodes that it leads to."""
        found: dict[int, _Reached] = defaultdict(dict)
        for node in sorted(reached):
            score, back = reached[node]
            for link in range(self.edges[node], self.edges[node + 1]):
                if not self.labels[link]:
                    continue
                nodes, end, total = found[self.labels[link]], self.ends[link], score + self.totals[link]
                if end not in nodes or total > nodes[end][0]:
                    nodes[end] = (total, _Way(link, back))
        return found


def _unrolled(back: _Way | None) -> list[int]:
    links = []
    while back is not None:
        links.append(back.link)
        back = back.before
    return links[::-1]


def oracle_path(lattice: Lattice, reference: Sequence[str]) -> tuple[LatticePath, int]:
    """The path with the fewest word errors against ``reference``, and their number.

    Levenshtein's recurrence over nodes instead of places of a hypothesis: entry (n, j) is the fewest errors of a path
    from the first node to n against the first j words.
    """
    ids = {word: i for i, word in enumerate(lattice.words) if i}
    wanted = np.array([ids.get(word, -1) for word in reference], np.int64)
    errors = _error_table(lattice, wanted)
    return path_of(lattice, _traced(lattice, wanted, errors)), int(errors[-1, -1])


def _error_table(lattice: Lattice, wanted: Integers) -> Integers:
    """(N, R + 1) for R reference words."""
    order, bounds = lattice.incoming
    starts, labels = lattice.starts[order], lattice.labels[order]
    places = np.arange(len(wanted) + 1)
    errors = np.empty((lattice.nodes, len(wanted) + 1), np.int64)
    errors[0] = places
    for node in range(1, lattice.nodes):
        span = slice(bounds[node], bounds[node + 1])
        best = _after_links(errors[starts[span]], labels[span], wanted).min(axis=0)
        errors[node] = np.minimum.accumulate(best - places) + places  # deletions
    return errors


def _after_links(errors: Integers, labels: Integers, wanted: Integers) -> Integers:
    """Fewest errors (K, R + 1) behind K links, given those before them; words deleted there are not yet counted."""
    said = labels[:, None] != 0
    found: Integers = errors + said  # an insertion, or no word
    replaced = errors[:, :-1] + (labels[:, None] != wanted)
    found[:, 1:] = np.where(said, np.minimum(found[:, 1:], replaced), found[:, 1:])
    return found


def _traced(lattice: Lattice, wanted: Integers, errors: Integers) -> list[int]:
    order, bounds = lattice.incoming
    node, place, links = lattice.final, len(wanted), list[int]()
    while node:
        into = order[bounds[node] : bounds[node + 1]]
        before = errors[lattice.starts[into]]
        behind = _after_links(before, lattice.labels[into], wanted)[:, place]
        if behind.min() > errors[node, place]:
            place -= 1  # deleted
            continue
        k = int(behind.argmin())
        links.append(int(into[k]))
        label = lattice.labels[into[k]]
        if label and place and before[k, place - 1] + (label != wanted[place - 1]) == behind[k]:
            place -= 1
        node = int(lattice.starts[into[k]])
    return links[::-1]
