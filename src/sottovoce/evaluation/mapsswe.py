"""The matched-pairs sentence-segment word error test.

Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989, section 3;
segments and the variance's divisor n - 1 as in NIST's scoring toolkit (Pallett, Fisher and Fiscus, ICASSP 1990).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from sottovoce.errors import DataError
from sottovoce.evaluation.wer import align

BOUNDARY = 2  # words correct in both systems that separate two segments


@dataclass(frozen=True)
class Mapsswe:
    """``mean_difference`` is errors a segment of the first system less the second; ``p`` is two-tailed."""

    segments: int
    mean_difference: float
    z: float
    p: float


def mapsswe(references: Mapping[str, str], first: Mapping[str, str], second: Mapping[str, str]) -> Mapsswe:
    """Test whether two systems' hypotheses differ in word errors; all three map utterance to text.

    Raises DataError naming an utterance that a system lacks.
    """
    differences: list[int] = []
    for id, text in references.items():
        if id not in first or id not in second:
            raise DataError(f"reference {id!r}: there is no hypothesis of that name")
        pairs = segment_errors(text.split(), first[id].split(), second[id].split())
        differences += [left - right for left, right in pairs]
    return matched_pairs(differences)


def segment_errors(
    reference: Sequence[str], first: Sequence[str], second: Sequence[str], boundary: int = BOUNDARY
) -> list[tuple[int, int]]:
    """Errors of both systems in each segment of one utterance that has any.

    A segment runs from an error of either system to where ``boundary`` successive reference words are correct in both
    with nothing inserted between them, or to the utterance's end.
    """
    places = list(zip(_place_errors(reference, first), _place_errors(reference, second), strict=True))
    segments: list[tuple[int, int]] = []
    left = right = correct = 0
    for place, (error_left, error_right) in enumerate(places):
        if error_left or error_right:
            left, right, correct = left + error_left, right + error_right, 0
            continue
        correct += place % 2
        if correct >= boundary and (left or right):
            segments.append((left, right))
            left = right = 0
    return [*segments, (left, right)] if left or right else segments


def matched_pairs(differences: Sequence[float]) -> Mapsswe:
    """Z = mean / (standard deviation / sqrt(n)) and its two-tailed p, from one difference for each segment.

    Where all differences are equal and not zero there is no Z; the exact sign test gives p then, and Z is the normal
    quantile of that p.
    """
    count = len(differences)
    if not any(differences):
        return Mapsswe(count, 0.0, 0.0, 1.0)
    mean = fmean(differences)
    deviation = stdev(differences) if count > 1 else 0.0
    if deviation > 0:
        z = mean / (deviation / math.sqrt(count))
        return Mapsswe(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))
    p = max(2.0 * 0.5**count, 1e-300)
    return Mapsswe(count, mean, math.copysign(-NormalDist().inv_cdf(p / 2), mean), p)


def _place_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int]:
    """Errors at 2 L + 1 places: insertions before, between and after the L words at even places, words at odd ones."""
    errors = [0] * (2 * len(reference) + 1)
    place = 0
    for word, heard in align(reference, hypothesis):
        if word is None:
            errors[place] += 1
        else:
            errors[place + 1] = int(word != heard)
            place += 2
    return errors
