"""Hotwords: phrases that a beam search favours, found in any hypothesis by an Aho-Corasick automaton over token ids.

The bonus of a token sequence is that of icefall's and sherpa-onnx's context graph: the sum, over every place where the
tokens of a phrase occur, of the phrase's worth; its worth is the sum of its tokens' scores, where a token that several
phrases share at their beginning counts the largest of their scores.

While a match is under way, its tokens are credited so that the beam keeps it, and taken back where it fails or the
utterance ends. icefall credits a phrase that is complete twice until the next token comes, which then costs the worth
again; here the credit is only for what lies beyond the last phrase completed, so that the word after a hotword is not
held back. The sum of the bonus is the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.protocol import BLANK, Integers
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError

Scores = NDArray[np.float64]
ROOT = 0


@dataclass(frozen=True)
class Phrase:
    """Token ids of one hotword, and the score of each of its tokens in nats."""

    tokens: tuple[int, ...]
    score: float


def hotword_lines(hotwords: str | Sequence[str]) -> list[str]:
    """The lines of hotwords; one text of several, as sherpa-onnx takes it, is cut at newlines and slashes."""
    return hotwords.replace("/", "\n").split("\n") if isinstance(hotwords, str) else list(hotwords)


def read_hotwords(lines: Sequence[str], tokenizer: Tokenizer, score: float) -> list[Phrase]:
    """The phrases of lines as sherpa-onnx's hotwords file has them: a word or several, and ``:2.5`` at the end where
    their tokens have another score than ``score``. Empty lines are left out.

    Raises ConfigError for a score that is not a positive number and for words that the tokenizer has no tokens for.
    """
    check_score(score, "hotwords_score")
    return [_read_line(line, tokenizer, score) for line in lines if line.strip()]


def check_score(score: float, name: str) -> None:
    """Raises ConfigError unless the score is a positive, finite number."""
    if not (math.isfinite(score) and score > 0):
        raise ConfigError(f"{name}: expected a positive number of nats a token, found {score}")


def _read_line(line: str, tokenizer: Tokenizer, score: float) -> Phrase:
    words = line.split()
    if words[-1].startswith(":"):
        score = _parse_score(words.pop(), line.strip())
    text = " ".join(words)
    if not text:
        raise ConfigError(f"hotword {line.strip()!r}: expected words before the score")
    ids = tokenizer.encode(text)
    if not ids or tokenizer.unknown in ids:
        raise ConfigError(f"hotword {text!r}: the model's tokenizer has no tokens for it (letter case counts)")
    return Phrase(tuple(ids), score)


def _parse_score(text: str, line: str) -> float:
    try:
        score = float(text[1:])
    except ValueError:
        raise ConfigError(f"hotword {line!r}: expected a number after ':', found {text[1:]!r}") from None
    check_score(score, f"hotword {line!r}")
    return score


class ContextGraph:
    """The automaton. A state is the longest beginning of a phrase that the tokens so far end in; 0 is none."""

    def __init__(self, phrases: Sequence[Phrase], vocabulary: int) -> None:
        """Raises ConfigError for ids outside 1 to vocabulary - 1, an empty phrase or a score that is not positive."""
        self._children: list[dict[int, int]] = [{}]
        scores = [0.0]  # of each state's last token
        ends = [False]
        for phrase in phrases:
            _check(phrase, vocabulary)
            state = ROOT
            for token in phrase.tokens:
                if token not in self._children[state]:
                    self._children[state][token] = len(scores)
                    self._children.append({})
                    scores.append(0.0)
                    ends.append(False)
                state = self._children[state][token]
                scores[state] = max(scores[state], phrase.score)
            ends[state] = True
        self.credit = np.zeros(len(scores))  # float64 (S,) what is taken back if the match ends here
        gains = self._link(scores, ends)
        self._moves = [self._edges(state, gains) for state in range(len(scores))]
        tokens, gained = self._moves[ROOT]
        self._root_gains = np.zeros(vocabulary)
        self._root_gains[tokens] = gained

    def _link(self, scores: list[float], ends: list[bool]) -> Scores:
        """Failure links, credits, and for each state (S,) its credit with the worth of all phrases that end there."""
        count = len(scores)
        self._fail = [ROOT] * count
        worth, won, ended = np.zeros(count), np.zeros(count), np.zeros(count)
        queue = deque([ROOT])
        while queue:
            state = queue.popleft()
            for token, child in self._children[state].items():
                if state != ROOT:
                    self._fail[child] = self._follow(self._fail[state], token)
                worth[child] = worth[state] + scores[child]
                ended[child] = worth[child] if ends[child] else ended[state]
                won[child] = won[self._fail[child]] + (worth[child] if ends[child] else 0.0)
                queue.append(child)
        self.credit = worth - ended
        return self.credit + won

    def _follow(self, state: int, token: int) -> int:
        while token not in self._children[state]:
            if state == ROOT:
                return ROOT
            state = self._fail[state]
        return self._children[state][token]

    def _edges(self, state: int, gains: Scores) -> tuple[Integers, Scores]:
        """Tokens (E,) that lead from this state elsewhere than from the root, and the gains of where they lead."""
        found = dict(self._children[state])
        while self._fail[state] != ROOT:
            state = self._fail[state]
            found = {**self._children[state], **found}
        states = np.array(list(found.values()), np.int64)
        return np.array(list(found), np.int64), gains[states]

    def bonuses(self, state: int) -> Scores:
        """What each token adds in this state, float64 (V,), nats; the blank adds nothing."""
        bonus = self._root_gains.copy()
        tokens, gained = self._moves[state]
        bonus[tokens] = gained
        bonus -= self.credit[state]
        bonus[BLANK] = 0.0
        return bonus

    def step(self, state: int, token: int) -> int:
        """The state after a token; a blank changes nothing."""
        if token == BLANK:
            return state
        return self._follow(state, token)


def _check(phrase: Phrase, vocabulary: int) -> None:
    check_score(phrase.score, "hotword")
    if not phrase.tokens or any(not BLANK < token < vocabulary for token in phrase.tokens):
        raise ConfigError(f"hotword: expected token ids of 1 to {vocabulary - 1}, found {list(phrase.tokens)}")
