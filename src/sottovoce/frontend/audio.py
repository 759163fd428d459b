"""Audio files to samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from sottovoce.errors import DataError

Samples = NDArray[np.float32]

_UNKNOWN = 2**40  # samples: libsndfile gives a huge count where a header holds none


@dataclass(frozen=True)
class AudioFile:
    """A file that is being read: its rate in Hz, samples as promised by its header, and the samples (S,) float32 in
    [-1, 1], channels averaged, in blocks."""

    rate: int
    samples: int
    blocks: Iterator[Samples]


def read_audio(path: str | Path) -> tuple[Samples, int]:
    """Samples (S,) float32 in [-1, 1], channels averaged, and the sample rate in Hz, of any file that libsndfile reads.

    Raises DataError naming the file if it is missing, unreadable, cut short, empty, or holds numbers that are not
    finite.
    """
    with open_audio(path) as file:
        return next(file.blocks), file.rate


@contextmanager
def open_audio(path: str | Path, *, name: str = "", seconds: float | None = None) -> Iterator[AudioFile]:
    """The same samples in blocks of so many seconds, all in one by default, for sound that memory should not hold.

    ``name`` stands for the file in errors. Raises DataError as ``read_audio``, where the blocks come to what is bad.
    """
    name = name or str(path)
    with _named(path, name):
        file = soundfile.SoundFile(str(path))
    with file:
        rate = int(file.samplerate)
        if file.frames >= _UNKNOWN:
            raise DataError(f"{name}: its header does not say how long it is: write it anew with its length")
        count = -1 if seconds is None else max(1, int(seconds * rate))
        yield AudioFile(rate, file.frames, _blocks(file, path, name, count))


def audio_seconds(path: str | Path) -> float:
    """How long a file says that it is; 0 where it cannot be read, and of a pipe, which is read but once."""
    if not Path(path).is_file():
        return 0.0
    try:
        with open_audio(path) as file:
            return file.samples / file.rate
    except DataError:
        return 0.0


def _blocks(file: soundfile.SoundFile, path: str | Path, name: str, count: int) -> Iterator[Samples]:
    promised, found = file.frames, 0
    while True:
        with _named(path, name):
            samples = file.read(count, dtype="float32", always_2d=True)  # (S, channels)
        found += len(samples)
        if not found:
            raise DataError(f"{name}: the audio is empty")
        if found < promised and (count < 0 or len(samples) < count):
            raise DataError(f"{name}: cut short, {promised} samples promised by its header, {found} found")
        if not np.isfinite(samples).all():
            raise DataError(f"{name}: the audio holds numbers that are not finite (NaN or infinity)")
        if len(samples):
            mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
            yield np.ascontiguousarray(mono)
        if count < 0 or len(samples) < count:
            return


@contextmanager
def _named(path: str | Path, name: str) -> Iterator[None]:
    try:
        yield
    except (soundfile.SoundFileError, OSError, RuntimeError, MemoryError, TypeError, ValueError) as error:
        if not Path(path).exists():
            raise DataError(f"{name}: no such audio file") from None
        if Path(path).suffix.lower() == ".raw":  # soundfile takes no rate from such a file
            raise DataError(f"{name}: a .raw file does not say its rate and encoding: write it anew as .wav") from None
        said = _one_line(error).replace(str(path), name)
        raise DataError(f"{name}: not readable as audio ({said})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
