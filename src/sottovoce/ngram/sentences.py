"""Sentences as one array of word ids, so that whole corpora are counted and scored without a loop over words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sentences:
    """Word ids of all sentences in a row, (words,), and words in each sentence, (sentences,), zero among them.

    Neither ``<s>`` nor ``</s>`` is in ``ids``. Raises DataError where the lengths do not add up to the words.
    """

    ids: Ids
    lengths: Ids

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.lengths.ndim != 1 or (self.lengths < 0).any():
            raise DataError("sentences: expected ids (words,) and lengths (sentences,) of zero or more")
        if self.lengths.sum() != len(self.ids):
            raise DataError(
                f"sentences: expected {int(self.lengths.sum())} words by their lengths, found {len(self.ids)}"
            )

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int] | NDArray[np.integer]]) -> Sentences:
        """From one sequence of ids a sentence."""
        parts = [np.asarray(sentence, np.int64).reshape(-1) for sentence in sentences]
        ids = np.concatenate([np.zeros(0, np.int64), *parts])
        return cls(ids, np.array([len(part) for part in parts], np.int64))

    @property
    def tokens(self) -> Ids:
        """Predicted tokens in each sentence, (sentences,): its words and ``</s>``."""
        return self.lengths + 1

    def check(self, vocabulary: int, marks: Iterable[int]) -> None:
        """Raises DataError for an id outside [0, vocabulary), or one of ``marks`` (``<s>``, ``</s>``)."""
        wrong = (self.ids < 0) | (self.ids >= vocabulary)
        if wrong.any():
            raise DataError(f"word id {int(self.ids[wrong][0])} is outside the vocabulary of {vocabulary}")
        for mark in marks:
            if (self.ids == mark).any():
                raise DataError(f"word id {mark} marks the beginning or end of a sentence, found inside one")

    def marked(self, bos: int, eos: int) -> tuple[Ids, Ids]:
        """``<s> words </s>`` of all sentences in a row, (words + 2 * sentences,), and each token's place in its own."""
        lengths = self.lengths + 2
        ends = np.cumsum(lengths)
        place = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
        inside = np.ones(len(place), np.bool_)
        inside[ends - 1] = inside[ends - lengths] = False
        stream = np.full(len(place), bos, np.int64)
        stream[inside] = self.ids
        stream[ends - 1] = eos
        return stream, place
