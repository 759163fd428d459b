"""LibriSpeech and Mini LibriSpeech (openslr.org/12 and /31) on a user's own copy, read by lhotse's recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lhotse import Recording
from lhotse.audio.utils import AudioLoadingError
from lhotse.recipes.librispeech import LIBRISPEECH, MINI_LIBRISPEECH, parse_utterance

from sottovoce.data import options as check
from sottovoce.data.checks import Skips
from sottovoce.data.corpora.common import Read, check_source, prepare_entries
from sottovoce.data.entries import Entry
from sottovoce.data.prepared import Prepared
from sottovoce.errors import ConfigError, DataError, did_you_mean
from sottovoce.progress import Progress

_TRAIN = tuple(part for part in LIBRISPEECH if part.startswith("train-"))
_DEV, _TEST = ("dev-clean", "dev-other"), ("test-clean", "test-other")
_KNOWN = (*LIBRISPEECH, *MINI_LIBRISPEECH)
_INSIDE = "LibriSpeech"  # the folder that the archives unpack to


def prepare_librispeech(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    train_parts: Sequence[str] | str | None = None,
    dev_parts: Sequence[str] | str | None = _DEV,
    test_parts: Sequence[str] | str | None = _TEST,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Manifests of LibriSpeech (Panayotov et al. 2015): audio stays where it is, texts become lower case.

    ``source`` is the folder ``LibriSpeech`` or the one that holds it. ``train_parts`` are by default those of
    train-clean-100, train-clean-360 and train-other-500 that are there. Each cut's custom field ``part`` names its
    part, and the details count them. Raises ConfigError for an unknown part or one in two splits, DataError for a
    missing folder.
    """
    folder = _corpus_folder(source)
    train = check.names("train_parts", train_parts) or tuple(part for part in _TRAIN if (folder / part).is_dir())
    parts = {
        "train": train,
        "dev": check.names("dev_parts", dev_parts) or _DEV,
        "test": check.names("test_parts", test_parts) or _TEST,
    }
    _check_parts(folder, parts, _TRAIN)
    return prepare_entries(
        "librispeech",
        _reader(folder, parts),
        source,
        out,
        seed=seed,
        strict=strict,
        progress=progress,
        options={f"{split}_parts": list(names) for split, names in parts.items()},
        part_of=_part_of,
    )


def prepare_mini_librispeech(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Manifests of Mini LibriSpeech: train-clean-5 trains, dev-clean-2 is the test.

    ``dev_share`` of the training utterances become dev, by whole speakers. ``source``, texts and parts are as for
    ``prepare_librispeech``. Raises ConfigError on bad options, DataError for a missing folder.
    """
    folder = _corpus_folder(source)
    parts: dict[str, tuple[str, ...]] = {"train": ("train-clean-5",), "test": ("dev-clean-2",)}
    _check_parts(folder, parts, parts["train"])
    return prepare_entries(
        "mini_librispeech",
        _reader(folder, parts),
        source,
        out,
        seed=seed,
        dev_share=dev_share,
        strict=strict,
        progress=progress,
        part_of=_part_of,
    )


def _corpus_folder(source: str | Path) -> Path:
    place = check_source(source)
    return place / _INSIDE if (place / _INSIDE).is_dir() else place


def _check_parts(folder: Path, parts: Mapping[str, Sequence[str]], train: Sequence[str]) -> None:
    """Refuse unknown parts, parts that two splits share, and folders that are not there."""
    chosen = [part for names in parts.values() for part in names]
    for part in chosen:
        if part not in _KNOWN:
            raise ConfigError(f"there is no part {part!r}, only {', '.join(_KNOWN)}{did_you_mean(part, _KNOWN)}")
        if chosen.count(part) > 1:
            raise ConfigError(f"part {part!r} is chosen twice; each belongs to one of train, dev and test")
    missing = [part for part in chosen if not (folder / part).is_dir()]
    if not parts["train"]:
        missing.insert(0, " or ".join(train))
    if missing:
        found = [part for part in _KNOWN if (folder / part).is_dir()]
        raise DataError(f"{folder}: expected the folders {', '.join(missing)}; found {', '.join(found) or 'none'}")


def _reader(folder: Path, parts: Mapping[str, Sequence[str]]) -> Read:
    def read(source: Path, skips: Skips) -> dict[str, list[Entry]]:
        return {
            split: [entry for part in names for entry in _read_part(folder / part, skips)]
            for split, names in parts.items()
        }

    return read


def _read_part(folder: Path, skips: Skips) -> list[Entry]:
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise DataError(f"{folder}: expected SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, found no transcripts")
    found = (_entry(folder, line, skips) for path in transcripts for line in _lines(path))
    return [entry for entry in found if entry is not None]


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text ({error})") from None


def _entry(folder: Path, line: str, skips: Skips) -> Entry | None:
    """One line of a transcript; line by line, since lhotse's recipe as a whole stops at the first that it cannot use,
    and drops one without audio unseen."""
    id, *text = line.split(maxsplit=1)
    if not text:
        skips.add(id, "the transcript is empty")
        return None
    try:
        parsed = parse_utterance(folder, line, {})
    except AudioLoadingError:
        skips.add(id, "the audio is not readable")
        return None
    if parsed is None:
        skips.add(id, f"no such audio file in {folder.name}")
        return None
    recording, segment = parsed
    return Entry(id, _path(recording), segment.text.lower(), segment.speaker, seconds=recording.duration)


def _path(recording: Recording) -> Path:
    return Path(recording.sources[0].source)


def _part_of(recording: Recording) -> str:
    return _path(recording).parents[2].name  # PART/SPEAKER/CHAPTER/ID.flac
