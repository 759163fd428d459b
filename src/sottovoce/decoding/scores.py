"""Log-linear scores: named log-probabilities, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import ConfigError, DataError

Scores = NDArray[np.float64]

ACOUSTIC, LM, NGRAM, PRONUNCIATION = "acoustic", "lm", "ngram", "pronunciation"


@dataclass(frozen=True)
class ScoreWeights:
    """``factors`` of the named log-probabilities, and ``word_penalty`` in nats, added for each word: below 0, for fewer
    words.

    A score without a factor does not count. Raises ConfigError for a number that is not finite.
    """

    factors: Mapping[str, float] = field(default_factory=lambda: {ACOUSTIC: 1.0, LM: 1.0})
    word_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name, value in {**self.factors, "word_penalty": self.word_penalty}.items():
            if not math.isfinite(value):
                raise ConfigError(f"weights: expected a finite number for {name}, found {value}")

    def combine(self, scores: Mapping[str, Scores], words: NDArray[np.int64]) -> Scores:
        """Weighted sum (M,) of ``scores``, (M,) each, and the penalty of ``words`` (M,), the number of words in each.

        Raises DataError naming a score that has a factor and is not there.
        """
        total = self.word_penalty * words.astype(np.float64)
        for name, factor in self.factors.items():
            if factor == 0:
                continue
            if name not in scores:
                raise DataError(f"score {name!r}: expected among {', '.join(scores) or 'none'}, found no such score")
            total += factor * scores[name]
        return total

    def replacing(self, **factors: float) -> ScoreWeights:
        """The same weights with other or further factors."""
        return ScoreWeights({**self.factors, **factors}, self.word_penalty)
