"""GQ: weights pulled together towards their codebook now and then, ever more sharply (Zhen et al., SLT 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sottovoce.errors import ConfigError
from sottovoce.schemes.schedule import check_period, is_event, ramp
from sottovoce.schemes.session import Session


@dataclass(frozen=True)
class GQ:
    """General Quantizer: nothing in the loss or the forward; every ``period``, each weight becomes a mix of levels.

    At an event the levels are taken anew by the plan's maker, then ``w <- softmax(-alpha |w - z|) @ z``, distances in
    units of the kernel's range; alpha grows linearly from ``sharpness[0]`` at ``start`` to ``sharpness[1]`` at the end,
    where the session rounds to the nearest level.

    period: between events, in steps, or as a share of the run where it is below 1. The source takes 1 / 120 of a long
        run, still has good results at 1 / 12, and warns of more frequent events: a weight needs time to leave a level,
        and a short run has fewer steps for that.
    sharpness: the source has 10 and 400, but at 10 the mix shrinks Gaussian weights of deviation 0.15 by more than
        rounding them to 5 bits; hence 50.
    start: share of the run before which training is plain.

    The method's table is kind ``mu-law``; on ``mu-law-scaled`` narrow kernels use all their codes. Any other kind
    serves too. Source: Zhen et al. 2022, "Sub-8-bit quantization for on-device speech recognition: a regularization-
    free approach", arXiv 2210.09188.

    Raises ConfigError for settings out of range.
    """

    period: float = 0.1
    sharpness: tuple[float, float] = (50.0, 400.0)
    start: float = 0.0

    def __post_init__(self) -> None:
        if self.period is None:
            raise ConfigError("period must be given: without events this is rounding at the end, which PTQ names")
        check_period("period", self.period)
        pair = self.sharpness
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not 0 < pair[0] <= pair[1] < math.inf:
            raise ConfigError(f"sharpness must be two positive numbers in order, found {pair!r}")
        if not 0 <= self.start <= 1:
            raise ConfigError(f"start must be a share of the run from 0 to 1, found {self.start!r}")

    @classmethod
    def published(cls, **changes: Any) -> GQ:
        """The source's settings: an event every 1,000 of 120,000 steps (5,000 of 700,000 on in-house data), alpha 10
        to 400. Its search for mu starts at 8; ours tries every mu, so that its start does not matter."""
        return cls(**{"period": 1 / 120, "sharpness": (10.0, 400.0), **changes})

    def alpha(self, progress: float) -> float:
        """Sharpness of the mix at this share of the run."""
        low, high = self.sharpness
        return low + (high - low) * ramp(progress, self.start, 1.0)

    def after_step(self, session: Session) -> None:
        if session.progress < self.start or not is_event(session.step, session.total_steps, self.period):
            return
        alpha = self.alpha(session.progress)
        shares = {"hit_rate": session.hit_rates(), "clip_rate": session.clip_rates()}
        session.events.append({"step": session.step, "sharpness": alpha, **shares})
        session.estimate_levels()
        for band in session.bands:
            band.here().mix_(band.weight(), alpha)

    def penalty(self, session: Session) -> Tensor | None:
        return None
