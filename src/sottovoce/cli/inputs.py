"""Files that a command reads."""

from __future__ import annotations

from pathlib import Path

from sottovoce.errors import FormatError

_IN_A_RUN = "model.safetensors"


def model_file(path: Path) -> Path:
    """The model file of a run folder; any other path is itself. Raises FormatError for a folder without one."""
    if not path.is_dir():
        return path
    file = path / _IN_A_RUN
    if not file.is_file():
        raise FormatError(f"{path}: expected a model file, or a run folder with {_IN_A_RUN}, found a folder without it")
    return file
