"""Tokenizers from elsewhere, as a packed file holds them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from sottovoce.decoding.tokens import BLANK_PIECE, Tokenizer
from sottovoce.decoding.vocabulary import WordList, read_vocabulary
from sottovoce.errors import FormatError

_UNKNOWN = "<unk>"


def recognizer_tokenizer(path: Path) -> bytes:
    """A sentencepiece model whose first piece is ``<blk>`` (icefall's too, where it is a piece like others), or one
    made of a tokens.txt: that decodes exactly, and encodes by the fewest pieces rather than as its own model would.

    Raises FormatError naming the file.
    """
    content = _read(path)
    try:
        return (_from_tokens(content) if path.suffix == ".txt" else _with_control_blank(content)).model
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def lm_vocabulary(path: Path) -> bytes:
    """A word a line, ``</s>`` and ``<unk>`` first, or a sentencepiece model with those two first."""
    content = _read(path)
    try:
        if path.suffix == ".model":
            return read_vocabulary(content).model
        return WordList(content.decode("utf-8").split("\n")[: None if content[-1:] != b"\n" else -1]).model
    except (FormatError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot read ({error.strerror})") from error


def _with_control_blank(content: bytes) -> Tokenizer:
    from google.protobuf.message import DecodeError

    proto = _proto()
    model = proto.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return Tokenizer(content)  # which says what it expected
    if model.pieces and model.pieces[0].piece == BLANK_PIECE:
        model.pieces[0].type = proto.ModelProto.SentencePiece.CONTROL
        return Tokenizer(model.SerializeToString())
    return Tokenizer(content)


def _from_tokens(content: bytes) -> Tokenizer:
    names, proto = _names(content), _proto()
    if _UNKNOWN not in names:
        raise FormatError(f"expected {_UNKNOWN} among the tokens, found none")
    kinds = proto.ModelProto.SentencePiece
    model = proto.ModelProto()
    model.trainer_spec.model_type = proto.TrainerSpec.UNIGRAM
    model.trainer_spec.unk_id, model.trainer_spec.pad_id = names.index(_UNKNOWN), 0
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = -1
    model.trainer_spec.pad_piece = BLANK_PIECE
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    for i, name in enumerate(names):
        kind = kinds.CONTROL if i == 0 else kinds.UNKNOWN if name == _UNKNOWN else kinds.NORMAL
        # One a piece: the fewest pieces are the likeliest.
        model.pieces.add(piece=BLANK_PIECE if i == 0 else name, score=-1.0, type=kind)
    return Tokenizer(model.SerializeToString())


def _proto() -> Any:
    """sentencepiece's own classes of its file, which have no types."""
    return import_module("sentencepiece.sentencepiece_model_pb2")


def _names(content: bytes) -> list[str]:
    found: dict[int, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        name, _, index = line.rpartition(" ")
        if not index.strip().isdigit():
            raise FormatError(f"line {number}: expected a token and its number, found {line[:40]!r}")
        found[int(index)] = name or "▁"
    if sorted(found) != list(range(len(found))):
        raise FormatError(f"expected the numbers 0 to {len(found) - 1} once each")
    return [found[i] for i in range(len(found))]
