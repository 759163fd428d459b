"""A back-off n-gram model as sorted arrays, queried for many words at once.

All n-grams stand in one array: the unigrams by word id, then the bigrams, the trigrams and so on, each order sorted by
context and word. The *state* of a context is 0 for the empty one and i + 1 for n-gram i, so that ``state * V + word``
rises through the whole array and one binary search finds any n-gram of any order. Log-probabilities are kept as ARPA
files have them (base 10, float32); what comes out is natural and float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import DataError, FormatError
from sottovoce.ngram.sentences import Flags, Ids, Sentences
from sottovoce.ngram.vocabulary import Vocabulary

LN10 = math.log(10.0)

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NgramModel:
    """n-grams of every order: ``keys`` int64 (M,) = context state * V + word, ascending.

    ``log10_probs`` float32 (M,), not above 0; ``log10_backoffs`` float32 (C,) of the C n-grams that are not of the
    highest order; ``counts`` is the number of n-grams of each order. Raises FormatError where these do not fit.
    """

    vocabulary: Vocabulary
    counts: tuple[int, ...]
    keys: Ids
    log10_probs: Singles
    log10_backoffs: Singles

    def __post_init__(self) -> None:
        size, total = len(self.vocabulary), sum(self.counts)
        if not self.counts or self.counts[0] != size:
            raise FormatError(f"n-gram model: expected a unigram for each of {size} words, found {self.counts[:1]}")
        shapes = self.keys.shape, self.log10_probs.shape, self.log10_backoffs.shape
        if shapes != ((total,), (total,), (total - self.counts[-1],)):
            raise FormatError(f"n-gram model: {total} n-grams and their back-offs expected, found shapes {shapes}")
        if not (np.diff(self.keys) > 0).all():
            raise FormatError("n-gram model: expected n-grams sorted by context and word, each once")
        contexts = self.keys // size
        edges = np.concatenate([[0, 0], np.cumsum(self.counts)])  # first n-gram of the order below, and of this one
        for k, (low, first) in enumerate(pairwise(edges[:-1])):
            block = contexts[first : first + self.counts[k]]
            if k and len(block) and not (block[0] > low and block[-1] <= first):
                raise FormatError(f"n-gram model: expected {k}-grams as contexts of the {k + 1}-grams")
        if not np.array_equal(self.keys[:size], np.arange(size)):
            raise FormatError("n-gram model: expected the unigrams in the order of the vocabulary")
        if not (self.log10_probs <= 0).all() or not np.isfinite(self.log10_probs).all():
            raise FormatError("n-gram model: expected finite log-probabilities of at most 0")
        if not np.isfinite(self.log10_backoffs).all():
            raise FormatError("n-gram model: expected finite back-off weights")

    @property
    def order(self) -> int:
        return len(self.counts)

    def score(self, sentences: Sentences | Sequence[Sequence[int]]) -> Floats:
        """Natural log-probability of each word and ``</s>`` given its sentence so far, float64 (tokens,).

        Sentence after sentence; ``Sentences.tokens`` says how many belong to each. Raises DataError for an id that is
        no word.
        """
        given = sentences if isinstance(sentences, Sentences) else Sentences.of(sentences)
        words = self.vocabulary
        given.check(len(words), (words.bos, words.eos))
        stream, place = given.marked(words.bos, words.eos)
        previous = np.maximum(np.arange(len(stream)) - 1, 0)
        # The state of the k-gram that ends at each token, (T,), or -1 where the model has none.
        ending = stream + 1
        score = self.log10_probs[stream].astype(np.float64)
        for k in range(2, self.order + 1):
            context = np.where(place >= k - 1, ending[previous], -1)
            found, at = self._find(context, stream)
            backed = score + np.where(context > 0, self._backoffs[context], 0.0)
            score = np.where(found, self.log10_probs[at], backed)
            ending = np.where(found, at + 1, -1)
        return score[place > 0] * LN10

    @property
    def start(self) -> int:
        """The state at the beginning of a sentence."""
        return int(self._resting[self.vocabulary.bos])

    def step(self, states: ArrayLike, words: ArrayLike) -> tuple[Floats, Ids]:
        """Natural log-probabilities (N,) of word ids (N,) after states (N,), and the states (N,) that follow.

        A state is the shortest context that still matters (Heafield, "KenLM", WMT 2011, section 4.1): contexts that no
        n-gram extends and that cost nothing to leave are shortened, so that a lattice may join equal states. Raises
        DataError for what is no state or no word.
        """
        node, word = np.broadcast_arrays(np.asarray(states, np.int64), np.asarray(words, np.int64))
        self._check_states(node)
        if ((word < 0) | (word >= len(self.vocabulary))).any():
            raise DataError(f"expected word ids in [0, {len(self.vocabulary)}), found others")
        found, at = self._find(node, word)
        score = np.zeros(node.shape)
        while not found.all():
            score = np.where(found, score, score + self._backoffs[node])
            node = np.where(found, node, self._suffixes[node])
            found, at = self._find(node, word)
        return (score + self.log10_probs[at]) * LN10, self._resting[at]

    def distribution(self, states: ArrayLike) -> Floats:
        """Natural log-probabilities (N, V) of every word after states (N,); -inf for ``<s>``, which is never said."""
        chain = [np.atleast_1d(np.asarray(states, np.int64))]
        self._check_states(chain[0])
        while chain[-1].any():
            chain.append(self._suffixes[chain[-1]])
        size = len(self.vocabulary)
        rows = np.repeat(self.log10_probs[None, :size].astype(np.float64), len(chain[0]), axis=0)
        for node in reversed(chain[:-1]):
            rows += self._backoffs[node][:, None]
            first, last = (np.searchsorted(self.keys, (node + shift) * size) for shift in (0, 1))
            # A chain that ended early waits at the empty context, whose words are in place.
            number = np.where(node > 0, last - first, 0)
            row = np.repeat(np.arange(len(node)), number)
            at = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + first[row]
            rows[row, self.keys[at] % size] = self.log10_probs[at]
        rows[:, self.vocabulary.bos] = -np.inf
        return rows * LN10

    def _check_states(self, states: Ids) -> None:
        if ((states < 0) | (states >= len(self._backoffs))).any():
            raise DataError(f"expected states in [0, {len(self._backoffs)}), found others")

    def _find(self, context: Ids, word: Ids) -> tuple[Flags, Ids]:
        """Whether the n-gram (context, word) is there, and where; contexts of -1 have none."""
        key = context * len(self.vocabulary) + word
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return (self.keys[at] == key) & (context >= 0), at

    @cached_property
    def _backoffs(self) -> Singles:
        """log10 back-off weight of each state, (1 + C,)."""
        return np.concatenate([np.zeros(1, np.float32), self.log10_backoffs])

    @cached_property
    def _suffixes(self) -> Ids:
        """State of the longest proper suffix of each state that the model has, (1 + C,)."""
        suffixes = np.zeros(len(self._backoffs), np.int64)
        for block in self._blocks()[1:-1]:
            context, word = np.divmod(self.keys[block], len(self.vocabulary))
            suffixes[1:][block] = self._longest(suffixes, suffixes[context], word)
        return suffixes

    @cached_property
    def _resting(self) -> Ids:
        """The state after each n-gram, (M,), shortened as far as no later score can tell."""
        size = len(self.vocabulary)
        extended = np.zeros(len(self._backoffs), np.bool_)
        extended[self.keys[size:] // size] = True
        matters = extended | (self._backoffs != 0)
        shortest = np.zeros(len(self._backoffs), np.int64)
        blocks = self._blocks()
        for block in blocks[:-1]:
            states = np.arange(block.start, block.stop) + 1
            shortest[states] = np.where(matters[states], states, shortest[self._suffixes[states]])
        context, word = np.divmod(self.keys[blocks[-1]], size)
        top = self._longest(self._suffixes, self._suffixes[context], word) if self.order > 1 else np.zeros_like(word)
        return np.concatenate([shortest[1:], shortest[top]])

    def _longest(self, suffixes: Ids, context: Ids, word: Ids) -> Ids:
        """State of the longest n-gram (suffix of context, word) that the model has: at the end the word alone."""
        found, at = self._find(context, word)
        while not found.all():
            context = np.where(found, context, suffixes[context])
            found, at = self._find(context, word)
        return at + 1

    def _blocks(self) -> list[slice]:
        """Where the n-grams of each order stand."""
        ends = np.cumsum(self.counts).tolist()
        return [slice(end - count, end) for end, count in zip(ends, self.counts, strict=True)]
