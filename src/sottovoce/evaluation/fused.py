"""n-best lists that several models score together, and the word errors that they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.decoding.nbest_lists import NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import DataError
from sottovoce.evaluation.line_search import Features, Floats
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
