"""What a command writes at its end: files, and figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.errors import ConfigError


def check_folder(*paths: Path | None) -> None:
    """Raises ConfigError for a path in no folder: said before the work, not after it."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"{path}: cannot be written: there is no such folder")


def check_file(path: Path) -> None:
    """Raises ConfigError for a path in no folder, and for one that is a folder."""
    check_folder(path)
    if path.is_dir():
        raise ConfigError(f"{path}: cannot be written: expected a file, found a folder")


def json_text(value: Any) -> str:
    """One line of JSON, with null for numbers that it does not have: a control without errors has no relative
    difference, and errors without words no finite rate."""
    return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
