"""Shallow fusion: a language model's log-probabilities in a beam search, and the internal one's taken away.

The score of a hypothesis is log P(tokens | sound) + weight * log P_LM(tokens) - internal * log P_ILM(tokens), ``</s>``
counted by the language model where the hypothesis ends. The internal language model is what the predictor has learned:
the joiner's output with the encoder's contribution set to zero, the blank left out and the rest normalized (Variani,
Rybach, Allauzen and Riley, "Hybrid autoregressive transducer", ICASSP 2020, section 3.2; for the RNN-T: Meng et al.,
"Internal language model estimation for domain-adaptive end-to-end speech recognition", SLT 2021, equation 9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.language_model import LanguageModel, NextToken
from sottovoce.decoding.protocol import BLANK, Floats, Integers, State, Transducer, gather, replace, select
from sottovoce.decoding.scores import Scores
from sottovoce.decoding.tokens import SPACE
from sottovoce.errors import ConfigError


class Reader(Protocol):
    """A language model that reads the recognizer's tokens; M hypotheses at a time, states with them on axis 0."""

    def start(self, n: int) -> State:
        """State of n hypotheses without a token."""

    def read(self, tokens: Integers, state: State) -> State:
        """The states with one token more each, tokens (M,); the old ones stay."""

    def scores(self, state: State) -> Scores:
        """What each next token brings, log-probabilities (M, V) of the recognizer's vocabulary."""

    def final(self, state: State) -> Scores:
        """What ending here brings, log-probabilities (M,)."""


@dataclass(frozen=True, eq=False)
class TokenReader:
    """A model of the recognizer's own pieces: every token is scored as it comes.

    ``tokens`` (V,): the model's id of each of the recognizer's.
    """

    network: NextToken
    tokens: Integers
    end_token: int = 0

    def start(self, n: int) -> State:
        log_probs, state = self.network.step(np.full(n, self.end_token, np.int64), self.network.start(n))
        return (log_probs, *state)

    def read(self, tokens: Integers, state: State) -> State:
        log_probs, after = self.network.step(self.tokens[tokens], state[1:])
        return (log_probs, *after)

    def scores(self, state: State) -> Scores:
        return state[0][:, self.tokens].astype(np.float64)

    def final(self, state: State) -> Scores:
        return state[0][:, self.end_token].astype(np.float64)


@dataclass(frozen=True, eq=False)
class WordReader:
    """A model of words, whatever its own tokens are: a word is scored where it ends.

    A word ends where a piece begins the next one (with the space mark of sentencepiece), so that every such piece
    brings the log-probability of the word before it, and pieces inside words bring nothing; the last word is scored at
    the end of the utterance. Until then a word costs nothing: a narrow beam may keep what begins no likely word.
    ``pieces``: texts of the recognizer's tokens.

    The state: the letters of the word so far, its log-probability should it end here, and the model's state before it.
    """

    model: LanguageModel
    pieces: tuple[str, ...]

    def start(self, n: int) -> State:
        return (np.full(n, "", object), np.zeros(n), *self.model.start(n))

    def read(self, tokens: Integers, state: State) -> State:
        begins = np.array([self.pieces[token].startswith(SPACE) for token in tokens.tolist()])
        history = self._after(state, np.flatnonzero(begins))
        words = np.where(begins, "", state[0])
        for row, token in enumerate(tokens.tolist()):
            words[row] += self.pieces[token].removeprefix(SPACE)
        scores, rows = np.zeros(len(words)), np.flatnonzero(words != "")
        if len(rows):
            scores[rows] = self.model.peek(words[rows].tolist(), select(history, rows))
        return (words, scores, *history)

    def scores(self, state: State) -> Scores:
        begins = np.array([piece.startswith(SPACE) for piece in self.pieces])
        found: Scores = state[1][:, None] * begins
        return found

    def final(self, state: State) -> Scores:
        found: Scores = state[1] + self.model.end(self._after(state, np.arange(len(state[0]))))
        return found

    def _after(self, state: State, rows: Integers) -> State:
        """The model's state with the words of these rows behind it, where there are any."""
        words, history = state[0], state[2:]
        rows = rows[words[rows] != ""]
        if not len(rows):
            return history
        _, after = self.model.step(words[rows].tolist(), select(history, rows))
        return replace(history, rows, after)


@dataclass(eq=False, slots=True)
class Heard:
    """What fusion knows of one hypothesis: ``bonus`` (V,) is what each next token adds to its score, 0 for the blank;
    ``internal`` (V,) the internal model's part of that, which is the predictor's; ``row`` of ``state`` is the reader's;
    ``final`` what is added if it ends, None until it was asked for."""

    bonus: Scores
    internal: Scores
    state: State
    row: int
    final: float | None = None


@dataclass(frozen=True)
class Fusion:
    """``weight`` of the reader's log-probabilities and ``internal``, that of the internal language model's, both in a
    beam search. Raises ConfigError for a weight that is not finite or below 0."""

    reader: Reader
    weight: float
    internal: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("lm_weight", self.weight), ("internal_lm_weight", self.internal)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: expected a finite number of at least 0, found {value}")

    def start(self, model: Transducer, outputs: Floats) -> list[Heard]:
        """Hypotheses without a token; outputs (M, J) of the predictor."""
        return self._heard(self._internal(model, outputs), self.reader.start(len(outputs)))

    def restart(self, heard: Sequence[Heard]) -> list[Heard]:
        """A new sentence for the reader, while the predictor remembers."""
        return self._heard(np.stack([item.internal for item in heard]), self.reader.start(len(heard)))

    def extend(self, model: Transducer, heard: Sequence[Heard], tokens: Integers, outputs: Floats) -> list[Heard]:
        """The same hypotheses with one token more each, tokens (M,), and the outputs (M, J) after them."""
        return self._heard(
            self._internal(model, outputs), self.reader.read(tokens, gather([(item.state, item.row) for item in heard]))
        )

    def _internal(self, model: Transducer, outputs: Floats) -> Scores:
        if not self.internal:
            return np.zeros((len(outputs), model.vocabulary))
        return -self.internal * internal_scores(model, outputs)

    def _heard(self, internal: Scores, state: State) -> list[Heard]:
        bonus = self.weight * self.reader.scores(state) + internal
        bonus[:, BLANK] = 0.0
        return [Heard(row, own, state, i) for i, (row, own) in enumerate(zip(bonus, internal, strict=True))]

    def finals(self, heard: Sequence[Heard]) -> list[float]:
        """What is added to each hypothesis if it ends."""
        unknown = [item for item in heard if item.final is None]
        if unknown:
            found = self.weight * self.reader.final(gather([(item.state, item.row) for item in unknown]))
            for item, final in zip(unknown, found.tolist(), strict=True):
                item.final = final
        return [item.final or 0.0 for item in heard]


def internal_scores(model: Transducer, outputs: Floats) -> Scores:
    """Log-probabilities (M, V) of the internal language model after predictor outputs (M, J); 0 for the blank."""
    found = model.joiner(np.zeros_like(outputs), outputs).astype(np.float64)
    found[:, BLANK] = -np.inf
    found -= found.max(axis=1, keepdims=True)
    # Sums in index order: the bits of a row must not depend on the batch.
    found -= np.log(np.add.accumulate(np.exp(found), axis=1)[:, -1:])
    found[:, BLANK] = 0.0
    return found


def heard_array(heard: Sequence[Heard], shape: tuple[int, ...]) -> NDArray[Any]:
    """As an array of objects."""
    found = np.empty(len(heard), object)
    found[:] = heard
    return found.reshape(shape)
