"""Probabilities from a packed language model: token by token for a search, or whole sentences at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sottovoce.decoding.prefixes import Level, prefix_levels
from sottovoce.decoding.protocol import Floats, Integers, State, select
from sottovoce.decoding.text import normalization
from sottovoce.decoding.vocabulary import Vocabulary, read_vocabulary
from sottovoce.errors import ConfigError, DataError, FormatError
from sottovoce.packed import LstmLmArchitecture, PackedModel, lm_architecture, load_model
from sottovoce.packed.language_model import END
from sottovoce.runtime.lstm_lm import LstmLmNetwork
from sottovoce.runtime.native_layers import layer_source
from sottovoce.runtime.rules import Arithmetic
from sottovoce.runtime.text_input import CONTEXTS, TextInput
from sottovoce.runtime.transformer_lm import TransformerLmNetwork

Sentence = str | Sequence[int] | Integers
"""Text in the model's normalization, words with spaces between; or token ids. Without ``</s>``."""

_ROWS, _TOKENS = (
    256,
    4096,
)  # sequences, and tokens, that share a pass over the weights: bounds memory, changes no result
_SHARED = 0.75  # of the tokens are left at most, where walking a tree of them pays


class LanguageModelScorer:
    """Scores with one packed model. A sentence begins from ``</s>`` and ends with it.

    On packed matrices activations are int8 and every log-probability is the same bit for bit, whatever its batch,
    token by token or at once, on the kernels or on NumPy. With arithmetic "float" products are NumPy's on decoded
    float32 weights (weight-only figures); "accelerator" is for LSTMs. num_threads is the compiled kernels'.
    ``share_beginnings``: whether sentences that begin alike are read together, which changes the time alone.
    Raises FormatError for a model that cannot run, ConfigError for an option that cannot be used.
    """

    def __init__(
        self,
        model: str | Path | PackedModel,
        *,
        arithmetic: Arithmetic = "int8",
        num_threads: int = 1,
        share_beginnings: bool = True,
    ) -> None:
        self.share_beginnings = share_beginnings
        if isinstance(model, PackedModel):
            self._read(model, arithmetic, num_threads)
            return
        packed = load_model(Path(model))
        try:
            self._read(packed, arithmetic, num_threads)
        except FormatError as error:
            raise FormatError(f"{model}: {error}") from error

    def _read(self, model: PackedModel, arithmetic: Arithmetic, num_threads: int) -> None:
        a = self.architecture = lm_architecture(model.architecture)
        if arithmetic == "accelerator" and not isinstance(a, LstmLmArchitecture):
            raise ConfigError(
                "arithmetic: the accelerator's has gates and no attention: a Transformer needs int8 or float"
            )
        self.input = TextInput.from_dict(model.input)
        self._normalize = normalization(self.input.normalization)
        self.vocabulary: Vocabulary = read_vocabulary(model.tokenizer or b"")
        if self.vocabulary.size != a.vocabulary:
            raise FormatError(
                f"vocabulary: expected {a.vocabulary} tokens as in the network, found {self.vocabulary.size}"
            )
        self._source = layer_source(model, arithmetic=arithmetic, num_threads=num_threads)
        self.network: LstmLmNetwork | TransformerLmNetwork = (
            LstmLmNetwork(a, self._source)
            if isinstance(a, LstmLmArchitecture)
            else TransformerLmNetwork(a, self._source)
        )
        self._output = self._source.output("output", a.vocabulary, a.width)

    @property
    def kernel(self) -> str:
        """What multiplies: a path of the kernels, or "numpy"."""
        return self._source.kernel

    def normalize(self, text: str) -> str:
        """Text as it stands in a corpus, in the form that the model was trained on."""
        return self._normalize(text)

    def start(self, n: int) -> State:
        """State of n hypotheses that have seen nothing; the first step takes token 0, ``</s>``.

        Arrays whose axis 0 is the hypothesis, as a search wants them.
        """
        return self.network.start(n)

    def step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        """tokens int64 (N,) -> log-probabilities of the next token, float32 (N, V) in nats, and the new state.

        The old state is left as it was. Raises DataError for a token outside the vocabulary.
        """
        tokens = self._checked(tokens)
        hidden, after = self.network.read(tokens, np.ones(len(tokens), np.int64), state)
        return self._output(hidden), after

    def score(self, sentences: Sequence[Sentence], history: Sequence[Sentence] = ()) -> list[Floats]:
        """Log-probabilities of each sentence's tokens and its ``</s>``, float32 (tokens + 1,) in nats.

        ``history``: the sentences before, in order, the same for all of these (the hypotheses of one utterance); it is
        read once. Raises DataError for a token outside the vocabulary.
        """
        rows = [_opened(self._ids(sentence)) for sentence in sentences]
        return self.score_rows(rows, self._state_after(history), np.zeros(len(rows), np.int64))

    def score_rows(self, rows: Sequence[Integers], state: State, origins: Integers) -> list[Floats]:
        """Log-probabilities of the tokens that follow the first of each row, and of ``</s>``, float32 (tokens,).

        Row i, token ids int64 (tokens,), is read after state ``origins[i]``. Beginnings that neighbours share are read
        once where that saves a quarter of the tokens; no number depends on it.
        """
        found: list[Floats] = [np.empty(0, np.float32)] * len(rows)
        for start in range(0, len(rows), _ROWS):
            part, roots = rows[start : start + _ROWS], origins[start : start + _ROWS]
            levels = list(prefix_levels(part, roots)) if self.share_beginnings else []
            if sum(len(level.tokens) for level in levels) <= _SHARED * sum(map(len, part)) and levels:
                found[start : start + _ROWS] = self._score_tree(part, levels, state)
            else:
                for group in _groups([len(row) for row in part]):
                    scores = self._score([part[i] for i in group], select(state, roots[group]))
                    for i, row in zip(group, scores, strict=True):
                        found[start + i] = row
        return found

    def _score_tree(self, rows: Sequence[Integers], levels: Sequence[Level], state: State) -> list[Floats]:
        """``score_rows`` along a prefix tree: each beginning is read once, and its distribution made once."""
        lengths = np.array([len(row) for row in rows])
        ends = np.cumsum(lengths)
        targets = np.concatenate([_followers(row) for row in rows])
        hidden, nodes, before = list[Floats](), np.empty(len(targets), np.int64), 0
        for place, level in enumerate(levels):
            output, state = self.network.read(
                level.tokens, np.ones(len(level.tokens), np.int64), select(state, level.parents)
            )
            nodes[(ends - lengths)[level.rows] + place] = before + level.nodes
            before += len(level.tokens)
            hidden.append(output)
        order = np.argsort(nodes, kind="stable")
        found = np.empty(len(targets), np.float32)
        found[order] = self._output.at(np.concatenate(hidden), nodes[order], targets[order])
        return np.split(found, ends[:-1])

    def score_conversations(self, conversations: Sequence[Sequence[Sentence]]) -> list[list[Floats]]:
        """As ``score``, each sentence with all those before it in its conversation as its history."""
        ids = [[self._ids(sentence) for sentence in conversation] for conversation in conversations]
        rows = [np.concatenate([_opened(x) for x in conversation] or [np.empty(0, np.int64)]) for conversation in ids]
        found: list[list[Floats]] = [[] for _ in rows]
        for group in _groups([len(row) for row in rows]):
            scores = self._score([rows[i] for i in group], self.start(len(group)))
            for i, row in zip(group, scores, strict=True):
                found[i] = np.split(row, np.cumsum([len(x) + 1 for x in ids[i]])[:-1]) if ids[i] else []
        return found

    def score_text(self, conversations: Sequence[Sequence[Sentence]], context: str | None = None) -> list[list[Floats]]:
        """As ``score_conversations``, or each sentence alone, as the model was trained or ``context`` says
        ("sentence", "conversation")."""
        chosen = context or self.input.context
        if chosen not in CONTEXTS:
            raise ConfigError(f"context: expected {' or '.join(CONTEXTS)}, found {chosen!r}")
        if chosen == "conversation":
            return self.score_conversations(conversations)
        alone = iter(self.score([sentence for conversation in conversations for sentence in conversation]))
        return [[next(alone) for _ in conversation] for conversation in conversations]

    def _score(self, rows: list[Integers], state: State) -> list[Floats]:
        """``score_rows``, row i after state i. Long rows are read piece by piece."""
        found: list[list[Floats]] = [[] for _ in rows]
        targets = [_followers(row) for row in rows]
        piece = max(16, _TOKENS // max(1, len(rows)))
        for start in range(0, max((len(row) for row in rows), default=0), piece):
            now = slice(start, start + piece)
            parts = [row[now] for row in rows]
            lengths = np.array([len(p) for p in parts], np.int64)
            hidden, state = self.network.read(np.concatenate(parts), lengths, state)
            scores = self._output.at(hidden, np.arange(len(hidden)), np.concatenate([t[now] for t in targets]))
            for i, part in enumerate(np.split(scores, np.cumsum(lengths)[:-1])):
                found[i].append(part)
        return [np.concatenate(parts) if parts else np.empty(0, np.float32) for parts in found]

    def _state_after(self, history: Sequence[Sentence]) -> State:
        state = self.start(1)
        if not history:
            return state
        tokens = np.concatenate([_opened(self._ids(sentence)) for sentence in history])
        for start in range(0, len(tokens), _TOKENS):
            part = tokens[start : start + _TOKENS]
            _, state = self.network.read(part, np.array([len(part)]), state)
        return state

    def _ids(self, sentence: Sentence) -> Integers:
        ids = self.vocabulary.encode(sentence) if isinstance(sentence, str) else sentence
        return self._checked(np.asarray(ids, np.int64))

    def _checked(self, tokens: Integers) -> Integers:
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.architecture.vocabulary)]
        if len(wrong):
            raise DataError(f"token id {wrong[0]} is outside the vocabulary of {self.architecture.vocabulary}")
        return tokens


def _opened(ids: Integers) -> Integers:
    return np.concatenate([np.array([END], np.int64), ids])


def _followers(row: Integers) -> Integers:
    """The token after each; ``</s>`` after the last."""
    return np.append(row[1:], np.full(min(1, len(row)), END))


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of similar lengths together, the shortest first."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for start in range(0, len(order), _ROWS):
        yield order[start : start + _ROWS]
