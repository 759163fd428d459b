"""The channel: phones in, noisy observations out, and how likely each phone made each observation.

A phone is lost with probability ``deletions``. Else it gives one observation, its point in the space of articulatory
features plus Gaussian noise of standard deviation ``noise`` in each dimension, and after it come k further ones that
belong to no phone, with probability (1 - insertions) insertions**k: each is as if a phone drawn evenly from all had
been said. A string-edit channel (Ristad and Yianilos 1998) whose symbols are points, so that confusions are graded and
follow how sounds are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sottovoce.data import options as check
from sottovoce.data.confusions.phones import features

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Channel:
    """Raises ConfigError for a noise outside 0.01 to 10 or a probability outside 1e-6 to 0.5."""

    noise: float
    deletions: float = 0.03
    insertions: float = 0.02

    def __post_init__(self) -> None:
        check.number("noise", self.noise, 0.01, 10)
        check.number("deletions", self.deletions, 1e-6, 0.5)
        check.number("insertions", self.insertions, 1e-6, 0.5)

    @cached_property
    def emitting(self) -> float:
        """Log-probability that a phone is heard and nothing follows it that belongs to none."""
        return float(np.log1p(-self.deletions) + np.log1p(-self.insertions))

    @cached_property
    def deleting(self) -> float:
        return float(np.log(self.deletions))

    @cached_property
    def inserting(self) -> float:
        return float(np.log(self.insertions))

    def observe(self, said: Sequence[int], source: np.random.Generator) -> Floats:
        """Observations (T, D) of the phones ``said``; where all would be lost, the first one is not.

        Of one state of ``source`` the same phones are lost whatever the noise, which only stretches what was drawn.
        """
        points = features()
        lost = source.random(len(said)) < self.deletions
        if len(said):
            lost[0] &= not lost.all()
        after = source.geometric(1 - self.insertions, size=len(said)) - 1
        foreign = source.integers(len(points), size=int(after.sum()))
        heard: list[int] = []
        for phone, gone, count in zip(said, lost.tolist(), after.tolist(), strict=True):
            more, foreign = foreign[:count], foreign[count:]
            if not gone:
                heard += [phone, *more.tolist()]
        means = points[np.array(heard, np.int64)]
        return np.asarray(means + self.noise * source.standard_normal(means.shape))

    def log_likelihoods(self, observed: Floats) -> Floats:
        """(T, P) log of p(observation | phone) / p(observation | no phone), of all phones."""
        points = features()
        squares = np.square(observed[:, None, :] - points).sum(axis=2)
        logs = -squares / (2 * self.noise**2)
        return np.asarray(logs - (np.logaddexp.reduce(logs, axis=1, keepdims=True) - np.log(len(points))))
