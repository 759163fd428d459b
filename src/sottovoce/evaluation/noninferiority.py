"""The verdict of docs/design.md section 10: a claim of "no loss" is a claim of non-inferiority."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import RelativeDifference

CONFIDENCE = 0.95
POWER = 0.80
PERPLEXITY_MARGIN = 0.01
Kind = Literal["non-inferior", "inferior", "worse", "not resolved"]


@dataclass(frozen=True)
class Verdict:
    """All but ``kind`` are fractions of the control's errors (0.02 is 2 %); ``lower`` and ``upper`` are one-sided 95 %.

    ``smallest_detectable`` is the true increase that the test would have found with a power of 80 %.
    """

    kind: Kind
    relative_difference: float
    lower: float
    upper: float
    margin: float
    smallest_detectable: float

    @property
    def words(self) -> str:
        """The kind, and where the margin lies within the bounds the smallest increase that could have been seen."""
        sees = 100 * self.smallest_detectable
        if self.kind in ("non-inferior", "inferior") or not math.isfinite(sees):
            return self.kind
        return f"{self.kind} (sees {sees:.0f} %)" if sees >= 10 else f"{self.kind} (sees {sees:.2g} %)"


def wer_margin(bits: float) -> float:
    """The margin for a WER at so many bits a weight: 2 % at 4 and more, 3 % from 3 to below 4, 5 % below 3."""
    if bits >= 4:
        return 0.02
    return 0.03 if bits >= 3 else 0.05


def verdict(difference: RelativeDifference, margin: float) -> Verdict:
    """Judge a paired relative difference (``relative_wer_difference``) against a margin (``wer_margin``).

    "non-inferior": the one-sided 95 % upper bound lies under the margin. "inferior": the lower bound lies above it.
    Between the two the data are too few to tell: "worse" where the lower bound lies above 0, so that a loss is certain
    but not that it is more than the margin, else "not resolved". A loss that is significant and surely under the
    margin is non-inferior.
    """
    lower, upper = difference.lower(CONFIDENCE), difference.upper(CONFIDENCE)
    if upper < margin:
        kind: Kind = "non-inferior"
    elif lower > margin:
        kind = "inferior"
    else:
        kind = "worse" if lower > 0 else "not resolved"
    return Verdict(kind, difference.estimate, lower, upper, margin, smallest_detectable(difference.standard_error))


def smallest_detectable(standard_error: float) -> float:
    """The difference that a one-sided 5 % test finds four times in five, in the unit of its standard error."""
    normal = NormalDist()
    return (normal.inv_cdf(CONFIDENCE) + normal.inv_cdf(POWER)) * standard_error


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's step-down correction: adjusted p-values in the given order, float64 (M,).

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    Raises DataError for a p-value outside [0, 1].
    """
    values = np.asarray(p_values, np.float64).reshape(-1)
    if not np.all((values >= 0) & (values <= 1)):
        raise DataError(f"p-values: expected numbers in [0, 1], found {values.tolist()[:8]}")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted
