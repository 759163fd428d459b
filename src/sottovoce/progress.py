"""What a long step tells of itself as it goes."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much in all."""


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate(a_second: float) -> str:
    """``3,200 a second``, ``12 a minute``, ``2.4 an hour``."""
    for each, unit in ((1, "a second"), (60, "a minute")):
        if a_second * each >= 1:
            return f"{_number(a_second * each)} {unit}"
    return f"{_number(a_second * 3600)} an hour"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
