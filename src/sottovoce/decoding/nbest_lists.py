"""n-best lists of words with named scores: what a second pass reads, rescores and reorders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sottovoce.decoding.lattices.lattice import Lattice
from sottovoce.decoding.lattices.paths import nbest_paths, path_scores
from sottovoce.decoding.scores import Scores, ScoreWeights
from sottovoce.errors import DataError


@dataclass(frozen=True)
class NBestEntry:
    """One word sequence with its natural log-probabilities by name, unweighted ("acoustic", "lm", ...)."""

    words: tuple[str, ...]
    scores: Mapping[str, float]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class NBestList:
    """The entries of one utterance, best first as they came, all with the same scores; and what else is known of it.

    Raises DataError for a list without entries, or entries with other scores than the first.
    """

    id: str
    entries: tuple[NBestEntry, ...]
    speaker: str | None = None
    recording: str | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        if not self.entries:
            raise DataError(f"{self.id}: expected an n-best list with entries, found none")
        names = set(self.entries[0].scores)
        for rank, entry in enumerate(self.entries, start=1):
            if set(entry.scores) != names:
                raise DataError(
                    f"{self.id}: expected the scores {', '.join(sorted(names)) or 'none'} in entry {rank}, found "
                    f"{', '.join(sorted(entry.scores)) or 'none'}"
                )

    @property
    def best(self) -> NBestEntry:
        return self.entries[0]

    def columns(self) -> dict[str, Scores]:
        """Each named score of all entries, float64 (K,)."""
        return {name: np.array([entry.scores[name] for entry in self.entries]) for name in self.entries[0].scores}

    def lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Number of words of each entry, int64 (K,)."""
        return np.array([len(entry.words) for entry in self.entries], np.int64)

    def totals(self, weights: ScoreWeights) -> Scores:
        """The weighted score of each entry, float64 (K,). Raises DataError for a weight whose score is not there."""
        try:
            return weights.combine(self.columns(), self.lengths())
        except DataError as error:
            raise DataError(f"{self.id}: {error}") from error

    def with_scores(self, name: str, values: Sequence[float] | Scores) -> NBestList:
        """The list with a further score, or another one of that name."""
        pairs = zip(self.entries, values, strict=True)
        return replace(
            self, entries=tuple(NBestEntry(entry.words, {**entry.scores, name: float(v)}) for entry, v in pairs)
        )

    def reordered(self, weights: ScoreWeights) -> NBestList:
        """Best first by these weights; ties stay in their order."""
        order = np.argsort(-self.totals(weights), kind="stable")
        return replace(self, entries=tuple(self.entries[i] for i in order.tolist()))


def nbest_list(lattice: Lattice, n: int, weights: ScoreWeights | None = None) -> NBestList:
    """The n best word sequences of a lattice, by its own weights unless others are given."""
    paths = nbest_paths(lattice, n, weights)
    return NBestList(lattice.utterance, tuple(NBestEntry(path.words, path_scores(lattice, path)) for path in paths))
