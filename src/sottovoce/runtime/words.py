"""Words from tokens: when each was said, and how sure the model is of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.decoding.endpoint import frames_to_seconds
from sottovoce.decoding.nbest import Hypothesis
from sottovoce.decoding.tokens import SPACE, Tokenizer


@dataclass(frozen=True)
class Word:
    """A word of a transcript.

    start: seconds, on the stream's clock, at which the encoder frame that emitted its first token begins; end: at which
    the frame of its last token ends. A transducer emits a token once it has heard enough of it, so both lie somewhat
    after the sound. confidence: the geometric mean of its tokens' probabilities, in (0, 1], each given the frame and
    the tokens before. These are the model's own probabilities: neither a blank penalty nor a bonus of hotwords is in
    them, so a word that only won by one of these has a low confidence.
    """

    text: str
    start: float
    end: float
    confidence: float


def words_of(hypothesis: Hypothesis, tokenizer: Tokenizer, frame_seconds: float) -> tuple[Word, ...]:
    """The words of a hypothesis, in order; together they are its text without the spaces."""
    return tuple(
        word
        for group in _groups(hypothesis.tokens, tokenizer)
        for word in _words(hypothesis, group, tokenizer, frame_seconds)
    )


def _groups(tokens: Sequence[int], tokenizer: Tokenizer) -> list[list[int]]:
    """Places of the tokens, cut before each piece that begins with a space."""
    groups: list[list[int]] = []
    for i, token in enumerate(tokens):
        if not groups or tokenizer.pieces[token].startswith(SPACE):
            groups.append([])
        groups[-1].append(i)
    return groups


def _words(hypothesis: Hypothesis, group: list[int], tokenizer: Tokenizer, frame_seconds: float) -> list[Word]:
    """One word of a group as a rule: none of spaces alone, several where a piece holds a space inside."""
    tokens = [hypothesis.tokens[i] for i in group]
    texts = [text for text in tokenizer.decode(tokens).split(" ") if text]
    heard = [hypothesis.times[i] for i, token in zip(group, tokens, strict=True) if tokenizer.pieces[token] != SPACE]
    if not texts or not heard:
        return []
    start, end = frames_to_seconds(heard[0], frame_seconds), frames_to_seconds(heard[-1] + 1, frame_seconds)
    confidence = _geometric_mean([hypothesis.token_log_probs[i] for i in group])
    return [Word(text, start, end, confidence) for text in texts]


def _geometric_mean(log_probs: Sequence[float]) -> float:
    total = 0.0
    for log_prob in log_probs:  # in order: sum() compensates in some versions of Python
        total += log_prob
    return round(math.exp(total / len(log_probs)), 6)
