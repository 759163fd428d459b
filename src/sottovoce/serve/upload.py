"""A recording that a client sends: its bytes on disk, not in memory, and gone with the connection."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePath
from types import TracebackType

from sottovoce.frontend.audio import AudioFile, Samples, open_audio
from sottovoce.serve.protocol import RefusedError


class Upload:
    """Takes ``size`` bytes of a file called ``name``, then reads them as ``read_audio`` would.

    A connection may end while a worker reads: libsndfile knows no locks, so the worker then closes the file itself.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = "".join(c if c.isprintable() else "?" for c in name)  # errors are one line
        self._size, self._found = size, 0
        # libsndfile tells most formats by their content, and some only by the name's extension.
        extension = PurePath(name).suffix
        suffix = extension if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", extension) else ""
        self._file = tempfile.NamedTemporaryFile(prefix="sottovoce-", suffix=suffix)  # noqa: SIM115  closed in __exit__
        self._lock, self._reading, self._gone = threading.Lock(), False, False
        self._open = ExitStack()
        self._open.enter_context(self._file)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._gone = True
            if self._reading:
                return
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
        with self._kept():
            audio = self._open.enter_context(open_audio(self._file.name, name=self._name, seconds=block_seconds))
        if audio.samples > most_seconds * audio.rate:
            found = audio.samples / audio.rate
            raise RefusedError(f"{self._name}: at most {most_seconds:g} s of sound, found {found:.0f} s")
        return audio.rate, self._blocks(audio)

    def _blocks(self, audio: AudioFile) -> Iterator[Samples]:
        while True:
            with self._kept():
                samples = next(audio.blocks, None)
            if samples is None:
                return
            yield samples

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """The file stays open until the end of what is done here. Raises RefusedError where it has gone before."""
        with self._lock:
            if self._gone:
                raise RefusedError(f"{self._name}: the connection has ended")
            self._reading = True
        try:
            yield
        finally:
            with self._lock:
                self._reading, gone = False, self._gone
            if gone:
                self._open.close()
