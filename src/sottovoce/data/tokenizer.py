"""Training of sentencepiece tokenizers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

import sentencepiece

from sottovoce.decoding.tokens import BLANK_PIECE
from sottovoce.decoding.vocabulary import END_WORD, Pieces
from sottovoce.errors import ConfigError, DataError

KINDS = ("unigram", "bpe", "char")


def train_tokenizer(texts: Iterable[str], *, kind: str = "unigram", vocabulary: int = 64) -> bytes:
    """A serialized sentencepiece model of at most ``vocabulary`` pieces, blank and unknown included.

    Id 0 is the blank ``<blk>``, id 1 is unknown; there is no begin or end. A text too small for ``vocabulary`` gives a
    smaller model, one with more characters a larger one (each character is a piece). ``char`` takes all characters,
    whatever ``vocabulary`` says. Deterministic. Raises ConfigError on a bad kind or size, DataError without any text.
    """
    return _checked(texts, kind, vocabulary, {"pad_id": 0, "pad_piece": BLANK_PIECE, "eos_id": -1})


def train_pieces(texts: Iterable[str], *, kind: str = "unigram", vocabulary: int = 1000) -> Pieces:
    """As ``train_tokenizer``, for a language model: id 0 is ``</s>``, id 1 is ``<unk>``, and there is no blank."""
    return Pieces(_checked(texts, kind, vocabulary, {"pad_id": -1, "eos_id": 0, "eos_piece": END_WORD}))


def _checked(texts: Iterable[str], kind: str, vocabulary: int, specials: dict[str, Any]) -> bytes:
    if kind not in KINDS:
        raise ConfigError(f"tokenizer: kind must be one of {', '.join(KINDS)}, found {kind!r}")
    if isinstance(vocabulary, bool) or not isinstance(vocabulary, int) or not 3 <= vocabulary <= 65_536:
        raise ConfigError(f"tokenizer: vocabulary must be an integer in [3, 65536], found {vocabulary!r}")
    lines = [line for line in (" ".join(text.split()) for text in texts) if line]
    if not lines:
        raise DataError("tokenizer: there is no text to train on")
    needed = len({character for line in lines for character in line} | {"▁"} - {" "}) + 2
    return _train(lines, kind, max(vocabulary, needed) if kind != "char" else needed, specials)


def _train(lines: list[str], kind: str, size: int, specials: dict[str, Any]) -> bytes:
    try:
        return _run(lines, model_type=kind, vocab_size=size, **specials)
    except RuntimeError as error:
        # sentencepiece names the size that the text can (or must) have; take it.
        found = re.search(r"value <= (\d+)", str(error)) or re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        if not found or int(found[1]) == size:
            raise DataError(f"tokenizer: sentencepiece refused the text ({' '.join(str(error).split())})") from None
        return _train(lines, kind, int(found[1]), specials)


def _run(lines: list[str], **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        normalization_rule_name="identity",
        unk_id=1,
        bos_id=-1,
        character_coverage=1.0,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        # Longer lines would be left out without a word; sentencepiece's own limit otherwise.
        max_sentence_length=max(4192, *(len(line.encode()) for line in lines)),
        **options,
    )
    return model.getvalue()
