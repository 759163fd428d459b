"""Random small lattices, and what is found in them by looking at every path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import strategies as st

from sottovoce.decoding.lattices import Lattice, make_lattice
from sottovoce.decoding.scores import ScoreWeights

WORDS = ["", "a", "b", "c"]
scores = st.integers(-16, 8).map(lambda n: n / 4)


@st.composite
def lattices(draw: st.DrawFn, max_nodes: int = 5, words: Sequence[str] = WORDS) -> Lattice:
    """2 to max_nodes nodes, up to 10 links, parallel ones too; a chain keeps a path from the first to the last."""
    nodes = draw(st.integers(2, max_nodes))
    pair = st.integers(0, nodes - 2).flatmap(lambda s: st.tuples(st.just(s), st.integers(s + 1, nodes - 1)))
    links = [(i, i + 1) for i in range(nodes - 1)] + draw(st.lists(pair, max_size=10 - nodes))
    count = len(links)

    def column() -> list[float]:
        return draw(st.lists(scores, min_size=count, max_size=count))

    return make_lattice(
        "u1",
        [0.5 * i for i in range(nodes)],
        [start for start, _ in links],
        [end for _, end in links],
        draw(st.lists(st.sampled_from(list(words)), min_size=count, max_size=count)),
        {"acoustic": column(), "lm": column()},
        weights=ScoreWeights({"acoustic": 1.0, "lm": draw(st.sampled_from([0.5, 2.0]))}, draw(scores)),
    )


def all_paths(lattice: Lattice) -> Iterator[list[int]]:
    """Every path as links, by depth-first search."""

    def after(node: int) -> Iterator[list[int]]:
        if node == lattice.final:
            yield []
        for link in np.flatnonzero(lattice.starts == node).tolist():
            for rest in after(int(lattice.ends[link])):
                yield [link, *rest]

    return after(0)


def words_of(lattice: Lattice, links: Sequence[int]) -> tuple[str, ...]:
    return tuple(lattice.word(link) for link in links if lattice.word(link))


def best_by_words(lattice: Lattice, weights: ScoreWeights | None = None) -> dict[tuple[str, ...], float]:
    """Best score of each word sequence."""
    totals = lattice.totals(weights)
    found: dict[tuple[str, ...], float] = {}
    for links in all_paths(lattice):
        words = words_of(lattice, links)
        found[words] = max(found.get(words, -math.inf), math.fsum(totals[links]))
    return found


def same_lattice(left: Lattice, right: Lattice) -> bool:
    """Equal in every number and text; the table of words may hold others."""
    return (
        left.utterance == right.utterance
        and np.array_equal(left.times, right.times, equal_nan=True)
        and np.array_equal(left.starts, right.starts)
        and np.array_equal(left.ends, right.ends)
        and [left.word(i) for i in range(left.links)] == [right.word(i) for i in range(right.links)]
        and set(left.scores) == set(right.scores)
        and all(np.array_equal(left.scores[name], right.scores[name]) for name in left.scores)
        and left.weights == right.weights
        and left.notes == right.notes
    )
