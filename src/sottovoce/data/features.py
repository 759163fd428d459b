"""Features computed once and kept beside the data, by exactly the code that runs on the device."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from lhotse import CutSet, Features, MonoCut, NumpyFilesWriter
from lhotse.features.base import FeatureExtractor, register_extractor
from lhotse.features.io import get_reader
from lhotse.utils import fastcopy
from numpy.typing import NDArray

from sottovoce.data import options as check
from sottovoce.data.arrays import CHECKSUM, checksum
from sottovoce.data.noise import mix, pink, white
from sottovoce.errors import DataError
from sottovoce.frontend.audio import read_audio
from sottovoce.frontend.fbank import fbank
from sottovoce.frontend.resample import resample
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.progress import Progress

_LOG = logging.getLogger(__name__)
_MANIFEST = "cuts.jsonl.gz"
_CHUNK = 100
_VERSION = 1  # raise it when the features of the same settings change


@register_extractor
class DeviceFbank(FeatureExtractor):  # type: ignore[misc]
    """lhotse's face of ``sottovoce.frontend.fbank``."""

    name = "sottovoce-fbank"
    config_type = FeatureSettings

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return float(self.config.shift_ms) / 1000

    def feature_dim(self, sampling_rate: int) -> int:
        """Mel bins of a frame."""
        return int(self.config.bins)

    def extract(self, samples: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float32]:
        """(T, bins) float32 of ``samples``, (S,) or (1, S), resampled if their rate differs from the settings'."""
        mono = np.asarray(samples, np.float32).reshape(-1)
        return fbank(resample(mono, sampling_rate, self.config.sample_rate), self.config)


@dataclass(frozen=True)
class _Job:
    settings: FeatureSettings
    noise: tuple[float, float] | None
    seed: int
    folder: Path


def cached_features(
    cuts: Iterable[MonoCut],
    folder: str | Path,
    settings: FeatureSettings,
    *,
    speeds: Sequence[float] = (1.0,),
    noise: tuple[float, float] | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> CutSet:
    """``cuts`` with their features attached, one copy for each of ``speeds`` (ids end in ``_sp0.9``).

    Kept in ``folder/features/<hash of settings, speeds, noise, seed and cuts>/``: asked for again, they are read back;
    after an interruption they are computed anew. Speed changes the waveform (tempo and pitch together). ``noise`` adds
    white or pink noise at a random ratio in decibels from that range, drawn from ``seed`` and the cut's id.
    ``jobs`` processes share the work. Raises DataError for audio that cannot be read.
    """
    factors = check.speeds("speeds", speeds)
    span = None if noise is None else check.span("noise", noise, -20, 100)
    eager = sorted_unique(cuts)
    place = Path(folder) / "features" / _digest(eager, settings, factors, span, seed)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):  # arms of one comparison ask at the same moment; the lock dies with its process
        if not (place / _MANIFEST).exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            wanted = [(cut, factor) for factor in factors for cut in eager]
            made = _compute(wanted, _Job(settings, span, seed, place.absolute()), jobs, progress)
            partial = place / "cuts.partial.jsonl.gz"
            CutSet.from_cuts(made).to_file(partial)
            partial.replace(place / _MANIFEST)
            _LOG.info("computed features of %d cuts into %s", len(wanted), place)
    return CutSet.from_file(place / _MANIFEST).to_eager()


def sorted_unique(cuts: Iterable[MonoCut]) -> list[MonoCut]:
    """``cuts`` in the order of their ids. Raises DataError if an id occurs twice."""
    eager = sorted(cuts, key=lambda cut: cut.id)
    for first, second in pairwise(eager):
        if first.id == second.id:
            raise DataError(f"the utterance id {first.id!r} occurs twice")
    return eager


def load_features(cut: MonoCut) -> NDArray[np.float32]:
    """The stored features (T, F) float32 of ``cut``. Raises DataError if it has none or the file is damaged."""
    stored = cut.features
    if stored is None:
        raise DataError(f"{cut.id}: this cut has no features")
    way_out = f"delete {stored.storage_path}" if cut.has_recording else "prepare the data again"
    try:
        array = get_reader(stored.storage_type)(stored.storage_path).read(stored.storage_key)
    except (OSError, ValueError) as error:
        raise DataError(f"{cut.id}: its stored features cannot be read ({error}); {way_out}") from None
    if array.shape != (stored.num_frames, stored.num_features):
        raise DataError(f"{cut.id}: stored features {array.shape}, the manifest says {stored.num_frames} frames")
    array = np.asarray(array, np.float32)
    wanted = (cut.custom or {}).get(CHECKSUM)
    if wanted is not None and wanted != checksum(array):
        raise DataError(f"{cut.id}: its stored features are not those that the manifest names; {way_out}")
    return array


