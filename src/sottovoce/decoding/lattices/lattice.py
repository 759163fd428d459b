"""A word lattice as arrays."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.scores import Scores, ScoreWeights
from sottovoce.errors import DataError

Integers = NDArray[np.int64]

NO_WORD = ""
SILENT = frozenset({NO_WORD, "!NULL", "<eps>", "<s>", "</s>", "!SENT_START", "!SENT_END", "#0"})
"""What a lattice may have in the place of a word and that nobody says."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A directed acyclic graph with words on its L links; N nodes, numbered so that every link goes upwards.

    Paths lead from node 0 to node N - 1, and every node and link is on one. ``times``: float64 (N,), seconds, NaN where
    unknown. ``starts``, ``ends``: int64 (L,), sorted by start. ``words``: the different words, of which the first is ""
    (no word); ``labels``: int64 (L,), indexes into them. ``scores``: named natural log-probabilities, float64 (L,)
    each, and ``weights`` how the file would have them added up. ``notes``: further named texts of each link, which are
    carried along ("variant", "segmentation", "tag").
    """

    utterance: str
    times: Scores
    starts: Integers
    ends: Integers
    words: tuple[str, ...]
    labels: Integers
    scores: Mapping[str, Scores]
    weights: ScoreWeights = field(default_factory=ScoreWeights)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        return len(self.times)

    @property
    def links(self) -> int:
        return len(self.starts)

    @property
    def final(self) -> int:
        """The node where every path ends."""
        return len(self.times) - 1

    @property
    def spoken(self) -> Integers:
        """1 for each link that has a word, int64 (L,)."""
        return np.where(self.labels != 0, 1, 0)

    def totals(self, weights: ScoreWeights | None = None) -> Scores:
        """The weighted score of each link, float64 (L,), by the lattice's own weights unless others are given."""
        return (weights or self.weights).combine(self.scores, self.spoken)

    def word(self, link: int) -> str:
        return self.words[int(self.labels[link])]

    @cached_property
    def outgoing(self) -> Integers:
        """Links of node n are ``outgoing[n]`` up to ``outgoing[n + 1]``, int64 (N + 1,)."""
        return np.searchsorted(self.starts, np.arange(self.nodes + 1))

    @cached_property
    def incoming(self) -> tuple[Integers, Integers]:
        """Links by end, int64 (L,), and where those of each node begin among them, int64 (N + 1,)."""
        order = np.argsort(self.ends, kind="stable")
        return order, np.searchsorted(self.ends[order], np.arange(self.nodes + 1))

    def keeping(self, kept: NDArray[np.bool_]) -> Lattice:
        """The lattice of those links (L,) that are still on a path. Raises DataError if none is left."""
        chosen = np.flatnonzero(kept)
        return _connected(_links_of(self, chosen), 0, self.final, lambda link: self.utterance)

    def with_scores(self, **scores: Scores) -> Lattice:
        """The same lattice with other or further scores."""
        return replace(self, scores={**self.scores, **scores})


def make_lattice(
    utterance: str,
    times: Sequence[float],
    starts: Sequence[int],
    ends: Sequence[int],
    words: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    *,
    initial: int | None = None,
    finals: Mapping[int, Mapping[str, float]] | None = None,
    weights: ScoreWeights | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
    where: Callable[[int | None], str] | None = None,
) -> Lattice:
    """A lattice from links in any order; nodes and links on no path are left out.

    ``initial`` and ``finals`` (node to the scores of ending there) are the nodes without a predecessor and without a
    successor where they are not given. Words of ``SILENT`` become "". ``where(link)`` names a link in messages, or the
    whole lattice for None. Raises DataError for no links, cycles, no path, several initial nodes, a score that is not
    finite and a word with white space.
    """
    name = where or (lambda link: utterance)
    if not len(starts):
        raise DataError(f"{name(None)}: expected a lattice with links, found none")
    texts = {key: tuple(values) for key, values in (notes or {}).items() if any(values)}
    columns = {key: np.asarray(values, np.float64) for key, values in scores.items()}
    _check_scores(columns, name)
    table, labels = _word_table(words, name)
    lattice = Lattice(
        utterance=utterance,
        times=np.asarray(times, np.float64),
        starts=np.asarray(starts, np.int64),
        ends=np.asarray(ends, np.int64),
        words=table,
        labels=labels,
        scores=columns,
        weights=weights if weights is not None else ScoreWeights(dict.fromkeys(columns, 1.0)),
        notes=texts,
    )
    return _joined(lattice, initial, finals, name)


def _check_scores(columns: Mapping[str, Scores], where: Callable[[int | None], str]) -> None:
    for key, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DataError(f"{where(int(bad[0]))}: expected a finite {key} score, found {values[bad[0]]}")


def _word_table(words: Sequence[str], where: Callable[[int | None], str]) -> tuple[tuple[str, ...], Integers]:
    ids: dict[str, int] = {NO_WORD: 0}
    labels = np.zeros(len(words), np.int64)
    for link, word in enumerate(words):
        if word in SILENT:
            continue
        known = ids.get(word)
        if known is None:
            if len(word.split()) != 1 or word != word.strip():
                raise DataError(f"{where(link)}: expected a word without white space, found {word!r}")
            known = ids[word] = len(ids)
        labels[link] = known
    return tuple(ids), labels


