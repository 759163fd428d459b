"""Language models of any file, with the one face that a second pass and a beam search ask for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sottovoce.decoding.language_model import LanguageModel, NgramLanguageModel, TokenModel
from sottovoce.decoding.vocabulary import UNKNOWN_WORD
from sottovoce.errors import FormatError
from sottovoce.ngram import load_ngram
from sottovoce.ngram.files import BINARY
from sottovoce.packed.container import read_container
from sottovoce.packed.language_model import UNKNOWN
from sottovoce.runtime.rules import Arithmetic
from sottovoce.runtime.scorer import LanguageModelScorer

_IN_A_RUN = "model.safetensors"


def read_language_model(
    path: str | Path, *, arithmetic: Arithmetic = "int8", num_threads: int = 1
) -> TokenModel | NgramLanguageModel:
    """A packed language model, as a file or in a run's folder, or n-grams, ARPA (.gz too) or binary.

    A packed model reads words in the normalization that it was trained on; n-grams read them as they are. arithmetic
    and num_threads are the packed model's. Raises FormatError for a file that cannot be used, DataError for one that
    cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / _IN_A_RUN
    if not str(path).endswith(BINARY) or _is_ngram(path):
        return NgramLanguageModel(load_ngram(path))
    return token_model(LanguageModelScorer(path, arithmetic=arithmetic, num_threads=num_threads))


def token_model(scorer: LanguageModelScorer) -> TokenModel:
    """The scorer as a model of words, each in the normalization of its training text; ``<unk>``, which a normalization
    may take for a noise, is the unknown token."""

    @cache
    def encode(word: str) -> tuple[int, ...]:
        if word.lower() == UNKNOWN_WORD:
            return (UNKNOWN,)
        return tuple(scorer.vocabulary.encode(scorer.normalize(word)))

    return TokenModel(scorer, encode, score_rows=scorer.score_rows)


def knows(model: LanguageModel, word: str) -> bool:
    """Whether the model has the word, or pieces of it, rather than ``<unk>`` alone."""
    if isinstance(model, NgramLanguageModel):
        return word in model.ngrams.vocabulary.ids
    return not isinstance(model, TokenModel) or UNKNOWN not in model.encode(word)


def _is_ngram(path: Path) -> bool:
    try:
        return read_container(path).fields.get("content") == "ngram"
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
