"""Log-probabilities of many sentences with shared beginnings, such as n-best lists: each beginning is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.decoding.language_model import LanguageModel
from sottovoce.decoding.protocol import Integers, State, select
from sottovoce.decoding.scores import Scores
from sottovoce.errors import ConfigError

BATCH = 256


def score_sentences(
    model: LanguageModel,
    sentences: Sequence[Sequence[str]],
    *,
    starts: State | None = None,
    origins: Sequence[int] | None = None,
    batch: int = BATCH,
) -> Scores:
    """Natural log-probability of each sentence with its ``</s>``, float64 (N,).

    ``starts``: states of histories to begin from (``read_history``), and ``origins`` (N,) the one of each sentence, 0
    where not given; without them sentences begin anew. At most ``batch`` sentences are worked on at once, neighbours
    together, so that n-best lists in a row share their beginnings. Raises ConfigError for a batch below 1.
    """
    if batch < 1:
        raise ConfigError(f"batch: expected at least 1, found {batch}")
    begin = model.start(1) if starts is None else starts
    roots = np.zeros(len(sentences), np.int64) if origins is None else np.asarray(origins, np.int64)
    scores = np.empty(len(sentences))
    for first in range(0, len(sentences), batch):
        rows = slice(first, first + batch)
        scores[rows] = _score(model, sentences[rows], select(begin, roots[rows]), roots[rows])
    return scores


@dataclass
class _Level:
    """The different beginnings of one length: each one's own beginning, as a row, and last word; and what ends here."""

    parents: list[int]
    words: list[str]
    ended: list[tuple[int, int]]  # sentence, row


def _score(model: LanguageModel, sentences: Sequence[Sequence[str]], state: State, roots: Integers) -> Scores:
    distinct, rows = np.unique(roots, return_index=True)
    state = select(state, rows)
    totals, found = np.zeros(len(distinct)), np.empty(len(sentences))
    for level in _levels(sentences, np.searchsorted(distinct, roots).tolist()):
        if level.words:
            parents = np.array(level.parents, np.int64)
            scores, state = model.step(level.words, select(state, parents))
            totals = totals[parents] + scores
        if level.ended:
            places, ending = np.array(level.ended, np.int64).T
            once, back = np.unique(ending, return_inverse=True)
            found[places] = (totals[once] + model.end(select(state, once)))[back]
    return found


def _levels(sentences: Sequence[Sequence[str]], rows: list[int]) -> list[_Level]:
    """A prefix tree, level by level; level 0 has the roots, whose rows are given."""
    levels = [_Level([], [], [(i, rows[i]) for i, sentence in enumerate(sentences) if not sentence])]
    for place in range(max(map(len, sentences), default=0)):
        level, known = _Level([], [], []), dict[tuple[int, str], int]()
        for i, sentence in enumerate(sentences):
            if len(sentence) <= place:
                continue
            key = rows[i], sentence[place]
            if key not in known:
                known[key] = len(level.words)
                level.parents.append(rows[i])
                level.words.append(sentence[place])
            rows[i] = known[key]
            if len(sentence) == place + 1:
                level.ended.append((i, rows[i]))
        levels.append(level)
    return levels
