"""n-best lists that several models score together, and the word errors that they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.decoding.nbest_lists import NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import DataError
from sottovoce.evaluation.line_search import Features, Floats, Integers
from sottovoce.evaluation.weight_search import WORD_PENALTY, expected_errors, features_of


@dataclass(frozen=True, eq=False)
class FusedLists:
    """Lists of M entries in all, whose scores are added up by ``weights``. ``features``: of each list (K, F), a column
    for each factor of the weights, then the words; ``words``: in the references together."""

    features: tuple[Features, ...]
    weights: ScoreWeights
    words: int

    @classmethod
    def of(cls, lists: Sequence[NBestList], references: Mapping[str, str], weights: ScoreWeights) -> FusedLists:
        """Raises DataError for a list without its reference or without a score that has a factor."""
        features, words = features_of(lists, references, [*weights.factors, WORD_PENALTY])
        return cls(tuple(features), weights, words)

    def expected_errors(self, scores: Mapping[str, Floats] | None = None) -> float:
        """Word errors when the entry of each list is drawn by the softmax of its score: the sum over lists of posterior
        times errors (Och 2003, equation 7), which is smooth in the models' weights where the errors of the best are
        steps.

        ``scores``: in the place of what the lists have, by name, float64 (M,), one list after another. Raises DataError
        for a name without a factor, or another number of entries.
        """
        pairs = zip(self._totals(scores or {}), self.features, strict=True)
        return sum(expected_errors(total, item.errors) for total, item in pairs)

    def errors_of_best(self, scores: Mapping[str, Floats] | None = None) -> int:
        """Word errors of the best entry of each list."""
        pairs = zip(self._totals(scores or {}), self.features, strict=True)
        return sum(int(item.errors[np.argmax(total)]) for total, item in pairs)

    def divergence(self, scores: Mapping[str, Floats]) -> float:
        """KL divergence in nats, summed over lists, from how many word errors an entry has that is drawn as in
        ``expected_errors`` to how many it has by ``scores`` in the place of the lists' own.

        It is the posterior's, with entries of as many errors taken together: what moves between them costs nothing.
        Where the expected errors may seem to fall by chance, this grows with any change, and for small changes that
        have nothing to do with one another by the sum of what each does alone. Raises as ``expected_errors`` does.
        """
        lists = zip(self._totals({}), self._totals(scores), self.features, strict=True)
        return sum(_divergence(*(_log_shares(t, item.errors) for t in (own, other))) for own, other, item in lists)

    def _totals(self, scores: Mapping[str, Floats]) -> list[Floats]:
        """Weighted scores (K,) of each list."""
        names = list(self.weights.factors)
        values = np.concatenate([item.values for item in self.features])
        for name, column in scores.items():
            if name not in names or column.shape != (len(values),):
                raise DataError(
                    f"scores: expected {', '.join(names)} of {len(values)} entries, found {name!r} of {column.shape}"
                )
            values[:, names.index(name)] = column
        totals = values @ np.array([*self.weights.factors.values(), self.weights.word_penalty])
        return np.split(totals, np.cumsum([len(item.errors) for item in self.features])[:-1])


def _log_shares(total: Floats, errors: Integers) -> Floats:
    """Log-probability of each number of errors that occurs among a list's entries, fewest first."""
    order = np.argsort(errors, kind="stable")
    starts = np.flatnonzero(np.diff(errors[order], prepend=-1))
    shares: Floats = np.logaddexp.reduceat(total[order], starts)
    log_shares: Floats = shares - np.logaddexp.reduce(shares)
    return log_shares


def _divergence(log_p: Floats, log_q: Floats) -> float:
    return max(0.0, float(np.exp(log_p) @ (log_p - log_q)))
