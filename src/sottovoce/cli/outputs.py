"""What a command writes at its end: files, and figures as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sottovoce.errors import ConfigError


def check_folder(*paths: Path | None) -> None:
    """Raises ConfigError for a path in no folder that can be written to: said before the work, not after it."""
    for path in paths:
        folder = None if path is None else path.absolute().parent
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"{path}: cannot be written: there is no such folder")
        if folder is not None and not os.access(folder, os.W_OK):
            raise ConfigError(f"{path}: cannot be written: its folder is read-only")


def check_file(*paths: Path | None) -> None:
    """Raises ConfigError as ``check_folder`` does, and for a path that is a folder."""
    check_folder(*paths)
    for path in paths:
        if path is not None and path.is_dir():
            raise ConfigError(f"{path}: cannot be written: expected a file, found a folder")


def check_kept(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raises ConfigError for an output that would overwrite what the command reads, in a folder of it too."""
    read = {path.resolve() for path in inputs}
    there = (path for path in outputs if path.exists())
    lost = next((path for path in there if not read.isdisjoint((path.resolve(), *path.resolve().parents))), None)
    if lost is not None:
        raise ConfigError(f"{lost}: expected another path to write to: this one is read")


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
