"""Which way a language model of any file reads a recognizer's tokens in its beam search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sottovoce.decoding.fusion import Fusion, Reader, TokenReader, WordReader
from sottovoce.decoding.language_model import NgramLanguageModel, TokenModel
from sottovoce.decoding.protocol import BLANK, Floats, Integers, State
from sottovoce.decoding.tokens import SPACE, Tokenizer
from sottovoce.decoding.vocabulary import Pieces
from sottovoce.errors import ConfigError
from sottovoce.ngram import NgramModel
from sottovoce.packed.language_model import UNKNOWN
from sottovoce.runtime.language_models import read_language_model
from sottovoce.runtime.rules import Arithmetic
from sottovoce.runtime.scorer import LanguageModelScorer

LM_WEIGHT = 0.3


def check_unused(weight: float | None, internal: float) -> None:
    """Raises ConfigError for a weight without the language model that it is of."""
    if weight is not None:
        raise ConfigError("lm_weight: expected lm, the language model that it is the weight of")
    if internal:
        raise ConfigError("internal_lm_weight: expected lm, a language model in the place of the internal one")


def make_fusion(
    lm: str | Path,
    tokenizer: Tokenizer,
    *,
    weight: float,
    internal: float = 0.0,
    arithmetic: Arithmetic = "int8",
    num_threads: int = 1,
) -> Fusion:
    """Fusion with the model in a file or run folder. A model whose own tokens include all of the recognizer's pieces
    scores token by token; any other one scores words where they end.

    Raises FormatError or DataError as ``read_language_model`` does, ConfigError for weights that cannot be used.
    """
    model = read_language_model(lm, arithmetic=arithmetic, num_threads=num_threads)
    return Fusion(token_reader(model, tokenizer) or WordReader(model, tuple(tokenizer.pieces)), weight, internal)


def token_reader(model: TokenModel | NgramLanguageModel, tokenizer: Tokenizer) -> Reader | None:
    """A reader token by token, where the model has the recognizer's pieces, one of which begins a word."""
    if isinstance(model, NgramLanguageModel):
        words = model.ngrams.vocabulary
        tokens = _matched(words.ids, words.unk, tokenizer)
        return None if tokens is None else TokenReader(_NgramTokens(model.ngrams), tokens, words.eos)
    scorer = model.network
    if not isinstance(scorer, LanguageModelScorer) or not isinstance(scorer.vocabulary, Pieces):
        return None
    tokens = _matched({piece: i for i, piece in enumerate(scorer.vocabulary.pieces)}, UNKNOWN, tokenizer)
    return None if tokens is None else TokenReader(scorer, tokens)


def _matched(ids: Mapping[str, int], unknown: int, tokenizer: Tokenizer) -> Integers | None:
    """The model's id of each of the recognizer's tokens (V,), or None where it lacks one."""
    spoken = [i for i in range(tokenizer.vocabulary) if i not in (BLANK, tokenizer.unknown)]
    pieces: Sequence[str] = tokenizer.pieces
    if not all(pieces[i] in ids for i in spoken) or not any(pieces[i].startswith(SPACE) for i in spoken):
        return None
    found = np.full(tokenizer.vocabulary, unknown, np.int64)
    found[spoken] = [ids[pieces[i]] for i in spoken]
    return found


@dataclass(frozen=True)
class _NgramTokens:
    """n-grams of pieces as a network that predicts the next one."""

    ngrams: NgramModel

    def start(self, n: int) -> State:
        return (np.full(n, self.ngrams.start, np.int64),)

    def step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        """tokens (N,) -> log-probabilities of the next one, float32 (N, V), and the state; ``</s>`` begins anew."""
        _, after = self.ngrams.step(state[0], tokens)
        after = np.where(tokens == self.ngrams.vocabulary.eos, self.ngrams.start, after)
        return self.ngrams.distribution(after).astype(np.float32), (after,)
