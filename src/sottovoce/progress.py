"""What a long step tells of itself as it goes."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much in all."""
