"""Schedules as pure functions of the share of the run that is done."""

from __future__ import annotations


def ramp(progress: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end`` on, linear between; a step where they are equal."""
    if progress < start:
        return 0.0
    return 1.0 if progress >= end else (progress - start) / (end - start)


def is_event(step: int, total: int, period: int | None) -> bool:
    """Whether a periodic event falls on this step; the last step has one of its own, when the session finishes."""
    return period is not None and step % period == 0 and step < total


def crossed(step: int, total: int, share: float) -> bool:
    """Whether this step is the first at or past ``share`` of the run."""
    return step / total >= share > (step - 1) / total
