"""A recording that a client sends: its bytes on disk, not in memory, and gone with the connection."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import PurePath
from types import TracebackType

from sottovoce.frontend.audio import Samples, open_audio
from sottovoce.serve.protocol import RefusedError


class Upload:
    """Takes ``size`` bytes of a file called ``name``, then reads them as ``read_audio`` would."""

    def __init__(self, name: str, size: int) -> None:
        self._name = "".join(c if c.isprintable() else "?" for c in name)  # errors are one line
        self._size, self._found = size, 0
        # libsndfile tells most formats by their content, and some only by the name's extension.
        extension = PurePath(name).suffix
        suffix = extension if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", extension) else ""
        self._file = tempfile.NamedTemporaryFile(prefix="sottovoce-", suffix=suffix)  # noqa: SIM115  closed in __exit__
        self._open = ExitStack()
        self._open.enter_context(self._file)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def write(self, content: bytes) -> None:
        """The next bytes. Raises RefusedError for more than were announced."""
        self._found += len(content)
        if self._found > self._size:
            raise RefusedError(f"{self._name}: expected {self._size} bytes, found more")
        self._file.write(content)

    def finish(self) -> None:
        """All bytes are there. Raises RefusedError for fewer than were announced."""
        if self._found < self._size:
            raise RefusedError(f"{self._name}: expected {self._size} bytes, found {self._found}")
        self._file.flush()

    def open(self, block_seconds: float, most_seconds: float) -> tuple[int, Iterator[Samples]]:
        """The rate in Hz, and samples (S,) in blocks. Raises DataError as ``read_audio``, RefusedError for a recording
        longer than ``most_seconds``."""
        audio = self._open.enter_context(open_audio(self._file.name, name=self._name, seconds=block_seconds))
        if audio.samples > most_seconds * audio.rate:
            found = audio.samples / audio.rate
            raise RefusedError(f"{self._name}: at most {most_seconds:g} s of sound, found {found:.0f} s")
        return audio.rate, audio.blocks
