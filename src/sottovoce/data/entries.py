"""From the entries of any manifest to checked lhotse cuts."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

from sottovoce.data.checks import Skips, problem
from sottovoce.errors import DataError
from sottovoce.frontend.audio import read_audio
from sottovoce.progress import Progress


@dataclass(frozen=True)
class Entry:
    """One utterance of a manifest: a whole audio file, or ``start`` to ``end`` seconds of it.

    ``seconds`` is the duration that the manifest claims, if it does.
    """

    id: str
    path: Path
    text: str
    speaker: str
    start: float = 0.0
    end: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class AudioInfo:
    """Samples of a channel, and their rate in Hz."""

    samples: int
    rate: int


class AudioIndex:
    """Reads each audio file once, whole, so that damage is found now and not in training."""

    def __init__(self) -> None:
        self._known: dict[Path, AudioInfo | str] = {}

    def look_up(self, path: Path) -> AudioInfo | str:
        """Length and rate, or what is wrong with the file."""
        if path not in self._known:
            try:
                samples, rate = read_audio(path)
                self._known[path] = AudioInfo(len(samples), rate)
            except DataError as error:
                self._known[path] = str(error)
        return self._known[path]


def build_cuts(entries: Sequence[Entry], skips: Skips, progress: Progress | None = None) -> list[MonoCut]:
    """Checked cuts of ``entries``, in their order; what cannot be used goes to ``skips``."""
    index, cuts, seen = AudioIndex(), [], set[str]()
    names = recording_names(entry.path for entry in entries)
    for done, entry in enumerate(entries, start=1):
        audio = index.look_up(entry.path)
        reason = "the id occurs twice" if entry.id in seen else _reason(entry, audio)
        seen.add(entry.id)
        if reason is None and isinstance(audio, AudioInfo):
            cuts.append(_cut(entry, audio, names[entry.path]))
        else:
            skips.add(entry.id, reason or "unreadable")
        if progress:
            progress(done, len(entries))
    return cuts


def make_cut(id: str, path: Path, samples: int, rate: int, text: str, speaker: str) -> MonoCut:
    """A cut of the whole file ``path`` of ``samples`` samples at ``rate`` Hz."""
    return _cut(Entry(id, path, text, speaker), AudioInfo(samples, rate), path.stem)


def recording_names(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for each file, by which utterances of one recording are known: the file's, without its suffix, or where
    several files have that name their paths, below the folder that these share."""
    alike: dict[str, dict[Path, Path]] = {}
    for path in paths:
        alike.setdefault(path.stem, {})[path] = path.resolve()
    found = {}
    for stem, group in alike.items():
        files = set(group.values())
        shared = os.path.commonpath([file.parent for file in files])
        for path, file in group.items():
            found[path] = stem if len(files) == 1 else file.relative_to(shared).as_posix()
    return found


def split_off_dev(
    entries: Iterable[Entry], share: float, seed: int, person: Callable[[str], str] = str
) -> tuple[list[Entry], list[Entry], bool]:
    """(train, dev, speaker-disjoint): about ``share`` of the utterances leave train by whole speakers.

    Speakers whom ``person`` maps to one name are one. Where fewer than two speakers are known, single utterances are
    drawn, and the last value is False.
    """
    pool = list(entries)
    groups: dict[str, list[Entry]] = {}
    for entry in pool:
        groups.setdefault(person(entry.speaker), []).append(entry)
    # An utterance without a known speaker bears its own id as the speaker.
    disjoint = len(groups) > 1 and any(entry.speaker != entry.id for entry in pool)
    units = [groups[name] for name in sorted(groups)] if disjoint else [[entry] for entry in pool]
    random.Random(seed).shuffle(units)
    dev: list[Entry] = []
    wanted = max(1, round(share * len(pool)))
    while len(units) > 1 and len(dev) < wanted:
        dev.extend(units.pop())
    chosen = {id(entry) for entry in dev}
    return [entry for entry in pool if id(entry) not in chosen], [e for e in pool if id(e) in chosen], disjoint


def _reason(entry: Entry, audio: AudioInfo | str) -> str | None:
    if isinstance(audio, str):
        return audio
    seconds = audio.samples / audio.rate
    if entry.seconds is not None and abs(entry.seconds - seconds) > max(0.1, 0.02 * seconds):
        return f"mismatched: the manifest says {entry.seconds:g} s, the audio has {seconds:.2f} s"
    return problem(entry.text, entry.start, seconds if entry.end is None else entry.end, seconds)


def _cut(entry: Entry, audio: AudioInfo, name: str) -> MonoCut:
    source = AudioSource(type="file", channels=[0], source=str(entry.path.absolute()))
    whole = audio.samples / audio.rate
    recording = Recording(
        id=name, sources=[source], sampling_rate=audio.rate, num_samples=audio.samples, duration=whole
    )
    duration = round(min(entry.end or whole, whole) - entry.start, 8)
    text = " ".join(entry.text.split())
    segment = SupervisionSegment(
        id=entry.id, recording_id=recording.id, start=0, duration=duration, text=text, speaker=entry.speaker
    )
    return MonoCut(
        id=entry.id, start=entry.start, duration=duration, channel=0, recording=recording, supervisions=[segment]
    )
