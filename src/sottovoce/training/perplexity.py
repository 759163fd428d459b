"""What a packed language model makes of a split: the file itself is run, never the float model that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from sottovoce.data.text import Conversation, TextCorpus
from sottovoce.errors import DataError
from sottovoce.evaluation import SentenceScore
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
) -> list[SentenceScore]:
    """Log-probabilities of the runtime for one split; ``context`` "sentence" or "conversation", by default as the model
    was trained.

    Raises FormatError for a file that cannot run, DataError for text of another normalization.
    """
    scorer = LanguageModelScorer(model, arithmetic=arithmetic, num_threads=num_threads)
    if corpus.normalization != scorer.input.normalization:
        raise DataError(
            f"{model}: expected text normalized as {scorer.input.normalization!r}, "
            f"found {corpus.name} as {corpus.normalization!r}"
        )
    found: list[SentenceScore] = []
    for some in _some(corpus.split(split)):
        scores = scorer.score_text([conversation.sentences for conversation in some], context)
        for conversation, rows in zip(some, scores, strict=True):
            found += [
                SentenceScore(f"{conversation.id}-{i}", conversation.id, len(sentence.split()) + 1, row)
                for i, (sentence, row) in enumerate(zip(conversation.sentences, rows, strict=True))
            ]
    return found


def _some(conversations: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    rest = iter(conversations)
    while some := list(islice(rest, _CONVERSATIONS)):
        yield some
