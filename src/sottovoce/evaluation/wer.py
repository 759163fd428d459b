"""Word error rate, with its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import kaldialign

from sottovoce.errors import DataError

_NO_WORD = " "  # a word never contains a space


@dataclass(frozen=True)
class WordErrors:
    """Counts against ``words`` reference words; they add up over utterances."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    words: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions

    @property
    def wer(self) -> float:
        """Errors in percent of the reference words; 0 without words and errors, infinite for errors without words."""
        if self.words == 0:
            return float("inf") if self.errors else 0.0
        return 100.0 * self.errors / self.words

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.words + other.words,
        )


@dataclass(frozen=True)
class ScoredUtterance:
    """One utterance's identifier and its counts."""

    id: str
    errors: WordErrors


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Pairs (reference word, hypothesis word) of an alignment with the fewest errors, each error costing one.

    None on the left is an insertion, None on the right a deletion. Words hold no whitespace.
    """
    pairs = kaldialign.align(list(reference), list(hypothesis), _NO_WORD)
    return [(None if left == _NO_WORD else left, None if right == _NO_WORD else right) for left, right in pairs]


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> WordErrors:
    """The counts of ``align``."""
    pairs = align(reference, hypothesis)
    insertions = sum(left is None for left, _ in pairs)
    deletions = sum(right is None for _, right in pairs)
    differing = sum(left != right for left, right in pairs)
    return WordErrors(differing - insertions - deletions, insertions, deletions, len(reference))


def score(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    *,
    missing: Literal["error", "deletions"] = "error",
) -> list[ScoredUtterance]:
    """Score each reference text, in the references' order; words are what whitespace separates.

    A missing hypothesis is an error, or counts as deletions if so asked. Raises DataError naming the utterance, for a
    hypothesis without its reference too.
    """
    unknown = next((id for id in hypotheses if id not in references), None)
    if unknown is not None:
        raise DataError(f"hypothesis {unknown!r}: there is no reference of that name")
    absent = next((id for id in references if id not in hypotheses), None)
    if missing == "error" and absent is not None:
        raise DataError(f"reference {absent!r}: there is no hypothesis of that name")
    return [
        ScoredUtterance(id, count_errors(text.split(), hypotheses.get(id, "").split()))
        for id, text in references.items()
    ]


def total(scored: Iterable[ScoredUtterance]) -> WordErrors:
    """The counts of all utterances together."""
    return sum((utterance.errors for utterance in scored), WordErrors())
