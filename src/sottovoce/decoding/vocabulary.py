"""What a language model's tokens are: a list of words, or sentencepiece units; both inside the packed file.

Token 0 is ``</s>``, which ends a sentence, token 1 is ``<unk>``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import sentencepiece

from sottovoce.errors import DataError, FormatError
from sottovoce.packed.language_model import END, UNKNOWN

END_WORD, UNKNOWN_WORD = "</s>", "<unk>"
_MAGIC = b"words\n"
_LARGEST = 1 << 28  # bytes of a word list: more is damage, or worse


class Vocabulary(Protocol):
    """Text to tokens and back."""

    @property
    def model(self) -> bytes:
        """What the packed file keeps."""

    @property
    def words(self) -> bool:
        """Whether a token is a word, so that perplexity a token is perplexity a word."""

    @property
    def size(self) -> int:
        """Number of tokens, ``</s>`` and ``<unk>`` included."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a sentence, without ``</s>``; what is unknown gives ``<unk>``."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens, ``</s>`` left out. Raises DataError on an id outside the vocabulary."""


class WordList:
    """Words by falling frequency after ``</s>`` and ``<unk>``; text is split at white space.

    Raises FormatError unless those two come first and every entry is one word, once.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self.entries = tuple(entries)
        if self.entries[:2] != (END_WORD, UNKNOWN_WORD):
            raise FormatError(f"vocabulary: expected {END_WORD} and {UNKNOWN_WORD} first, found {self.entries[:2]}")
        bad = next((x for x in self.entries if len(x.split()) != 1 or x != x.strip()), None)
        if bad is not None:
            raise FormatError(f"vocabulary: expected words without white space, found {bad!r}")
        self._ids = {word: i for i, word in enumerate(self.entries)}
        if len(self._ids) != len(self.entries):
            seen: set[str] = set()
            twice = next(x for x in self.entries if x in seen or seen.add(x))  # type: ignore[func-returns-value]
            raise FormatError(f"vocabulary: {twice!r} occurs twice")

    @property
    def words(self) -> bool:
        return True

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def model(self) -> bytes:
        """A mark, then the deflated list, a word a line."""
        return _MAGIC + zlib.compress("\n".join(self.entries).encode(), 9)

    @classmethod
    def from_bytes(cls, model: bytes) -> WordList:
        """Raises FormatError for bytes that ``model`` did not write."""
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(model.removeprefix(_MAGIC), _LARGEST)
            if not unpacker.eof:
                raise FormatError("vocabulary: the word list is cut off or too large")
            return cls(text.decode().split("\n"))
        except (zlib.error, UnicodeDecodeError) as error:
            raise FormatError(f"vocabulary: not a word list ({error})") from error

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, UNKNOWN) for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self.entries[i] for i in _checked(ids, self.size) if i != END)

    def __reduce__(self) -> tuple[type[WordList], tuple[tuple[str, ...]]]:
        return WordList, (self.entries,)


class Pieces:
    """Sentencepiece units: a serialized ``model`` whose id 0 is ``</s>`` and id 1 is unknown.

    Raises FormatError if the model is corrupt or those two are not where they should be.
    """

    def __init__(self, model: bytes) -> None:
        self._model = bytes(model)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
            first = [self._processor.id_to_piece(i) for i in range(min(2, self._processor.vocab_size()))]
        except (RuntimeError, ValueError, TypeError) as error:
            raise FormatError(f"vocabulary: not a sentencepiece model ({' '.join(str(error).split())})") from None
        if first != [END_WORD, UNKNOWN_WORD]:
            raise FormatError(f"vocabulary: expected {END_WORD} and {UNKNOWN_WORD} first, found {first}")

    @property
    def words(self) -> bool:
        return False

    @property
    def model(self) -> bytes:
        return self._model

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text of each token, with the space mark of sentencepiece."""
        return tuple(self._processor.id_to_piece(i) for i in range(self.size))

    @property
    def size(self) -> int:
        return int(self._processor.vocab_size())

    def encode(self, text: str) -> list[int]:
        return list(self._processor.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._processor.decode([i for i in _checked(ids, self.size) if i != END]))

    def __reduce__(self) -> tuple[type[Pieces], tuple[bytes]]:
        return Pieces, (self._model,)


def read_vocabulary(model: bytes) -> Vocabulary:
    """The vocabulary of a packed file. Raises FormatError if it cannot be trusted."""
    if not model:
        raise FormatError("vocabulary: expected one in the model, found none")
    return WordList.from_bytes(model) if model.startswith(_MAGIC) else Pieces(model)


def _checked(ids: Iterable[int], size: int) -> list[int]:
    kept = [int(i) for i in ids]
    bad = next((i for i in kept if not 0 <= i < size), None)
    if bad is not None:
        raise DataError(f"token id {bad} is outside the vocabulary of {size}")
    return kept
