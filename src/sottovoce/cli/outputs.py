"""Files that a command will write at its end."""

from __future__ import annotations

from pathlib import Path

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
