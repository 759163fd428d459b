"""The arms that every claim is compared with, on the same footing: same plan, session, steps and file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sottovoce.errors import ConfigError
from sottovoce.schemes.s8bqat import S8BQAT
from sottovoce.schemes.schedule import check_period, is_event
from sottovoce.schemes.session import Session


@dataclass(frozen=True)
class PTQ:
    """Post-training quantization: training, if there is any, is plain; levels are taken at the end and weights
    rounded once."""

    def after_step(self, session: Session) -> None:
        return None

    def settle(self, session: Session) -> None:
        if session.step:  # untrained weights have their levels already
            session.estimate_levels()

    def penalty(self, session: Session) -> Tensor | None:
        return None


@dataclass(frozen=True)
class StraightThrough:
    """Forward and backward on quantized weights, the gradient passed straight through to the latents.

    start: share of the run at which it begins. refit: between re-estimations of levels and scales, in steps, or as a
    share of the run where it is below 1; None for none.
    (Bengio et al. 2013, arXiv 1308.3432; "modified BP" of Xu et al. 2021.)
    """

    start: float = 0.0
    refit: float | None = 50

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ConfigError(f"start must be a share of the run from 0 to 1, found {self.start!r}")
        check_period("refit", self.refit)

    def after_step(self, session: Session) -> None:
        session.hold(session.progress >= self.start)
        if is_event(session.step, session.total_steps, self.refit):
            session.estimate_levels()

    def penalty(self, session: Session) -> Tensor | None:
        return None


def linear_qat(**changes: Any) -> S8BQAT:
    """Linear quantization-aware training: the absolute-cosine pull on evenly spaced levels, no hard compressor
    before the end.

    The plan decides the grid: kind ``linear`` is the published one, fixed whatever the weights; ``uniform`` has a
    least-squares scale. (ACosR; the "linear QAT" rows of S8BQAT's table 2.)
    """
    return S8BQAT(**{"strength": 10.0, "period": None, "finish": None, **changes})
