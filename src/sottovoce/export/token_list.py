"""``tokens.txt``: a token and its id on each line, as sherpa-onnx reads them."""

from __future__ import annotations

from sottovoce.decoding.tokens import SPACE, Tokenizer

UNKNOWN = f"{SPACE}⁇"
"""The unknown token under the name that it is shown by: one named ``<unk>`` would never be emitted by sherpa-onnx."""


def token_names(tokenizer: Tokenizer, *, blank_last: bool = False) -> list[str]:
    """The names by id; the blank, our id 0, is the last one where the NeMo type wants it there."""
    names = [UNKNOWN if i == tokenizer.unknown else piece for i, piece in enumerate(tokenizer.pieces)]
    return [*names[1:], names[0]] if blank_last else names


def token_lines(tokenizer: Tokenizer, *, blank_last: bool = False) -> str:
    """The whole file."""
    return "".join(f"{name} {i}\n" for i, name in enumerate(token_names(tokenizer, blank_last=blank_last)))
