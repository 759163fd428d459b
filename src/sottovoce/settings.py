"""What people write: YAML of plain values, and one line on the first value that does not do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from sottovoce.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from pydantic import ValidationError


class _Yaml(yaml.SafeLoader):
    """YAML in which 5e-4 and .5e3 are numbers, as in version 1.2; version 1.1 wants a point and a sign in them."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """Plain values only, as ``yaml.safe_load`` gives them. Raises yaml.YAMLError."""
    loader = _Yaml(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_settings(file: Path | Traversable, kind: str, name: str | Path | None = None) -> dict[str, Any]:
    """Keys and values of a YAML file, a ``kind`` of settings, which errors call ``name``, by default its path.

    Raises ConfigError for a file that cannot be read, or holds anything else.
    """
    where = file if name is None else name
    try:
        data = read_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{where}: cannot read the {kind} ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a {kind} of keys and values, found {type(data).__name__}")
    return data


def first_invalid(error: ValidationError) -> tuple[str, str]:
    """Where the first value stands that was refused (``a.b``; nothing for the whole), and why, with what was found
    there unless that is a whole section, whose own check says what it found."""
    first = error.errors()[0]
    why = first["msg"].removeprefix("Value error, ")
    found = "" if isinstance(first["input"], dict) else f", found {first['input']!r}"
    return ".".join(str(part) for part in first["loc"]), why + found
