"""What a search asks of a model: two functions of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn


class Searchable(Protocol):
    """A training module whose weights can be given bits by what they do to its loss or its output.

    Both functions are of the weights as they stand in ``model``, take a batch as the module's own loader makes it, and
    change nothing.
    """

    @property
    def model(self) -> nn.Module:
        """The network that is packed; plans name its parameters."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """The mean loss, a scalar. Differentiable twice where the Hessian is asked for."""
        ...

    def logits(self, batch: Any) -> Tensor:
        """Logits (n, V), one row for each position that counts: padding left out."""
        ...

    def position_weights(self, batch: Any) -> Tensor | None:
        """How much each of the n positions counts, (n,), or None where all count the same."""
        ...

    def observed(self, batch: Any) -> Tensor | None:
        """The id that followed at each of the n positions, int64 (n,), or None where there is no such thing."""
        ...

    def terms(self, batch: Any) -> int:
        """Of how many terms ``loss(batch)`` is the mean."""
        ...

    def row_borders(self) -> Mapping[str, Sequence[int]]:
        """Bands of rows that deserve bits of their own: borders by weight, empty where nothing is known."""
        ...


def mean_loss(module: Searchable, batches: Sequence[Any]) -> Callable[[Any], Tensor]:
    """The module's loss, scaled so that its mean over ``batches`` is that over all their terms, however many each of
    them has: Hessian and architecture search give batches equal weights."""
    mean = sum(module.terms(batch) for batch in batches) / len(batches)
    return lambda batch: module.loss(batch) * (module.terms(batch) / mean)
