"""Interpolated modified Kneser-Ney (Chen and Goodman, "An empirical study of smoothing techniques for language
modeling", Computer Speech and Language 1999, section 3 and equations 23 to 26).

Sentence marks are those of KenLM's ``lmplz`` (Heafield et al., "Scalable modified Kneser-Ney language model
estimation", ACL 2013): one ``<s>`` before a sentence, as a context only; n-grams that begin with it keep their plain
counts; ``</s>`` is a word. The unigrams are interpolated with the uniform distribution over all words but ``<s>``.
Other than there, ``<unk>`` is a word like any, counted where the text has words outside the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.errors import ConfigError, DataError
from sottovoce.ngram.counts import NgramCounts, count_ngrams
from sottovoce.ngram.model import Floats, NgramModel
from sottovoce.ngram.sentences import Flags, Ids, Sentences
from sottovoce.ngram.vocabulary import Vocabulary
from sottovoce.progress import Progress

FALLBACK = (0.5, 1.0, 1.5)  # lmplz's --discount_fallback


@dataclass(frozen=True)
class Discounts:
    """What is taken from n-grams of one order that were counted once, twice, and three times or more.

    ``fallback`` says that the text gave none: some count of counts was zero, or a discount not in (0, count].
    """

    values: tuple[float, float, float]
    fallback: bool = False


def train_kneser_ney(
    sentences: Sentences,
    vocabulary: Vocabulary,
    order: int = 4,
    cutoffs: Sequence[int] = (),
    progress: Progress = lambda done, total: None,
) -> tuple[NgramModel, tuple[Discounts, ...]]:
    """The model of a text, and the discounts of each order.

    ``cutoffs`` are those of ``lmplz --prune``, for each order and the last for all above it: n-grams that occur no more
    often are left out, and their probability goes to the back-off. The first is 0, as the vocabulary is given, and they
    never fall. ``progress`` is told how many orders are counted, and then estimated, of twice all. Raises ConfigError
    for an order below 1 or other cut-offs, DataError for a text without words.
    """
    if order < 1:
        raise ConfigError(f"n-gram model: expected an order of at least 1, found {order}")
    limits = _limits(cutoffs, order)
    sentences.check(len(vocabulary), (vocabulary.bos, vocabulary.eos))
    if not len(sentences.lengths):
        raise DataError("n-gram model: expected sentences to count, found none")
    counts = count_ngrams(
        sentences, len(vocabulary), vocabulary.bos, vocabulary.eos, order, lambda k: progress(k, 2 * order)
    )
    discounts = tuple(estimate_discounts(level.adjusted) for level in counts)
    return _assemble(vocabulary, counts, discounts, limits, progress), discounts


def estimate_discounts(adjusted: Ids) -> Discounts:
    """D1, D2 and D3+ from counts of counts (equation 26), or lmplz's fallback where the text is too small for them."""
    n = np.bincount(np.minimum(adjusted, 5), minlength=6).astype(np.float64)
    if not n[1:4].all():
        return Discounts(FALLBACK, fallback=True)
    y = n[1] / (n[1] + 2 * n[2])
    d1, d2, d3 = (float(j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3))
    # A discount of zero would leave nothing for words that were never seen.
    if min(d1, d2, d3) <= 0:
        return Discounts(FALLBACK, fallback=True)
    return Discounts((d1, d2, d3))


def _limits(cutoffs: Sequence[int], order: int) -> list[int]:
    given = list(cutoffs) or [0]
    if given[0] != 0 or sorted(given) != given or len(given) > order:
        raise ConfigError(f"cut-offs: expected up to {order} that begin with 0 and never fall, found {given}")
    return given + [given[-1]] * (order - len(given))


def _assemble(
    vocabulary: Vocabulary,
    counts: list[NgramCounts],
    discounts: Sequence[Discounts],
    limits: Sequence[int],
    progress: Progress,
) -> NgramModel:
    size, bos = len(vocabulary), vocabulary.bos
    lower = np.full(1, 1.0 / (size - 1))  # the uniform distribution, as the one 0-gram
    states = np.zeros(1, np.int64)  # of the (k-1)-grams that are kept; others have none
    keys, probs, backoffs = list[Ids](), list[Floats](), list[Floats]()
    first = 1  # state of the next order's first n-gram
    for level, discount, limit in zip(counts, discounts, limits, strict=True):
        kept = (level.raw > limit) | (limit == 0)
        own, gamma = _discounted(level, discount, kept, len(lower))
        prob = own + gamma[level.context] * lower[level.suffix]
        if not keys:
            prob[bos] = 1.0  # as lmplz has it: <s> is always there
        keys.append(states[level.context[kept]] * size + level.word[kept])
        probs.append(prob[kept])
        backoffs.append(gamma[states >= 0])
        states = np.where(kept, first + np.cumsum(kept) - 1, -1)
        first += int(kept.sum())
        lower = prob
        progress(len(counts) + len(keys), 2 * len(counts))
    # Orders of which no n-gram is left, as in a text of short sentences, are not part of the model.
    while len(keys) > 1 and not len(keys[-1]):
        del keys[-1], probs[-1], backoffs[-1]
    log10_probs = np.minimum(np.log10(np.concatenate(probs)), 0.0).astype(np.float32)
    log10_backoffs = np.log10(np.concatenate([np.ones(0), *backoffs[1:]])).astype(np.float32)
    return NgramModel(vocabulary, tuple(len(k) for k in keys), np.concatenate(keys), log10_probs, log10_backoffs)


def _discounted(level: NgramCounts, discount: Discounts, kept: Flags, contexts: int) -> tuple[Floats, Floats]:
    """Each n-gram's own share of its context (N,), and what each context leaves to the order below (contexts,)."""
    taken = np.array([0.0, *discount.values])[np.minimum(level.adjusted, 3)]
    total = np.bincount(level.context, level.adjusted, contexts)
    # A cut n-gram leaves all of its count.
    left = np.bincount(level.context, np.where(kept, taken, level.adjusted), contexts)
    # A context that nothing follows, as </s> is, leaves everything.
    gamma = np.divide(left, total, out=np.ones(contexts), where=total > 0)
    return (level.adjusted - taken) / total[level.context], gamma
