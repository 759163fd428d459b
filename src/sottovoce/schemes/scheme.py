"""What a scheme is: something that acts on the session's bands after each optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from sottovoce.schemes.session import Session


class Scheme(Protocol):
    """A frozen dataclass of settings; all state lives in the session."""

    def after_step(self, session: Session) -> None:
        """Called after each optimizer step that was really taken, on latent weights, with ``session.step`` counted."""
        ...

    def penalty(self, session: Session) -> Tensor | None:
        """A term for the user's loss, or None where the scheme has none."""
        ...


@runtime_checkable
class LooksAhead(Protocol):
    """A scheme that evaluates the closure of ``optimizer.step(closure)`` itself, and may do so more than once."""

    def evaluate(self, session: Session, closure: Callable[[], Any]) -> Any:
        """Leave the gradient for the step in the parameters, on latent weights, and return the closure's result."""
        ...


@runtime_checkable
class Penalizes(Protocol):
    """A scheme whose penalty can be weighed against the task."""

    def penalty_ratio(self, session: Session) -> float | None:
        """RMS of the penalty's gradient over that of the task's, which the parameters hold alone; None where there is
        no penalty at the moment."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A scheme with something left to do when the session ends, whether or not all ``total_steps`` were taken: a
    GradScaler skips some, and a run may be stopped early."""

    def settle(self, session: Session) -> None:
        """Called once, before weights are snapped and packed, on latent weights."""
        ...
