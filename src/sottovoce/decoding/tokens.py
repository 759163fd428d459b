"""Token ids to text and back, from the sentencepiece model inside a packed file."""

from __future__ import annotations

from collections.abc import Iterable

import sentencepiece

from sottovoce.errors import DataError, FormatError

BLANK_PIECE = "<blk>"
SPACE = "▁"
"""What stands for a space in pieces."""


class Tokenizer:
    """A sentencepiece ``model`` (serialized proto) whose id 0 is the blank ``<blk>``.

    Raises FormatError if the model is corrupt or id 0 is not a blank.
    """

    def __init__(self, model: bytes) -> None:
        self.model = bytes(model)
        self._processor, self.pieces = _load(self.model)
        self.vocabulary = len(self.pieces)
        self.unknown = int(self._processor.unk_id())
        """What stands for characters that there is no piece for."""
        if self.pieces[0] != BLANK_PIECE or not self._processor.is_control(0):
            raise FormatError(f"tokenizer: id 0 must be the blank {BLANK_PIECE!r}, found {self.pieces[0]!r}")

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, never the blank; unknown characters give the unknown id."""
        return list(self._processor.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; blanks are left out. Raises DataError on an id outside the vocabulary."""
        kept = [int(i) for i in ids]
        bad = [i for i in kept if not 0 <= i < self.vocabulary]
        if bad:
            raise DataError(f"token id {bad[0]} is outside the vocabulary of {self.vocabulary}")
        return str(self._processor.decode([i for i in kept if i]))

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return Tokenizer, (self.model,)


def _load(model: bytes) -> tuple[sentencepiece.SentencePieceProcessor, list[str]]:
    # An empty proto parses, and the library then answers every question with zero.
    if not model:
        raise FormatError("tokenizer: the sentencepiece model is empty")
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces: list[str] = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    except (RuntimeError, ValueError, TypeError) as error:
        raise FormatError(f"tokenizer: not a sentencepiece model ({' '.join(str(error).split())})") from None
    if len(pieces) < 2:
        raise FormatError(f"tokenizer: a vocabulary of at least 2 pieces expected, found {len(pieces)}")
    return processor, pieces
