"""CMU AN4 ("census"): spelt names, addresses, telephone numbers and dates, read by 84 speakers (Acero 1990)."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lhotse import MonoCut

from sottovoce.data import options as check
from sottovoce.data.arrays import build_feature_cuts
from sottovoce.data.checks import Skips
from sottovoce.data.corpora.sphinx import read_fileids, read_mfc, read_transcription
from sottovoce.data.entries import Entry, build_cuts, split_off_dev
from sottovoce.data.prepared import SPLITS, Prepared, begin, finish
from sottovoce.errors import ConfigError, DataError
from sottovoce.progress import Progress

DIM, RATE, SAMPLING_RATE = 13, 100.0, 16_000  # of the .mfc files
_SOURCES = ("auto", "wav", "mfc")
_PLACES = {"wav": ("wav", (".wav", ".sph")), "mfc": ("feat", (".mfc",))}


def prepare_an4(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    audio: str = "auto",
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Manifests of the AN4 folder ``source``: ``etc/`` with ``wav/`` or ``feat/``.

    ``audio="wav"`` takes the recordings (.wav, or .sph as first released), which stay where they are; ``"mfc"`` the
    Sphinx cepstra, 13 values a frame and 100 frames a second, which are copied to ``out/arrays``: what is trained on
    them takes features, not waveforms. ``"auto"``: the recordings where there are any. A folder is wholly one or the
    other. Dev is cut from the training speakers, ``dev_share`` of the utterances by whole persons: ``mdcs`` and
    ``mdcs2`` are one person's two sessions. Speakers are the folders' names, texts in lower case. Damaged files are
    skipped, with the reason, or refused by ``strict``. Raises ConfigError on bad options, DataError on a bad source.
    """
    if audio not in _SOURCES:
        raise ConfigError(f"audio must be one of {', '.join(_SOURCES)}, found {audio!r}")
    chosen = {
        "source": str(Path(source).absolute()),
        "seed": check.integer("seed", seed, 0, 2**31),
        "dev_share": check.number("dev_share", dev_share, 0.001, 0.9),
        "audio": audio,
        "strict": bool(strict),
    }
    kind = _kind(Path(source), audio)
    done = begin(out, "an4", chosen)
    if done is not None:
        return done
    skips = Skips(strict)
    entries = {split: _entries(Path(source), split, kind, skips) for split in ("train", "test")}
    entries["train"], entries["dev"], disjoint = split_off_dev(entries["train"], dev_share, seed, person)
    cuts = _cuts(entries, kind, Path(out), skips, progress)
    skips.report(sum(map(len, cuts.values())))
    details: dict[str, Any] = {
        "read": kind,
        "dev_cut_from_train": "by speakers" if disjoint else "by utterances: one speaker only",
        "speakers": {split: sorted({entry.speaker for entry in entries[split]}) for split in SPLITS},
    }
    if kind == "mfc":
        details["input"] = {"kind": "features", "dim": DIM, "rate": RATE}
    return finish(out, "an4", chosen, cuts, skips.items, details)


def person(speaker: str) -> str:
    """Who speaks: the name of the folder without the digit that counts a person's sessions."""
    return speaker.rstrip("0123456789") or speaker


def _kind(source: Path, audio: str) -> str:
    """``wav`` or ``mfc``. Raises DataError where the source has not what is asked for."""
    if not (source / "etc" / "an4_train.fileids").is_file():
        raise DataError(f"{source}: no AN4 here (etc/an4_train.fileids expected)")
    wanted = ("wav", "mfc") if audio == "auto" else (audio,)
    for kind in wanted:
        if (source / _PLACES[kind][0] / "an4_clstk").is_dir():
            return kind
    places = " or ".join(f"{_PLACES[kind][0]}/an4_clstk" for kind in wanted)
    raise DataError(f"{source}: neither recordings nor features found ({places} expected)")


def _entries(source: Path, split: str, kind: str, skips: Skips) -> list[Entry]:
    place, suffixes = _PLACES[kind]
    texts = read_transcription(source / "etc" / f"an4_{split}.transcription")
    paths = [PurePosixPath(name) for name in read_fileids(source / "etc" / f"an4_{split}.fileids")]
    found = []
    for path in paths:
        if path.name not in texts:
            skips.add(path.name, f"mismatched: no line in an4_{split}.transcription")
            continue
        file = _file(source / place / path, suffixes)
        found.append(Entry(path.name, file, texts[path.name].lower(), path.parent.name or path.name))
    for id in sorted(texts.keys() - {path.name for path in paths}):
        skips.add(id, f"mismatched: no line in an4_{split}.fileids")
    return found


def _file(stem: Path, suffixes: tuple[str, ...]) -> Path:
    """The first that exists of ``stem`` with each suffix, else the first."""
    candidates = [stem.with_name(stem.name + suffix) for suffix in suffixes]
    return next((path for path in candidates if path.exists()), candidates[0])


def _cuts(
    entries: dict[str, list[Entry]], kind: str, out: Path, skips: Skips, progress: Progress | None
) -> dict[str, list[MonoCut]]:
    if kind == "wav":
        return {split: build_cuts(entries[split], skips, progress) for split in SPLITS}
    read = partial(read_mfc, dim=DIM)
    return {
        split: build_feature_cuts(
            entries[split], read, out, skips, rate=RATE, sampling_rate=SAMPLING_RATE, progress=progress
        )
        for split in SPLITS
    }
