"""Counting n-grams: every order is a sort of (context, word) pairs, never a loop over words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sottovoce.ngram.sentences import Flags, Ids, Sentences


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """The k-grams of a text, sorted by context and word; N of them.

    ``context`` (N,) numbers the (k-1)-gram before the last ``word`` (N,), ``suffix`` (N,) the one without the first
    word; ``raw`` (N,) is how often each occurs; ``adjusted`` (N,) is that count for n-grams of the highest order and
    for those that begin with ``<s>``, which nothing precedes, and else the number of different words that precede it.
    """

    context: Ids
    word: Ids
    suffix: Ids
    raw: Ids
    adjusted: Ids


def count_ngrams(
    sentences: Sentences,
    vocabulary: int,
    bos: int,
    eos: int,
    order: int,
    counted: Callable[[int], None] = lambda order: None,
) -> list[NgramCounts]:
    """Counts of orders 1 to ``order`` in ``<s> words </s>``; one ``<s>`` a sentence, itself never counted as a word.

    The unigrams are all of the vocabulary, seen or not. ``counted`` is told each order once it is.
    """
    stream, place = sentences.marked(bos, eos)
    found: list[NgramCounts] = []
    starts: list[Flags] = []
    ending = stream  # number of the k-gram that ends at each token, (T,); valid where place >= k - 1
    for k in range(1, order + 1):
        at = np.flatnonzero(place >= k - 1)
        if k == 1:
            counts = _unigrams(stream, vocabulary, bos)
            numbers = ending
            starts.append(np.arange(vocabulary) == bos)
        else:
            keys, first, inverse, raw = np.unique(
                ending[at - 1] * vocabulary + stream[at], return_index=True, return_inverse=True, return_counts=True
            )
            context, word = np.divmod(keys, vocabulary)
            counts = NgramCounts(context, word, ending[at][first], raw.astype(np.int64), raw.astype(np.int64))
            numbers = np.full(len(stream), -1, np.int64)
            numbers[at] = inverse.reshape(-1)
            starts.append(starts[-1][context])
            found[-1] = _continued(found[-1], starts[-2], counts.suffix)
        found.append(counts)
        ending = numbers
        counted(k)
    return found


def _unigrams(stream: Ids, vocabulary: int, bos: int) -> NgramCounts:
    words, none = np.arange(vocabulary), np.zeros(vocabulary, np.int64)
    raw = np.bincount(stream, minlength=vocabulary)
    raw[bos] = 0
    return NgramCounts(none, words, none, raw, raw)


def _continued(counts: NgramCounts, starts: Flags, suffix: Ids) -> NgramCounts:
    """``counts`` with the number of different words before each, given the suffixes of the n-grams one word longer."""
    before = np.bincount(suffix, minlength=len(counts.word))
    return NgramCounts(counts.context, counts.word, counts.suffix, counts.raw, np.where(starts, counts.raw, before))
