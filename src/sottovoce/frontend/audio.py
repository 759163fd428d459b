"""Audio files to samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from sottovoce.errors import DataError

_UNKNOWN = 2**40  # samples: libsndfile gives a huge count where a header holds none


def read_audio(path: str | Path) -> tuple[NDArray[np.float32], int]:
    """Samples (S,) float32 in [-1, 1], channels averaged, and the sample rate in Hz, of any file that libsndfile reads.

    Raises DataError naming the file if it is missing, unreadable, cut short, empty, or holds numbers that are not
    finite.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            promised, rate = file.frames, int(file.samplerate)
            if promised >= _UNKNOWN:
                raise DataError(f"{path}: its header does not say how long it is: write it anew with its length")
            samples = file.read(dtype="float32", always_2d=True)  # (S, channels)
    except (soundfile.SoundFileError, OSError, RuntimeError, MemoryError) as error:
        if not Path(path).exists():
            raise DataError(f"{path}: no such audio file") from None
        raise DataError(f"{path}: not readable as audio ({_one_line(error)})") from None
    if not len(samples):
        raise DataError(f"{path}: the audio is empty")
    if len(samples) < promised:
        raise DataError(f"{path}: cut short, {promised} samples promised by its header, {len(samples)} found")
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: the audio holds numbers that are not finite (NaN or infinity)")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(mono), rate


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
