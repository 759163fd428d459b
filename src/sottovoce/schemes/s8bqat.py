"""S8BQAT: a multi-regional absolute-cosine regularizer and a periodic hard compressor (Zhen et al., Interspeech
2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sottovoce.errors import ConfigError
from sottovoce.schemes.bands import TrainedBand
from sottovoce.schemes.schedule import check_period, crossed, is_event, ramp
from sottovoce.schemes.session import Session


@dataclass(frozen=True)
class S8BQAT:
    """Weights are drawn to their codebook's levels while training, and snapped to them at the end.

    form: ``decoupled`` moves weights after the optimizer's step, ``strength * learning rate`` local gaps at most;
        ``published`` is the paper's penalty, for the user's loss through ``session.penalty()``, summed over weights.
    strength: k of the decoupled pull, or lambda of the published penalty (the paper's best: 5e-4). Without a finishing
        phase the pull has to bring the weights all the way: 10 did that in ten epochs. At 0 there is none.
    start, full: shares of the run between which the strength grows linearly from nothing.
    clip_bits: from ``start`` until ``finish``, weights are kept between the outer levels of a codebook of so many bits
        (of their own bits, where these are fewer); None for no such clipping. Pulled and penalized weights are kept
        between their own outer levels, as in the paper.
    period: between hard compressions (tau), in steps, or as a share of the run where it is below 1; None for none
        before the end. ``estimate`` takes the levels anew at each of them.
    levels_at: share of the run at which levels are taken anew, once; None keeps those of the beginning.
    finish: share of the run from which forward and backward see snapped weights (straight-through); None for never.
        ``refit``: between re-estimations of the levels in that phase, the first as it begins, counted like ``period``;
        None keeps them.
    calibrate: for the published form, sets lambda at the first step so that RMS(penalty gradient) / RMS(task gradient)
        is this.

    The defaults are what did best on the dev voices of synthetic speech (benchmarks/results/s8bqat_tuning.jsonl), not
    on AN4's dev speakers, where straight-through from the start did better at 2 bits (one seed): straight-through from
    one half of the run, levels taken anew every 50 steps, and from a quarter of it until then all weights between the
    outer levels of two bits, about 1.5 standard deviations; no pull. Without tails the levels lie closer. The penalty
    is flat at a level and steepest beside the border between cells: strong or early, it freezes the assignment of the
    first hour.

    Raises ConfigError for settings out of range.
    """

    form: str = "decoupled"
    strength: float = 0.0
    start: float = 0.25
    full: float = 1.0
    period: float | None = None
    estimate: bool = True
    levels_at: float | None = None
    finish: float | None = 0.5
    refit: float | None = 50
    clip_bits: int | None = 2
    calibrate: float | None = None

    def __post_init__(self) -> None:
        if self.form not in ("decoupled", "published"):
            raise ConfigError(f"form must be 'decoupled' or 'published', found {self.form!r}")
        if not 0 <= self.strength < math.inf:
            raise ConfigError(f"strength must be a finite number and not negative, found {self.strength!r}")
        shares = (("start", self.start), ("full", self.full), ("finish", self.finish), ("levels_at", self.levels_at))
        for name, share in shares:
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"{name} must be a share of the run from 0 to 1, found {share!r}")
        if self.start > self.full:
            raise ConfigError(f"start and full must be in order, found {self.start} and {self.full}")
        check_period("period", self.period)
        check_period("refit", self.refit)
        clip = self.clip_bits
        if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int) or not 1 <= clip <= 8):
            raise ConfigError(f"clip_bits must be a whole number from 1 to 8, or None, found {clip!r}")
        if self.calibrate is not None and not 0 < self.calibrate < math.inf:
            raise ConfigError(f"calibrate must be a positive ratio, found {self.calibrate!r}")
        if self.calibrate is not None and self.form != "published":
            raise ConfigError(
                "calibrate sets the lambda of the published form; the decoupled pull is in units of the gap"
            )

    @classmethod
    def published(cls, **changes: Any) -> S8BQAT:
        """The paper's settings: lambda 5e-4 from the first step, hard compression every 0.29 of the run (tau 35 of
        120)."""
        settings = {
            "form": "published",
            "strength": 5e-4,
            "start": 0.0,
            "full": 0.0,
            "period": 0.29,
            "estimate": False,
            "finish": None,
        }
        return cls(**{**settings, **changes})

    def after_step(self, session: Session) -> None:
        step, total = session.step, session.total_steps
        finishing = self.finish is not None and session.progress >= self.finish
        if self.levels_at is not None and crossed(step, total, self.levels_at):
            session.estimate_levels()
        if finishing:
            begins = self.refit is not None and crossed(step, total, self.finish or 0.0)
            if begins or is_event(step, total, self.refit):
                session.estimate_levels()
        else:
            self._draw(session)
        if is_event(step, total, self.period):
            session.hard_compress(estimate=self.estimate)
        session.hold(finishing)

    def settle(self, session: Session) -> None:
        """Where the run ended before its finishing phase: levels of the weights as they are, as that phase would begin
        with."""
        early = self.finish is not None and session.step and session.progress < self.finish
        if early and self.refit is not None:
            session.estimate_levels()

    def _draw(self, session: Session) -> None:
        """Pull weights towards their levels, or keep them between the outer ones where the loss does the pulling."""
        if self.form == "published":
            self._calibrate(session)
        share = ramp(session.progress, self.start, self.full)
        for band in session.bands:
            if self.form == "decoupled" and share * self.strength > 0:
                band.here().pull_(band.weight(), self.strength * share * session.rate(band))
            elif share > 0 and self.form == "published":
                band.here().clip_(band.weight())
            elif share > 0 and self.clip_bits is not None:
                band.clip(self.clip_bits)

    def penalty(self, session: Session) -> Tensor | None:
        """lambda times the penalty summed over weights, or None in the decoupled form."""
        if self.form != "published":
            return None
        strength = self._now(session)
        if strength == 0:
            return None
        terms = [_penalty_of(band) for band in session.bands]
        return strength * torch.stack(terms).sum()

    def penalty_ratio(self, session: Session) -> float | None:
        """RMS(penalty gradient) / RMS(task gradient) over the planned weights, whose gradients are those of the task
        alone; None in the decoupled form, before ``start`` and where either gradient is zero."""
        strength = self._now(session) if self.form == "published" else 0.0
        balance = _balance(session) if strength > 0 else None
        return None if balance is None else strength / balance

    def _now(self, session: Session) -> float:
        """lambda at this share of the run; zero until the first step has been seen when it is calibrated."""
        strength = self.strength if self.calibrate is None else session.values.get("lambda", 0.0)
        return strength * ramp(session.progress, self.start, self.full)

    def _calibrate(self, session: Session) -> None:
        if self.calibrate is None or "lambda" in session.values:
            return
        balance = _balance(session)
        if balance is not None:
            session.values["lambda"] = self.calibrate * balance


@torch.no_grad()
def _balance(session: Session) -> float | None:
    """The lambda at which the penalty's gradient has the RMS of the task's, which the parameters hold alone; None where
    either is zero or not finite."""
    gradients = [(band, band.planned.weight.parameter.grad) for band in session.bands]
    task = [band.gathered(band.rows(gradient)) for band, gradient in gradients if gradient is not None]
    task_power = sum(float(g.square().sum()) for g in task)
    pulls = [band.codebook.penalty(band.whole())[1] for band in session.bands]
    pull_power = sum(float(g.square().sum()) for g in pulls)
    if not (0 < task_power < math.inf and 0 < pull_power < math.inf):
        return None
    return float((task_power / pull_power) ** 0.5)


def _penalty_of(band: TrainedBand) -> Tensor:
    value: Tensor = _Penalty.apply(band.rows(band.planned.weight.parameter), band)  # type: ignore[no-untyped-call]
    return value


class _Penalty(torch.autograd.Function):
    """Sum of the absolute-cosine penalty over a band; its gradient is found in the same pass as its value."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, band: TrainedBand) -> Tensor:
        total, gradient = band.here().penalty(weight)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        gradient: Tensor = ctx.saved_tensors[0]
        return upstream[0] * gradient, None
