"""Schedules as pure functions of the share of the run that is done."""

from __future__ import annotations

from sottovoce.errors import ConfigError


def ramp(progress: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end`` on, linear between; a step where they are equal."""
    if progress < start:
        return 0.0
    return 1.0 if progress >= end else (progress - start) / (end - start)


def is_event(step: int, total: int, period: float | None) -> bool:
    """Whether a periodic event falls on this step; the last step has one of its own, when the session finishes.

    period: a whole number of steps, or a share of the run between 0 and 1, rounded to one step at least.
    """
    if period is None or step >= total:
        return False
    return step % (period if isinstance(period, int) else max(1, round(period * total))) == 0


def check_period(name: str, period: float | None) -> None:
    """Raises ConfigError naming the option unless it is None, whole steps, or a share of the run between 0 and 1."""
    whole = isinstance(period, int) and not isinstance(period, bool) and period >= 1
    share = isinstance(period, float) and 0 < period < 1
    if period is not None and not whole and not share:
        raise ConfigError(
            f"{name} must be a positive whole number of steps or a share of the run between 0 and 1, found {period!r}"
        )


def crossed(step: int, total: int, share: float) -> bool:
    """Whether this step is the first at or past ``share`` of the run."""
    return step / total >= share > (step - 1) / total
