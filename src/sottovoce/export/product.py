"""What an export leaves: a folder of files, each whole, put there only once all of them were checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from sottovoce.errors import ExportError


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the one that is asked for; what lies there when the block ends well is moved into it,
    in place of files of the same names.

    Raises ExportError where no folder can be made.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: cannot be written: expected a folder, found a file")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror}") from error
    with scratch as name:
        yield Path(name)
        try:
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(name).iterdir()):
                file.replace(folder / file.name)
        except OSError as error:
            raise ExportError(f"{folder}: cannot be written: {error.strerror}") from error


def save_graphs(graphs: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """``{name}.onnx`` for each graph."""
    for name, graph in graphs.items():
        onnx.save(graph, folder / f"{name}.onnx")
