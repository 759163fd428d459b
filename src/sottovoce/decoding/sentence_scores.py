"""Log-probabilities of many sentences with shared beginnings, such as n-best lists: each beginning is read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from sottovoce.decoding.prefixes import prefix_levels
from sottovoce.decoding.protocol import Integers, State, replace, select
from sottovoce.decoding.scores import Scores
from sottovoce.errors import ConfigError

BATCH = 256
SENTENCE_END = "</s>"

Sentences = Sequence[Sequence[str]]


class Steps(Protocol):
    """The part of a ``LanguageModel`` that reads word by word."""

    def step(self, words: Sequence[str], state: State) -> tuple[Scores, State]: ...
    def end(self, state: State) -> Scores: ...


class Model(Steps, Protocol):
    """And the part that scores whole sentences."""

    def start(self, n: int) -> State: ...
    def score(self, sentences: Sentences, state: State, origins: Integers) -> list[Scores]: ...


def word_scores(
    model: Model,
    sentences: Sentences,
    *,
    starts: State | None = None,
    origins: Sequence[int] | Integers | None = None,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> list[Scores]:
    """Natural log-probabilities of each sentence's words and its ``</s>``, float64 (words + 1,).

    ``starts``: states of histories to begin from (``read_history``), and ``origins`` (N,) the one of each sentence, 0
    where not given; without them sentences begin anew. At most ``batch`` sentences are worked on at once, neighbours
    together, so that n-best lists in a row share their beginnings; ``progress`` is told how many are done. Raises
    ConfigError for a batch below 1, DataError for a word that the model cannot score.
    """
    if batch < 1:
        raise ConfigError(f"batch: expected at least 1, found {batch}")
    begin = model.start(1) if starts is None else starts
    roots = np.zeros(len(sentences), np.int64) if origins is None else np.asarray(origins, np.int64)
    found: list[Scores] = []
    for first in range(0, len(sentences), batch):
        rows = slice(first, first + batch)
        found += model.score(sentences[rows], begin, roots[rows])
        if progress is not None:
            progress(len(found))
    return found


def score_sentences(
    model: Model,
    sentences: Sentences,
    *,
    starts: State | None = None,
    origins: Sequence[int] | Integers | None = None,
    batch: int = BATCH,
) -> Scores:
    """Natural log-probability of each sentence with its ``</s>``, float64 (N,): the sums of ``word_scores``."""
    found = word_scores(model, sentences, starts=starts, origins=origins, batch=batch)
    return np.array([scores.sum() for scores in found], np.float64)


def score_by_steps(model: Steps, sentences: Sentences, state: State, origins: Integers) -> list[Scores]:
    """What ``word_scores`` gives, by a walk down a prefix tree: one step a level, for every beginning that differs."""
    ids: dict[str, int] = {}
    rows = [np.array([ids.setdefault(word, len(ids)) for word in sentence], np.int64) for sentence in sentences]
    words = list(ids)
    distinct, roots = np.unique(origins, return_inverse=True)
    state, nodes = select(state, distinct), roots.reshape(-1)
    found = [np.empty(len(row) + 1) for row in rows]
    lengths = np.array([len(row) for row in rows], np.int64)
    _end(model, state, nodes, np.flatnonzero(lengths == 0), found)
    for place, level in enumerate(prefix_levels(rows, nodes)):
        scores, state = model.step([words[token] for token in level.tokens], select(state, level.parents))
        for row, score in zip(level.rows.tolist(), scores[level.nodes].tolist(), strict=True):
            found[row][place] = score
        nodes[level.rows] = level.nodes
        _end(model, state, nodes, np.flatnonzero(lengths == place + 1), found)
    return found


def _end(model: Steps, state: State, nodes: Integers, rows: Integers, found: list[Scores]) -> None:
    """Score the end of the sentences ``rows``, which stand at ``nodes`` of these histories."""
    if not len(rows):
        return
    ending, back = np.unique(nodes[rows], return_inverse=True)
    scores = model.end(select(state, ending))[back.reshape(-1)]
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        found[row][-1] = score


def read_sentences(model: Steps, state: State, sentences: Sentences) -> State:
    """The states of N histories, each with its sentence and ``</s>`` behind it; the old states stay."""
    texts = [(*sentence, SENTENCE_END) for sentence in sentences]
    for place in range(max(map(len, texts), default=0)):
        rows = np.flatnonzero([len(text) > place for text in texts])
        _, after = model.step([texts[row][place] for row in rows], select(state, rows))
        state = replace(state, rows, after)
    return state
