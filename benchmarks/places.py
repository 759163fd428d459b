"""Where a training comparison happens: one 32-bit training, from which all that is compared starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from sottovoce.training.config import Recipe, load_recipe
from sottovoce.training.run import Run


class Source(Protocol):
    """What is trained: a recipe on its corpus. ``quick``: changes of the recipe that only check the script."""

    @property
    def name(self) -> str: ...
    @property
    def recipe(self) -> Path: ...
    @property
    def quick(self) -> tuple[str, ...]: ...


S = TypeVar("S", bound=Source)


@dataclass(frozen=True)
class Place(Generic[S]):
    """One 32-bit training of a source, from which all arms or rows of its fold and seed start: at its ``snapshot``, or
    when it has converged. ``changes``: what its recipe is changed to, its size for one."""

    source: S
    seed: int
    data: Path
    work: Path
    quick: bool = False
    fold: str = ""
    snapshot: bool = False
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{'/'.join(self._names)}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        return self.work / "-".join(self._names) / f"seed-{self.seed}"

    @property
    def base(self) -> Run:
        return Run(self.folder / "base")

    def recipe(self, changes: tuple[str, ...] = ()) -> Recipe:
        """The recipe of the 32-bit training, or of what has these changes besides."""
        quick = self.source.quick if self.quick else ()
        return load_recipe(self.source.recipe, [f"seed={self.seed}", *self.changes, *quick, *changes])

    @property
    def _names(self) -> list[str]:
        return [self.source.name, *([self.fold] if self.fold else [])]