def _joined(
    lattice: Lattice,
    initial: int | None,
    finals: Mapping[int, Mapping[str, float]] | None,
    where: Callable[[int | None], str],
) -> Lattice:
    """One initial and one final node, then what is on a path between them."""
    if initial is None:
        sources = np.setdiff1d(lattice.starts, lattice.ends)
        if not len(sources):
            _topological_order(lattice.starts.tolist(), lattice.ends.tolist(), lattice.nodes, where)  # names the cycle
        if len(sources) != 1:
            found = f"{len(sources)}: {_few(sources)}"
            raise DataError(f"{where(None)}: expected one node without predecessors, found {found}")
        initial = int(sources[0])
    if finals is None:
        finals = {int(node): {} for node in np.setdiff1d(lattice.ends, lattice.starts)}
    ends = list(finals)
    if len(ends) == 1 and not any(finals[ends[0]].values()) and not np.any(lattice.starts == ends[0]):
        return _connected(lattice, initial, ends[0], where)
    return _connected(_with_final_node(lattice, finals), initial, lattice.nodes, where)


def _with_final_node(lattice: Lattice, finals: Mapping[int, Mapping[str, float]]) -> Lattice:
    """A new last node, which every final node reaches by a link without a word."""
    nodes = np.array(list(finals), np.int64)
    bad = [value for scores in finals.values() for value in scores.values() if not np.isfinite(value)]
    if bad:
        raise DataError(f"{lattice.utterance}: expected finite final scores, found {bad[0]}")
    names = [*lattice.scores, *{key for scores in finals.values() for key in scores} - set(lattice.scores)]
    before = np.zeros(lattice.links)
    scores = {
        key: np.concatenate([lattice.scores.get(key, before), [finals[int(n)].get(key, 0.0) for n in nodes]])
        for key in names
    }
    last = np.nan if not len(nodes) or np.isnan(lattice.times[nodes]).all() else np.nanmax(lattice.times[nodes])
    return replace(
        lattice,
        times=np.append(lattice.times, last),
        starts=np.concatenate([lattice.starts, nodes]),
        ends=np.concatenate([lattice.ends, np.full(len(nodes), lattice.nodes)]),
        labels=np.concatenate([lattice.labels, np.zeros(len(nodes), np.int64)]),
        scores=scores,
        notes={key: values + ("",) * len(nodes) for key, values in lattice.notes.items()},
    )


def _connected(lattice: Lattice, initial: int, final: int, where: Callable[[int | None], str]) -> Lattice:
    """The nodes and links on paths from initial to final, in topological order; a good order stays as it is."""
    starts, ends = lattice.starts.tolist(), lattice.ends.tolist()
    order = _topological_order(starts, ends, lattice.nodes, where)
    alive = _reached(initial, starts, ends, order) & _reached(final, ends, starts, order[::-1])
    if not (alive[initial] and alive[final]) or initial == final:
        raise DataError(f"{where(None)}: expected a path from the first node to the last, found none")
    numbers = np.full(lattice.nodes, -1, np.int64)
    nodes = [node for node in order if alive[node]]
    numbers[nodes] = np.arange(len(nodes))
    kept = np.flatnonzero(alive[lattice.starts] & alive[lattice.ends])
    kept = kept[np.argsort(numbers[lattice.starts[kept]], kind="stable")]
    chosen = _links_of(lattice, kept)
    return replace(chosen, times=lattice.times[nodes], starts=numbers[chosen.starts], ends=numbers[chosen.ends])


def _links_of(lattice: Lattice, links: Integers) -> Lattice:
    return replace(
        lattice,
        starts=lattice.starts[links],
        ends=lattice.ends[links],
        labels=lattice.labels[links],
        scores={key: values[links] for key, values in lattice.scores.items()},
        notes={key: tuple(values[i] for i in links.tolist()) for key, values in lattice.notes.items()},
    )


def _topological_order(
    starts: Sequence[int], ends: Sequence[int], nodes: int, where: Callable[[int | None], str]
) -> list[int]:
    """Kahn's algorithm, the lowest number first. Raises DataError naming a link of a cycle."""
    if all(start < end for start, end in zip(starts, ends, strict=True)):
        return list(range(nodes))
    waiting, followers = [0] * nodes, defaultdict(list)
    for start, end in zip(starts, ends, strict=True):
        waiting[end] += 1
        followers[start].append(end)
    ready = [node for node in range(nodes) if not waiting[node]]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for end in followers[order[-1]]:
            waiting[end] -= 1
            if not waiting[end]:
                heapq.heappush(ready, end)
    if len(order) < nodes:
        link = _link_of_a_cycle(starts, ends, set(range(nodes)) - set(order))
        raise DataError(
            f"{where(link)}: expected no cycle, found one that the link from node {starts[link]} to node {ends[link]} "
            f"closes"
        )
    return order


def _link_of_a_cycle(starts: Sequence[int], ends: Sequence[int], left: set[int]) -> int:
    """A link of a cycle among the nodes that the sort left: each of them has a predecessor there."""
    into = {e: i for i, (s, e) in enumerate(zip(starts, ends, strict=True)) if s in left and e in left}
    node, seen = next(iter(into)), set()
    while node not in seen:
        seen.add(node)
        node = starts[into[node]]
    return into[node]


def _reached(node: int, starts: Sequence[int], ends: Sequence[int], order: Iterable[int]) -> NDArray[np.bool_]:
    """Which nodes can be reached from ``node``, (N,)."""
    followers: dict[int, list[int]] = defaultdict(list)
    for start, end in zip(starts, ends, strict=True):
        followers[start].append(end)
    order = list(order)
    found = [False] * len(order)
    found[node] = True
    for at in order:
        if found[at]:
            for end in followers[at]:
                found[end] = True
    return np.array(found)


def _few(values: Integers) -> str:
    return ", ".join(map(str, values[:3].tolist())) + (", ..." if len(values) > 3 else "")
