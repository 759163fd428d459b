"""What a plan says of one band of rows of one weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sottovoce.errors import PlanError
from sottovoce.packed import GROUPINGS
from sottovoce.packed.matrix import Grouping

KINDS = ("lloyd-max", "regions", "uniform", "linear", "mu-law", "mu-law-scaled")
PLAN_GROUPINGS = (*GROUPINGS, "model")
_ONE_SCALE = ("regions", "linear", "mu-law", "mu-law-scaled")  # scales of their own, powers of two: one a tensor
_ALWAYS_ZERO = ("regions", "linear")
_SYMMETRIC = ("uniform", "mu-law", "mu-law-scaled")  # within +-127, which holds no even set of 256


@dataclass(frozen=True)
class BandSpec:
    """Rows ``start`` to ``stop`` (None: to the last row) of a weight, at ``bits`` bits.

    kind: ``lloyd-max``, ``regions`` (the paper's), ``uniform`` (least-squares scale), ``linear`` (the published fixed
    grid), ``mu-law`` (GQ's, its range +-1) or ``mu-law-scaled`` (its range a fitted power of two). grouping: one scale
    per ``tensor``, ``gate`` or output ``row``. zero: whether zero is a level of a symmetric odd set; None lets the kind
    decide. Lloyd-Max levels at five bits are mirrored about zero even without one (see ``mirrored``). grouping
    ``model`` is one scale for all bands of the model with the same bits and table, fitted to them
    together (the published "global" one); the file holds it once a tensor. scale_dtype: what the file stores,
    ``float16`` or ``float32``.

    Raises PlanError for values that do not go together.
    """

    bits: int
    kind: str = "lloyd-max"
    grouping: str = "tensor"
    zero: bool | None = None
    scale_dtype: str = "float16"
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        _member("kind", self.kind, KINDS)
        _member("grouping", self.grouping, PLAN_GROUPINGS)
        _member("scale_dtype", self.scale_dtype, ("float16", "float32"))
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 1 <= self.bits <= 8:
            raise PlanError(f"bits must be a whole number from 1 to 8, found {self.bits!r}")
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise PlanError(f"rows must be a non-empty range, found {self.start} to {self.stop}")
        if self.kind in _ONE_SCALE and self.grouping != "tensor":
            raise PlanError(f"kind {self.kind!r} has one scale: grouping must be 'tensor', found {self.grouping!r}")
        if self.kind in _ALWAYS_ZERO and self.zero is False:
            raise PlanError(f"kind {self.kind!r} always has a zero level: zero=False does not go with it")
        if self.has_zero and self.bits == 1:
            raise PlanError(
                f"one bit holds no zero beside two signs: kind {self.kind!r} with zero wants 2 bits or more"
            )
        if self.kind in _SYMMETRIC and self.bits == 8 and not self.has_zero:
            raise PlanError(
                f"sets without a zero end at 7 bits: at 8 bits the {self.kind} levels are -127 to 127, zero among them"
            )

    @property
    def has_zero(self) -> bool:
        """Zero is a level: always for ``regions`` and ``linear``, else as asked; by default only at 8 bits, and
        there not for ``lloyd-max``."""
        if self.kind in _ALWAYS_ZERO:
            return True
        return self.zero if self.zero is not None else (self.kind in _SYMMETRIC and self.bits == 8)

    @property
    def stored_grouping(self) -> Grouping:
        """The grouping as the file has it: one scale for the whole model is written in each tensor."""
        return "tensor" if self.grouping == "model" else cast(Grouping, self.grouping)

    @property
    def mirrored(self) -> bool:
        """Lloyd-Max levels come in pairs of +-x: with a zero always, and at five bits, where sixteen magnitudes and a
        sign are one lookup of sixteen entries on a device, and 32 free levels two. Weights distributed alike on both
        sides of zero lose nothing by it."""
        return self.has_zero or self.bits == 5


def _member(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PlanError(f"{name} must be one of {', '.join(allowed)}; found {value!r}")
