"""Free Spoken Digit Dataset: connected-digit strings joined from single recordings of one speaker."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import MonoCut
from numpy.typing import NDArray

from sottovoce.data import options as check
from sottovoce.data.checks import Skips, problem
from sottovoce.data.entries import make_cut
from sottovoce.data.phrases import DIGITS
from sottovoce.data.prepared import SPLITS, Prepared, begin, finish
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.audio import read_audio
from sottovoce.frontend.resample import resample
from sottovoce.progress import Progress

RATE = 16_000
_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")
_LONGEST = 7
_PAUSE = (0.030, 0.400)  # seconds
_LEAD = (0.050, 0.200)
_TAIL = (0.300, 0.500)  # what an endpointer leaves: a streaming recognizer speaks a little after the last word
_LEVEL_DB = -26.0  # RMS of a recording before its gain: the corpus was recorded at very different levels
_GAIN_DB = 6.0
_FLOOR_DB = (-65.0, -50.0)  # of the noise that covers pauses and recordings alike
_OFFICIAL_TEST, _OFFICIAL_DEV = range(5), range(5, 10)


@dataclass(frozen=True)
class Recording:
    """One spoken digit: samples (S,) float32 at 16 kHz."""

    digit: int
    speaker: str
    index: int
    samples: NDArray[np.float32]


@dataclass(frozen=True)
class _String:
    id: str
    recordings: tuple[Recording, ...]
    speed: float
    seed: tuple[int, ...]


def prepare_fsdd(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    split: str = "speakers",
    test_speakers: Sequence[str] | str | None = None,
    dev_speakers: Sequence[str] | str | None = None,
    dev_recordings: int = 0,
    train_strings: int = 1500,
    speeds: Sequence[float] = (0.9, 1.0, 1.1),
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Fill ``out`` with strings of 1 to 7 digits, pauses of 30 to 400 ms and a tail of 300 to 500 ms over a low noise
    floor.

    Every recording is brought to the same level and then varied by +-6 dB. ``source`` holds
    ``{digit}_{speaker}_{index}.wav``, itself or in ``recordings``. Each test and dev recording is used exactly once;
    training recordings are drawn again and again for ``train_strings`` strings, each at one of
    ``speeds``. ``split="speakers"``: the last speaker by name is the test, the one before dev, unless named; with
    ``dev_recordings`` no speaker is dev: so many recordings of each digit by each training speaker are (to watch a
    training whose recipe is settled, with every other speaker to learn from);
    ``"official"``: indexes 0-4 are the test, 5-9 dev, the rest train, all with the same speakers. Audio is 16 kHz
    FLAC, texts are digit words. Raises ConfigError on bad options, DataError on a bad source.
    """
    chosen = _checked(seed, split, test_speakers, dev_speakers, dev_recordings, train_strings, speeds, strict)
    folder = _recordings_folder(Path(source))
    chosen["source"] = str(Path(source).absolute())
    done = begin(out, "fsdd", chosen)
    if done is not None:
        return done
    skips = Skips(strict)
    parts = _split(_read_all(folder, skips), chosen)
    strings = {name: _partition(parts[name], name, seed) for name in ("dev", "test")}
    strings["train"] = _draw(parts["train"], train_strings, chosen["speeds"], seed)
    cuts = _write_all(Path(out), strings, skips, progress)
    speakers = {name: sorted({item.speaker for item in parts[name]}) for name in SPLITS}
    details = {
        "speakers": speakers,
        "speakers_shared_between_splits": _shared(speakers),
        "recordings": {name: len(parts[name]) for name in SPLITS},
    }
    return finish(out, "fsdd", chosen, cuts, skips.items, details)