def cmvn(features: Iterable[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mean (F,), inverse standard deviation (F,)) float32 over all frames of ``features``, each (T, F).

    Only training features belong here. Raises DataError without any frame.
    """
    count, total, square = 0, np.float64(0), np.float64(0)
    for array in features:
        wide = array.astype(np.float64)
        count += len(wide)
        total = total + wide.sum(axis=0)
        square = square + np.square(wide).sum(axis=0)
    if count == 0:
        raise DataError("no frames to take the mean and variance of")
    mean = np.asarray(total / count)
    variance = np.maximum(np.asarray(square / count) - mean**2, 1e-8)
    return mean.astype(np.float32), (1.0 / np.sqrt(variance)).astype(np.float32)


def _compute(wanted: list[tuple[MonoCut, float]], job: _Job, jobs: int, progress: Progress | None) -> list[MonoCut]:
    chunks = [wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK)]
    made: list[MonoCut] = []
    for part in _mapped(chunks, job, check.integer("jobs", jobs, 1, 256)):
        made.extend(part)
        if progress:
            progress(len(made), len(wanted))
    return made


def _mapped(chunks: list[list[tuple[MonoCut, float]]], job: _Job, jobs: int) -> Iterator[list[MonoCut]]:
    if jobs == 1 or len(chunks) == 1:
        yield from (_compute_chunk(chunk, job) for chunk in chunks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_compute_chunk, chunks, [job] * len(chunks))


def _compute_chunk(chunk: list[tuple[MonoCut, float]], job: _Job) -> list[MonoCut]:
    extractor = DeviceFbank(job.settings)
    with NumpyFilesWriter(job.folder / "arrays") as writer:
        return [_compute_one(cut, speed, job, extractor, writer) for cut, speed in chunk]


def _compute_one(cut: MonoCut, speed: float, job: _Job, extractor: DeviceFbank, writer: NumpyFilesWriter) -> MonoCut:
    bare = cut.drop_features()
    faster = bare if speed == 1.0 else bare.perturb_speed(speed)
    samples, rate = _samples(cut)
    if speed != 1.0:
        # Said to be at another rate and brought back to the true one, a signal runs faster or slower.
        samples = resample(samples, round(rate * speed), rate)
    if job.noise is not None:
        samples = _noisy(samples, job.noise, job.seed, faster.id)
    array = extractor.extract(samples, rate)
    stored = Features(
        type=extractor.name,
        num_frames=len(array),
        num_features=array.shape[1],
        frame_shift=extractor.frame_shift,
        sampling_rate=rate,
        start=faster.start,
        duration=faster.duration,
        storage_type=writer.name,
        storage_path=str(writer.storage_path),
        storage_key=writer.write(hashlib.sha256(faster.id.encode()).hexdigest()[:24], array),
        recording_id=faster.recording.id,
        channels=0,
    )
    return fastcopy(faster, features=stored)


def _samples(cut: MonoCut) -> tuple[NDArray[np.float32], int]:
    samples, rate = _read_recording(cut.recording.sources[0].source)
    start = round(cut.start * rate)
    return samples[start : start + round(cut.duration * rate)], rate


@lru_cache(maxsize=2)  # the segments of one recording come one after the other
def _read_recording(path: str) -> tuple[NDArray[np.float32], int]:
    return read_audio(path)


def _noisy(samples: NDArray[np.float32], span: tuple[float, float], seed: int, id: str) -> NDArray[np.float32]:
    source = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "little")])
    kind = white if source.random() < 0.5 else pink
    return mix(samples, kind(len(samples), source), float(source.uniform(*span)))


def _digest(
    cuts: list[MonoCut],
    settings: FeatureSettings,
    speeds: tuple[float, ...],
    noise: tuple[float, float] | None,
    seed: int,
) -> str:
    made_of: dict[str, Any] = {
        "version": _VERSION,
        "settings": settings.to_dict(),
        "speeds": speeds,
        "noise": noise,
        "seed": seed if noise is not None else None,
        "cuts": [cut.to_dict() for cut in cuts],
        "files": [_state(cut.recording.sources[0].source) for cut in cuts],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _state(path: str) -> list[int]:
    """Size and time of change: audio that was replaced in place must not be served from the cache."""
    try:
        status = Path(path).stat()
    except OSError:
        raise DataError(f"{path}: no such audio file (prepare the data again if it was moved)") from None
    return [status.st_size, status.st_mtime_ns]
