"""What a packed language model makes of a split: the file itself is run, never the float model that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from sottovoce.data.text import Conversation, TextCorpus
from sottovoce.decoding.vocabulary import Vocabulary, WordList
from sottovoce.errors import DataError
from sottovoce.evaluation import SentenceScore
from sottovoce.ngram import NgramModel, Sentences
from sottovoce.progress import Progress
from sottovoce.runtime import LanguageModelScorer
from sottovoce.runtime.rules import Arithmetic

_CONVERSATIONS = 64  # scored at once: bounds memory, changes no result


def score_split(
    model: Path,
    corpus: TextCorpus,
    split: str,
    *,
    context: str | None = None,
    arithmetic: Arithmetic = "int8",
    num_threads: int = 1,
    progress: Progress | None = None,
) -> list[SentenceScore]:
    """Log-probabilities of the runtime for one split; ``context`` "sentence" or "conversation", by default as the model
    was trained. ``progress`` is told how many conversations of how many are done.

    Raises FormatError for a file that cannot run, DataError for text of another normalization.
    """
    scorer = LanguageModelScorer(model, arithmetic=arithmetic, num_threads=num_threads)
    if corpus.normalization != scorer.input.normalization:
        raise DataError(
            f"{model}: expected text normalized as {scorer.input.normalization!r}, "
            f"found {corpus.name} as {corpus.normalization!r}"
        )
    found: list[SentenceScore] = []
    conversations, done = corpus.split(split), 0
    for some in _some(conversations):
        scores = scorer.score_text([conversation.sentences for conversation in some], context)
        for conversation, rows in zip(some, scores, strict=True):
            found += [
                SentenceScore(f"{conversation.id}-{i}", conversation.id, len(sentence.split()) + 1, row)
                for i, (sentence, row) in enumerate(zip(conversation.sentences, rows, strict=True))
            ]
        done += len(some)
        if progress is not None:
            progress(done, len(conversations))
    return found


def ngram_scores(model: NgramModel, vocabulary: Vocabulary, corpus: TextCorpus, split: str) -> list[SentenceScore]:
    """As ``score_split``, by an n-gram model of the same words; a sentence begins anew.

    Raises DataError where the n-gram model has other words than the vocabulary.
    """
    if not isinstance(vocabulary, WordList):
        raise DataError("n-gram: expected a language model of words to mix with, found sentencepiece units")
    ids = model.vocabulary.map_to(vocabulary.entries)
    conversations = corpus.split(split)
    sentences = Sentences.of(ids[vocabulary.encode(s)] for c in conversations for s in c.sentences)
    rows = iter(np.split(model.score(sentences).astype(np.float32), np.cumsum(sentences.tokens)[:-1]))
    return [
        SentenceScore(f"{c.id}-{i}", c.id, len(s.split()) + 1, next(rows))
        for c in conversations
        for i, s in enumerate(c.sentences)
    ]


def _some(conversations: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    rest = iter(conversations)
    while some := list(islice(rest, _CONVERSATIONS)):
        yield some
