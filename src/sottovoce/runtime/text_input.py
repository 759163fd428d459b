"""What a language model takes in: tokens of text in one normalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sottovoce.decoding.text import NORMALIZATIONS
from sottovoce.errors import FormatError

Context = Literal["sentence", "conversation"]
CONTEXTS: tuple[str, ...] = get_args(Context)


@dataclass(frozen=True)
class TextInput:
    """``normalization`` names one of ``decoding.text``; ``context``: whether the model was trained on sentences alone,
    or on each with those before it in its conversation."""

    normalization: str
    context: Context = "sentence"

    def to_dict(self) -> dict[str, Any]:
        """As the packed file's ``input``."""
        return {"kind": "tokens", "normalization": self.normalization, "context": self.context}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TextInput:
        """Raises FormatError for another kind of input, or a value that is not known."""
        fields = dict(data)
        kind = fields.pop("kind", None)
        if kind != "tokens":
            raise FormatError(f"input: expected kind 'tokens', found {kind!r}")
        if set(fields) != {"normalization", "context"}:
            raise FormatError(f"input: expected normalization and context, found {', '.join(map(str, fields))}")
        for name, known in (("normalization", tuple(NORMALIZATIONS)), ("context", CONTEXTS)):
            if fields[name] not in known:
                raise FormatError(f"input: {name} must be one of {', '.join(known)}, found {fields[name]!r}")
        return cls(**fields)
