"""Words and their ids, with the three marks that every n-gram model has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sottovoce.errors import DataError
from sottovoce.ngram.sentences import Ids, Sentences

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
MARKS = (UNK, BOS, EOS)


@dataclass(frozen=True)
class Vocabulary:
    """``words[id]``, each once, ``<unk>``, ``<s>`` and ``</s>`` among them. Raises DataError otherwise."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        for word in self.words:
            if not word or len(word.encode("utf-8", "replace").split()) != 1 or word != word.strip(" \t\r\n"):
                raise DataError(f"vocabulary: expected words without spaces, found {word[:60]!r}")
        if len(self.ids) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.ids[word] != i)
            raise DataError(f"vocabulary: {twice!r} is given twice")
        missing = [mark for mark in MARKS if mark not in self.ids]
        if missing:
            raise DataError(f"vocabulary: expected {', '.join(MARKS)}, found no {', '.join(missing)}")

    @classmethod
    def of(cls, words: Iterable[str]) -> Vocabulary:
        """These words in their order; marks that are not among them come first, as ``lmplz`` numbers them."""
        given = tuple(words)
        known = set(given)
        return cls((*(mark for mark in MARKS if mark not in known), *given))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: id for id, word in enumerate(self.words)}

    @property
    def unk(self) -> int:
        return self.ids[UNK]

    @property
    def bos(self) -> int:
        return self.ids[BOS]

    @property
    def eos(self) -> int:
        return self.ids[EOS]

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Iterable[Sequence[str]]) -> Sentences:
        """Ids of sentences given as words, without ``<s>`` and ``</s>``; words outside the vocabulary are ``<unk>``.

        Raises DataError for a sentence that holds ``<s>`` or ``</s>``: they are where a sentence begins and ends.
        """
        flat: list[str] = []
        lengths: list[int] = []
        for number, sentence in enumerate(sentences, start=1):
            if BOS in sentence or EOS in sentence:
                raise DataError(f"sentence {number}: {BOS} and {EOS} are added by the model, found one in the text")
            flat.extend(sentence)
            lengths.append(len(sentence))
        get, unk = self.ids.get, self.unk
        ids = np.fromiter((get(word, unk) for word in flat), np.int64, len(flat))
        return Sentences(ids, np.array(lengths, np.int64))

    def map_to(self, words: Sequence[str]) -> Ids:
        """The id here of each word of another vocabulary, (len(words),), so that two models score the same tokens.

        Raises DataError where ``words`` and this vocabulary, ``<s>`` apart, are not the same set: perplexities and
        mixtures over different vocabularies mean nothing.
        """
        theirs, ours = set(words) - {BOS}, set(self.words) - {BOS}
        if theirs != ours:
            extra = sorted(theirs ^ ours)
            where = "only the n-gram model" if extra[0] in ours else "only the other model"
            raise DataError(f"vocabularies differ in {len(extra)} words: {where} has {extra[0]!r}")
        return np.array([self.ids[word] for word in words], np.int64)
