"""JSON from files that nobody vouches for: no duplicate keys, no NaN, no tracebacks; and errors that stay short."""

from __future__ import annotations

import json
import reprlib
from typing import Any

from sottovoce.errors import FormatError

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


def short(value: object) -> str:
    """The value's repr on one short line, whatever its size or depth."""
    return _short.repr(value)


def load_object(text: bytes, what: str) -> dict[str, Any]:
    """The JSON object in UTF-8 ``text``. Raises FormatError naming ``what`` for anything else."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = short(str(error)) if isinstance(error, ValueError) else "one too large or too deeply nested"
        raise FormatError(f"{what}: expected a JSON object, found {reason}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{what}: expected a JSON object, found {short(value)}")
    return value


def dump_json(value: object, *, sort: bool) -> str:
    """Compact ASCII JSON. Raises FormatError for what JSON cannot hold."""
    try:
        return json.dumps(value, sort_keys=sort, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"metadata: expected values that JSON can hold, found {short(str(error))}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key given twice")
    return result


def _refuse(constant: str) -> None:
    raise ValueError(constant)
