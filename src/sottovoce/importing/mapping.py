"""The mapping file: which network the weights are of, and where each of its tensors comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sottovoce.errors import ConfigError
from sottovoce.settings import first_invalid, read_settings

_GATES = "ifgo"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TensorRule(_Section):
    """How one tensor is made: from the tensor ``from``, or as the sum of those in ``sum``, or full of ``fill``.

    Then in this order: leading dimensions of 1 that ours has not are dropped; ``rows`` (start, stop) are kept; it is
    transposed;
    ``gates``, the order in which the source stacks an LSTM's gates (``iofg`` in ONNX, ``c`` is another name of ``g``),
    becomes i, f, g, o; with ``blank: last`` the last row, the blank's, becomes the first.
    """

    source: str | None = Field(default=None, alias="from")
    sum: tuple[str, ...] = ()
    fill: float | None = None
    rows: tuple[int, int] | None = None
    transpose: bool = False
    gates: str | None = None
    blank: str = Field(default="first", pattern="^(first|last)$")

    @field_validator("gates", mode="after")
    @classmethod
    def _known_gates(cls, value: str | None) -> str | None:
        order = None if value is None else value.replace("c", "g")
        if order is not None and sorted(order) != sorted(_GATES):
            raise ValueError(f"expected the letters i, f, g (or c) and o once each, found {value!r}")
        return order

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if self.source is not None else self.sum

    def model_post_init(self, _: Any) -> None:
        if (self.source is not None) + bool(self.sum) + (self.fill is not None) != 1:
            raise ValueError("expected one of from, sum and fill")


class TensorMap(_Section):
    """``architecture``: what the file says of the network (``type`` rnnt, lstm-lm or transformer-lm, and its sizes).
    ``input``: what goes in; by default waveforms with the usual features, or sentences of plain text. ``tokenizer``: a
    file beside the mapping: a sentencepiece model, sherpa-onnx's tokens.txt, or for a language model a word a line.

    ``tensors``: for each tensor of ours the name of theirs, or a ``TensorRule``. A ``*`` in our name stands for
    anything, and each ``*`` in theirs for the same in turn; a name without ``*`` is stronger.
    """

    architecture: dict[str, Any]
    input: dict[str, Any] | None = None
    tokenizer: str | None = None
    tensors: dict[str, TensorRule]

    @field_validator("tensors", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"from": rule} if isinstance(rule, str) else rule for name, rule in value.items()}

    def rules_for(self, names: Iterable[str]) -> dict[str, TensorRule]:
        """The rule of each of our tensors that has one, with stars filled in."""
        found: dict[str, TensorRule] = {}
        patterns = [(name, rule) for name, rule in self.tensors.items() if "*" in name]
        for name in names:
            if name in self.tensors:
                found[name] = self.tensors[name]
                continue
            for pattern, rule in patterns:
                match = _pattern(pattern).fullmatch(name)
                if match:
                    found[name] = _filled(rule, match.groups())
        return found

    def unused(self, names: Iterable[str]) -> list[str]:
        """Names and patterns that are none of our tensors'."""
        known = list(names)

        return [pattern for pattern in self.tensors if not any(map(_pattern(pattern).fullmatch, known))]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(map(re.escape, name.split("*"))))


def _filled(rule: TensorRule, parts: tuple[str, ...]) -> TensorRule:
    def fill(name: str) -> str:
        pieces = name.split("*")
        return "".join(a + b for a, b in zip(pieces, (*parts[: len(pieces) - 1], ""), strict=False))

    source = None if rule.source is None else fill(rule.source)
    return rule.model_copy(update={"source": source, "sum": tuple(map(fill, rule.sum))})


def read_mapping(path: Path) -> TensorMap:
    """Raises ConfigError naming the file and the key."""
    data = read_settings(path, "mapping")
    try:
        return TensorMap.model_validate(data)
    except ValidationError as error:
        where, why = first_invalid(error)
        raise ConfigError(f"{path}: {where}: {why}") from error