def _checked(
    seed: int, split: str, test: Any, dev: Any, dev_recordings: int, train_strings: int, speeds: Any, strict: bool
) -> dict[str, Any]:
    if split not in ("speakers", "official"):
        raise ConfigError(f"split must be 'speakers' or 'official', found {split!r}")
    named = {"test_speakers": check.names("test_speakers", test), "dev_speakers": check.names("dev_speakers", dev)}
    if split == "official" and any(named.values()):
        raise ConfigError("split 'official' goes by index; test_speakers and dev_speakers need split 'speakers'")
    if dev_recordings and (split == "official" or named["dev_speakers"]):
        raise ConfigError("dev_recordings takes dev from the training speakers: leave out dev_speakers and 'official'")
    return {
        "seed": check.integer("seed", seed, 0, 2**31),
        "split": split,
        **named,
        "dev_recordings": check.integer("dev_recordings", dev_recordings, 0, 10**4),
        "train_strings": check.integer("train_strings", train_strings, 1, 10**7),
        "speeds": check.speeds("speeds", speeds),
        "strict": bool(strict),
    }


def _recordings_folder(source: Path) -> Path:
    for folder in (source / "recordings", source):
        if folder.is_dir() and any(_NAME.fullmatch(path.name) for path in folder.iterdir()):
            return folder
    raise DataError(f"{source}: no files named {{digit}}_{{speaker}}_{{index}}.wav, here or in recordings/")


def _read_all(folder: Path, skips: Skips) -> list[Recording]:
    found = []
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if not name:
            continue
        digit, speaker, index = int(name[1]), name[2], int(name[3])
        try:
            samples, rate = read_audio(path)
        except DataError as error:
            skips.add(path.name, str(error))
            continue
        seconds = len(samples) / rate
        reason = problem(DIGITS[digit], 0.0, seconds, seconds)
        if reason:
            skips.add(path.name, reason)
            continue
        found.append(Recording(digit, speaker, index, resample(samples, rate, RATE)))
    return found


def _split(recordings: Sequence[Recording], options: Mapping[str, Any]) -> dict[str, list[Recording]]:
    if options["split"] == "official":
        return {
            "test": [item for item in recordings if item.index in _OFFICIAL_TEST],
            "dev": [item for item in recordings if item.index in _OFFICIAL_DEV],
            "train": [item for item in recordings if item.index >= _OFFICIAL_DEV.stop],
        }
    speakers = sorted({item.speaker for item in recordings})
    if options["dev_recordings"]:
        return _dev_within(recordings, options["test_speakers"] or (speakers[-1],), options["dev_recordings"])
    test, dev = _held_out(speakers, options["test_speakers"], options["dev_speakers"])
    return {
        "test": [item for item in recordings if item.speaker in test],
        "dev": [item for item in recordings if item.speaker in dev],
        "train": [item for item in recordings if item.speaker not in (*test, *dev)],
    }


def _shared(speakers: Mapping[str, Sequence[str]]) -> bool:
    everyone = [name for names in speakers.values() for name in names]
    return len(everyone) != len(set(everyone))


def _dev_within(recordings: Sequence[Recording], test: tuple[str, ...], count: int) -> dict[str, list[Recording]]:
    """All other speakers train; the first ``count`` recordings of each digit by each of them are dev."""
    _check_names({item.speaker for item in recordings}, test)
    rest = [item for item in recordings if item.speaker not in test]
    first = {id(item) for item in _first_of_each(rest, count)}
    return {
        "test": [item for item in recordings if item.speaker in test],
        "dev": [item for item in rest if id(item) in first],
        "train": [item for item in rest if id(item) not in first],
    }


def _check_names(speakers: Collection[str], names: Sequence[str]) -> None:
    for name in names:
        if name not in speakers:
            raise ConfigError(f"there is no speaker {name!r}; found {', '.join(sorted(speakers))}")


def _first_of_each(recordings: Sequence[Recording], count: int) -> list[Recording]:
    groups: dict[tuple[str, int], list[Recording]] = {}
    for item in sorted(recordings, key=lambda item: item.index):
        groups.setdefault((item.speaker, item.digit), []).append(item)
    return [item for group in groups.values() for item in group[:count]]


