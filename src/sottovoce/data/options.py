"""Checks of the options that a user gives to the data commands: one clear line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sottovoce.errors import ConfigError


def integer(name: str, value: Any, low: int, high: int) -> int:
    """``value`` if it is an integer in [low, high]; else ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer in [{low}, {high}], found {value!r}")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float if it is a number in [low, high]; else ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number in [{low:g}, {high:g}], found {value!r}")
    return float(value)


def span(name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """``value`` as (from, to), two numbers in order in [low, high]; else ConfigError."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ConfigError(f"{name} must be two numbers [from, to], found {value!r}")
    first, second = (number(name, item, low, high) for item in value)
    if first > second:
        raise ConfigError(f"{name} must go from low to high, found {list(value)}")
    return first, second


def speeds(name: str, value: Any) -> tuple[float, ...]:
    """``value`` as distinct speed factors in [0.5, 2]; else ConfigError."""
    items = [value] if isinstance(value, int | float) else value
    if isinstance(items, str) or not isinstance(items, Sequence) or not items:
        raise ConfigError(f"{name} must be a list of speed factors, found {value!r}")
    factors = tuple(number(name, item, 0.5, 2.0) for item in items)
    if len(set(factors)) != len(factors):
        raise ConfigError(f"{name} names a factor twice: {list(factors)}")
    return factors


def names(name: str, value: Any) -> tuple[str, ...] | None:
    """``value`` (None, one string, comma-separated or not, or a list of strings) as a tuple; else ConfigError."""
    if value is None:
        return None
    items = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(items, Sequence)
        or not items
        or not all(isinstance(item, str) and item.strip() for item in items)
    ):
        raise ConfigError(f"{name} must be a list of names, found {value!r}")
    return tuple(item.strip() for item in items)
