"""What a second pass asks of a language model, and how models of other faces come to offer it.

Words are texts here, so that models with different tokens can score the same hypotheses and be mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.decoding.protocol import replace as replace_rows
from sottovoce.decoding.scores import Scores
from sottovoce.decoding.sentence_scores import SENTENCE_END, Sentences, read_sentences, score_by_steps
from sottovoce.errors import ConfigError
from sottovoce.ngram import NgramModel


class LanguageModel(Protocol):
    """A model that reads words one after another; N histories at a time. Log-probabilities are natural, float64."""

    def start(self, n: int) -> State:
        """State of n histories at the beginning of a sentence: arrays whose axis 0 is the history."""

    def step(self, words: Sequence[str], state: State) -> tuple[Scores, State]:
        """Log-probabilities (N,) of N words after N histories, and the histories with them; the old state stays.

        ``</s>`` is a word too: what follows it is the next sentence of a conversation.
        """

    def peek(self, words: Sequence[str], state: State) -> Scores:
        """The log-probabilities of ``step`` alone, for less: of many words that are tried, few go on."""

    def end(self, state: State) -> Scores:
        """Log-probabilities (N,) of ``</s>``."""

    def score(self, sentences: Sentences, state: State, origins: Integers) -> list[Scores]:
        """Log-probabilities of each sentence's words and its ``</s>``, (words + 1,); sentence i goes on from history
        ``origins[i]`` of the state. The numbers are those of ``step`` and ``end``."""


class NextToken(Protocol):
    """A neural model that reads a token and predicts the next one (``runtime.LanguageModelScorer``)."""

    def start(self, n: int) -> State:
        """State of n hypotheses that have seen nothing; the first token is ``</s>``."""

    def step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        """tokens (N,) -> log-probabilities of the next one (N, V), and the new state."""


ScoreRows = Callable[[Sequence[Integers], State, Integers], list[Floats]]
"""Rows of tokens, states of a ``NextToken``, and which of them each row goes on from -> the log-probability of every
token after the first of its row, and of ``</s>``, (tokens,) each."""


@dataclass(frozen=True)
class TokenModel:
    """A language model over a ``NextToken``; ``encode`` gives the tokens of one word, ``end_token`` is ``</s>``.

    The log-probability of a word is the sum over its tokens; a word without any (a noise that the model's text does not
    have) costs nothing and is passed over. The state holds the distribution of the next token, so that each history is
    read once, whatever number of words is tried after it. ``score_rows``: a quicker way to the numbers of whole
    sentences, where the network has one.
    """

    network: NextToken
    encode: Callable[[str], Sequence[int]]
    end_token: int = 0
    score_rows: ScoreRows | None = None

    def start(self, n: int) -> State:
        log_probs, state = self.network.step(np.full(n, self.end_token, np.int64), self.network.start(n))
        return (log_probs, *state)

    def step(self, words: Sequence[str], state: State) -> tuple[Scores, State]:
        return self._walk(words, state, unread=0)

    def peek(self, words: Sequence[str], state: State) -> Scores:
        return self._walk(words, state, unread=1)[0]

    def _walk(self, words: Sequence[str], state: State, unread: int) -> tuple[Scores, State]:
        """Scores of the words, and the states after all but so many of the last tokens of each."""
        tokens = [self._tokens(word) for word in words]
        lengths = np.array([len(row) for row in tokens], np.int64)
        scores = np.zeros(len(words))
        for place in range(int(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > place)
            ids = np.array([tokens[row][place] for row in rows], np.int64)
            scores[rows] += state[0][rows, ids]
            ids, rows = ids[lengths[rows] > place + unread], rows[lengths[rows] > place + unread]
            if not len(rows):
                continue
            log_probs, after = self.network.step(ids, tuple(array[rows] for array in state[1:]))
            state = (log_probs, *after) if len(rows) == len(words) else replace_rows(state, rows, (log_probs, *after))
        return scores, state

    def end(self, state: State) -> Scores:
        return state[0][:, self.end_token].astype(np.float64)

    def score(self, sentences: Sentences, state: State, origins: Integers) -> list[Scores]:
        if self.score_rows is None:
            return score_by_steps(self, sentences, state, origins)
        known = {word: self._tokens(word) for sentence in sentences for word in sentence}
        words = [[known[word] for word in sentence] for sentence in sentences]
        rows = [np.array([token for tokens in row for token in tokens], np.int64) for row in words]
        firsts = np.array([row[0] if len(row) else self.end_token for row in rows], np.int64)
        first = state[0][origins, firsts]
        rest = self.score_rows(rows, state[1:], origins)
        return [
            _of_words(np.concatenate([one[None], others]).astype(np.float64), [len(tokens) for tokens in row])
            for one, others, row in zip(first, rest, words, strict=True)
        ]

    def _tokens(self, word: str) -> Sequence[int]:
        return [self.end_token] if word == SENTENCE_END else self.encode(word)


def _of_words(scores: Scores, lengths: Sequence[int]) -> Scores:
    """Sums over the tokens of each word, and the last one, of ``</s>``, as it is."""
    if all(length == 1 for length in lengths):
        return scores
    edges = np.concatenate([[0], np.cumsum(lengths)])
    running = np.concatenate([[0.0], np.cumsum(scores)])
    return np.append(running[edges[1:]] - running[edges[:-1]], scores[-1])


@dataclass(frozen=True)
class NgramLanguageModel:
    """A language model over back-off n-grams; a word outside their vocabulary is ``<unk>``."""

    ngrams: NgramModel

    def start(self, n: int) -> State:
        return (np.full(n, self.ngrams.start, np.int64),)

    def step(self, words: Sequence[str], state: State) -> tuple[Scores, State]:
        vocabulary = self.ngrams.vocabulary
        ids = np.array([vocabulary.ids.get(word, vocabulary.unk) for word in words], np.int64)
        scores, after = self.ngrams.step(state[0], ids)
        return scores, (np.where(ids == vocabulary.eos, self.ngrams.start, after),)

    def peek(self, words: Sequence[str], state: State) -> Scores:
        return self.step(words, state)[0]

    def end(self, state: State) -> Scores:
        return self.ngrams.step(state[0], self.ngrams.vocabulary.eos)[0]

    def score(self, sentences: Sentences, state: State, origins: Integers) -> list[Scores]:
        return score_by_steps(self, sentences, state, origins)


@dataclass(frozen=True)
class Interpolated:
    """Models mixed linearly: P(w | h) = sum over k of weights[k] P_k(w | h); the weights are positive and sum to one.

    Raises ConfigError for other weights.
    """

    models: tuple[LanguageModel, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        good = len(self.models) == len(self.weights) and all(weight > 0 for weight in self.weights)
        if not self.models or not good or abs(sum(self.weights) - 1) > 1e-6:
            raise ConfigError(
                f"interpolation: expected a positive weight for each of {len(self.models)} models, together 1, "
                f"found {self.weights}"
            )

    def start(self, n: int) -> State:
        return tuple(array for model in self.models for array in model.start(n))

    def step(self, words: Sequence[str], state: State) -> tuple[Scores, State]:
        found = [model.step(words, part) for model, part in zip(self.models, self._parts(state), strict=True)]
        return self._mixed([scores for scores, _ in found]), tuple(array for _, after in found for array in after)

    def peek(self, words: Sequence[str], state: State) -> Scores:
        return self._mixed([model.peek(words, x) for model, x in zip(self.models, self._parts(state), strict=True)])

    def end(self, state: State) -> Scores:
        return self._mixed([model.end(part) for model, part in zip(self.models, self._parts(state), strict=True)])

    def score(self, sentences: Sentences, state: State, origins: Integers) -> list[Scores]:
        found = [
            model.score(sentences, part, origins) for model, part in zip(self.models, self._parts(state), strict=True)
        ]
        return [self._mixed(rows) for rows in zip(*found, strict=True)]

    def _mixed(self, scores: Sequence[Scores]) -> Scores:
        total: Scores = np.logaddexp.reduce(np.stack(scores) + np.log(self.weights)[:, None], axis=0)
        return total

    @cached_property
    def _widths(self) -> tuple[int, ...]:
        return tuple(len(model.start(1)) for model in self.models)

    def _parts(self, state: State) -> list[State]:
        edges = np.cumsum([0, *self._widths]).tolist()
        return [state[first:last] for first, last in pairwise(edges)]


def read_history(model: LanguageModel, sentences: Sentences) -> State:
    """The state of one history after the sentences of a conversation so far, each with its end; (1, ...) arrays."""
    state = model.start(1)
    for sentence in sentences:
        state = read_sentences(model, state, [sentence])
    return state