def _held_out(
    speakers: Sequence[str], test: tuple[str, ...] | None, dev: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    _check_names(speakers, (*(test or ()), *(dev or ())))
    if set(test or ()) & set(dev or ()):
        raise ConfigError(f"speaker {min(set(test or ()) & set(dev or ()))!r} cannot be in test and dev")
    chosen_test = test or tuple(name for name in speakers if name not in (dev or ()))[-1:]
    chosen_dev = dev or tuple(name for name in speakers if name not in chosen_test)[-1:]
    if not set(speakers) - set(chosen_test) - set(chosen_dev):
        raise DataError(f"no speaker is left to train on: {len(speakers)} found ({', '.join(speakers)})")
    return chosen_test, chosen_dev


def _partition(recordings: Sequence[Recording], split: str, seed: int) -> list[_String]:
    """Strings of one speaker each that use every recording once."""
    strings: list[_String] = []
    for number, speaker in enumerate(sorted({item.speaker for item in recordings})):
        source = np.random.default_rng((seed, SPLITS.index(split), number))
        own = [item for item in recordings if item.speaker == speaker]
        order = [own[place] for place in source.permutation(len(own))]
        while order:
            length = int(source.integers(1, _LONGEST + 1))
            taken, order = tuple(order[:length]), order[length:]
            state = (seed, SPLITS.index(split), number, len(strings))
            strings.append(_String(f"fsdd-{split}-{speaker}-{len(strings):05d}", taken, 1.0, state))
    return strings


def _draw(recordings: Sequence[Recording], count: int, speeds: Sequence[float], seed: int) -> list[_String]:
    by_speaker = {
        name: [item for item in recordings if item.speaker == name] for name in {r.speaker for r in recordings}
    }
    speakers = sorted(by_speaker)
    strings = []
    for number in range(count if speakers else 0):
        state = (seed, SPLITS.index("train"), number)
        source = np.random.default_rng(state)
        speaker = speakers[source.integers(len(speakers))]
        own = by_speaker[speaker]
        taken = tuple(own[source.integers(len(own))] for _ in range(source.integers(1, _LONGEST + 1)))
        speed = float(speeds[int(source.integers(len(speeds)))])
        strings.append(_String(f"fsdd-train-{speaker}-{number:05d}", taken, speed, (*state, 1)))
    return strings


def _write_all(
    out: Path, strings: Mapping[str, Sequence[_String]], skips: Skips, progress: Progress | None
) -> dict[str, list[MonoCut]]:
    cuts: dict[str, list[MonoCut]] = {split: [] for split in SPLITS}
    total, done = sum(map(len, strings.values())), 0
    for split in SPLITS:
        folder = out / "audio" / split
        folder.mkdir(parents=True, exist_ok=True)
        for string in strings[split]:
            samples, path = join(string.recordings, string.speed, string.seed), folder / f"{string.id}.flac"
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            text = " ".join(DIGITS[item.digit] for item in string.recordings)
            cuts[split].append(make_cut(string.id, path, len(samples), RATE, text, string.recordings[0].speaker))
            done += 1
            if progress:
                progress(done, total)
    skips.report(done)
    return cuts


def join(recordings: Sequence[Recording], speed: float, seed: tuple[int, ...]) -> NDArray[np.float32]:
    """Samples (S,) float32 within [-1, 1]: ``recordings``, brought to one level, with pauses, each at its own gain."""
    source = np.random.default_rng(seed)
    pieces = [_silence(source, _LEAD)]
    for place, item in enumerate(recordings):
        if place:
            pieces.append(_silence(source, _PAUSE))
        level = max(float(np.sqrt(np.mean(np.square(item.samples, dtype=np.float64)))), 1e-4)
        gain = 10 ** ((_LEVEL_DB + source.uniform(-_GAIN_DB, _GAIN_DB)) / 20) / level
        pieces.append(resample(item.samples, round(RATE * speed), RATE) * np.float32(gain))
    pieces.append(_silence(source, _TAIL))
    joined = np.concatenate(pieces)
    floor = np.float32(10 ** (source.uniform(*_FLOOR_DB) / 20))
    joined = joined + floor * source.standard_normal(len(joined), dtype=np.float32)
    peak = float(np.abs(joined).max())
    return joined if peak <= 0.99 else joined * np.float32(0.99 / peak)


def _silence(source: np.random.Generator, span: tuple[float, float]) -> NDArray[np.float32]:
    return np.zeros(round(RATE * source.uniform(*span)), np.float32)
