"""A vocabulary with pronunciations and frequencies, as a tree of phones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.confusions.phones import read_phones
from sottovoce.data.espeak import phonemes
from sottovoce.errors import DataError

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lexicon:
    """``words`` (W) with their log-probabilities ``unigram`` (W,), and the tree of their phones, M nodes breadth first.

    ``phone`` (M,): the phone that leads to a node. Children of node n are nodes ``children[n]`` up to ``children[n +
    1]``; words that end in n are ``ending[ends[n]]`` up to ``ending[ends[n + 1]]``. ``ahead`` (M,): the best unigram of
    all words in or below a node.
    """

    words: tuple[str, ...]
    unigram: NDArray[np.float64]
    phone: Integers
    children: Integers
    ends: Integers
    ending: Integers
    ahead: NDArray[np.float64]


def make_lexicon(counts: Mapping[str, int], pronunciations: Mapping[str, Sequence[int]]) -> Lexicon:
    """The lexicon of the words of ``counts`` that have a pronunciation, with their relative frequencies.

    Raises DataError where none has one.
    """
    words = tuple(word for word, count in counts.items() if count > 0 and pronunciations.get(word))
    if not words:
        raise DataError("vocabulary: expected words that can be pronounced, found none")
    frequencies = np.array([counts[word] for word in words], np.float64)
    unigram = np.log(frequencies / frequencies.sum())
    tree = sorted(
        {tuple(pronunciations[word][:size]) for word in words for size in range(len(pronunciations[word]) + 1)}
    )
    tree.sort(key=len)  # breadth first; siblings next to each other, since they were in order before
    number = {path: n for n, path in enumerate(tree)}
    parents = np.array([number[path[:-1]] for path in tree[1:]], np.int64)
    at = np.array([number[tuple(pronunciations[word])] for word in words], np.int64)
    order = np.argsort(at, kind="stable")
    ahead = np.full(len(tree), -np.inf)
    np.maximum.at(ahead, at, unigram)
    for node in range(len(tree) - 1, 0, -1):
        parent = parents[node - 1]
        ahead[parent] = max(ahead[parent], ahead[node])
    bounds = np.arange(len(tree) + 1)
    return Lexicon(
        words=words,
        unigram=unigram,
        phone=np.array([path[-1] if path else -1 for path in tree], np.int64),
        children=1 + np.searchsorted(parents, bounds),
        ends=np.searchsorted(at[order], bounds),
        ending=order,
        ahead=ahead,
    )


def pronounce(words: Sequence[str], language: str = "en-us") -> dict[str, tuple[int, ...]]:
    """Phones of each word by espeak-ng, ``()`` where it says nothing. Raises DataError as ``espeak.phonemes`` does."""
    return {word: read_phones(ipa) for word, ipa in zip(words, phonemes(words, language), strict=True)}
