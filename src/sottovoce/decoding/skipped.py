"""Utterances that a reader leaves out so that the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from sottovoce.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """An utterance that was left out, and why in one line."""

    id: str
    reason: str


def keep_good(pending: Iterable[tuple[str, Callable[[], T]]], skipped: list[Skipped] | None) -> Iterator[T]:
    """What each (id, make) makes, in order; its DataError is noted in ``skipped``, or raised where that is None."""
    for id, make in pending:
        try:
            made = make()
        except DataError as error:
            if skipped is None:
                raise
            skipped.append(Skipped(id, str(error)))
        else:
            yield made
