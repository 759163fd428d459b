"""What a scheme is: something that acts on the session's bands after each optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
