"""McNemar's test on sentences: do two systems get as many of them wholly right?

Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989, section 2;
the exact binomial form, two-tailed, as in NIST's scoring toolkit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sottovoce.errors import DataError


@dataclass(frozen=True)
class McNemar:
    """Sentences with errors in one system only; ``p`` is two-tailed."""

    first_only: int
    second_only: int
    p: float


def mcnemar_test(references: Mapping[str, str], first: Mapping[str, str], second: Mapping[str, str]) -> McNemar:
    """Test whether two systems' hypotheses differ in sentences without errors; all three map utterance to text.

    Raises DataError naming an utterance that a system lacks.
    """
    counts = [0, 0]
    for id, text in references.items():
        if id not in first or id not in second:
            raise DataError(f"reference {id!r}: there is no hypothesis of that name")
        words = text.split()
        wrong = first[id].split() != words, second[id].split() != words
        if wrong[0] != wrong[1]:
            counts[wrong[1]] += 1
    return McNemar(counts[0], counts[1], sign_test(*counts))


def sign_test(left: int, right: int) -> float:
    """Two-tailed p of so many fair coins falling so unevenly or more so; 1 where they fall evenly."""
    count = left + right
    tail = sum(math.comb(count, k) for k in range(min(left, right) + 1))
    p: float = 2 * tail / 2**count
    return min(1.0, p)
