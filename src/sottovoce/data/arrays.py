"""Features that a corpus comes with, kept beside its manifests: cuts without a recording."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from lhotse import Features, MonoCut, NumpyFilesWriter, SupervisionSegment
from numpy.typing import NDArray

from sottovoce.data.checks import Skips, problem
from sottovoce.data.entries import Entry, recording_names
from sottovoce.errors import DataError
from sottovoce.progress import Progress

ARRAYS = "arrays"
CHECKSUM = "crc32"  # in a cut's custom values, so that a manifest's hash covers what the arrays hold
Read = Callable[[Path], NDArray[np.float32]]


def build_feature_cuts(
    entries: Sequence[Entry],
    read: Read,
    folder: str | Path,
    skips: Skips,
    *,
    rate: float,
    sampling_rate: int,
    progress: Progress | None = None,
) -> list[MonoCut]:
    """Checked cuts of ``entries``, in their order; their features go to ``folder/arrays``.

    ``read`` gives the features (T, F) float32 of an entry's file, ``rate`` frames a second, or raises DataError; what
    cannot be used goes to ``skips``. ``sampling_rate``: Hz of the sound that the features were made from.
    """
    cuts, seen = [], set[str]()
    names = recording_names(entry.path for entry in entries)
    with NumpyFilesWriter(Path(folder).absolute() / ARRAYS) as writer:
        for done, entry in enumerate(entries, start=1):
            array = _readable(read, entry.path)
            reason = "the id occurs twice" if entry.id in seen else _reason(entry, array, rate)
            seen.add(entry.id)
            if reason is None and not isinstance(array, str):
                cuts.append(feature_cut(entry, names[entry.path], array, writer, rate, sampling_rate))
            else:
                skips.add(entry.id, reason or "unreadable")
            if progress:
                progress(done, len(entries))
    return cuts


def feature_cut(
    entry: Entry, recording: str, array: NDArray[np.float32], writer: NumpyFilesWriter, rate: float, sampling_rate: int
) -> MonoCut:
    """A cut of T / ``rate`` seconds of a recording with the features ``array`` (T, F), which ``writer`` stores."""
    duration = round(len(array) / rate, 8)
    stored = Features(
        type="given",
        num_frames=len(array),
        num_features=array.shape[1],
        frame_shift=1 / rate,
        sampling_rate=sampling_rate,
        start=0,
        duration=duration,
        storage_type=writer.name,
        storage_path=str(writer.storage_path),
        storage_key=writer.write(hashlib.sha256(entry.id.encode()).hexdigest()[:24], array),
        recording_id=recording,
        channels=0,
    )
    segment = SupervisionSegment(
        id=entry.id,
        recording_id=recording,
        start=0,
        duration=duration,
        text=" ".join(entry.text.split()),
        speaker=entry.speaker,
    )
    return MonoCut(
        id=entry.id,
        start=0,
        duration=duration,
        channel=0,
        features=stored,
        supervisions=[segment],
        custom={CHECKSUM: checksum(array)},
    )


def checksum(array: NDArray[np.float32]) -> int:
    """CRC-32 of the values, row by row, as little-endian float32."""
    return zlib.crc32(np.ascontiguousarray(array, dtype="<f4").tobytes())


def _readable(read: Read, path: Path) -> NDArray[np.float32] | str:
    try:
        return read(path)
    except DataError as error:
        return str(error)


def _reason(entry: Entry, array: NDArray[np.float32] | str, rate: float) -> str | None:
    if isinstance(array, str):
        return array
    return problem(entry.text, 0.0, len(array) / rate, len(array) / rate)
