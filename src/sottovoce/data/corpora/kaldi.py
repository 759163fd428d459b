"""Kaldi data folders: ``wav.scp``, ``text``, ``utt2spk`` and, where recordings are long, ``segments``."""

from __future__ import annotations

from pathlib import Path

from sottovoce.data.checks import Skips
from sottovoce.data.corpora.common import prepare_entries
from sottovoce.data.entries import Entry
from sottovoce.data.prepared import SPLITS, Prepared
from sottovoce.errors import DataError
from sottovoce.progress import Progress


def prepare_kaldi(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Manifests of the Kaldi folders ``train``, ``dev``, ``test`` under ``source``, or of ``source`` itself (as train).

    Audio stays where it is; relative paths are taken from the current folder, as Kaldi does, then from the data
    folder. A missing dev or test set is cut from train by whole speakers. Raises DataError naming the file for pipes
    in wav.scp, missing files and malformed lines.
    """
    return prepare_entries(
        "kaldi",
        _read,
        source,
        out,
        seed=seed,
        dev_share=dev_share,
        test_share=test_share,
        strict=strict,
        progress=progress,
    )


def _read(source: Path, skips: Skips) -> dict[str, list[Entry]]:
    if (source / "wav.scp").exists():
        return {"train": _read_folder(source, skips)}
    found = {split: _read_folder(source / split, skips) for split in SPLITS if (source / split / "wav.scp").exists()}
    if "train" not in found:
        raise DataError(f"{source}: no Kaldi data here (wav.scp or train/wav.scp expected)")
    return found


def _read_folder(folder: Path, skips: Skips) -> list[Entry]:
    audio = _audio_paths(folder)
    texts = _table(folder / "text")
    speakers = _table(folder / "utt2spk") if (folder / "utt2spk").exists() else {}
    entries = []
    for id, (recording, start, end) in _segments(folder, audio).items():
        if recording not in audio:
            skips.add(id, f"mismatched: segments names the recording {recording!r}, which wav.scp does not have")
        elif id not in texts:
            skips.add(id, "mismatched: no line in text")
        else:
            speaker = speakers.get(id, id).strip()
            entries.append(Entry(id, audio[recording], texts[id], speaker, start, end))
    known = {entry.id for entry in entries} | {skipped.id for skipped in skips.items}
    for id in texts:
        if id not in known:
            skips.add(id, "mismatched: a line in text but no audio")
    return entries


def _audio_paths(folder: Path) -> dict[str, Path]:
    paths = {}
    for id, value in _table(folder / "wav.scp").items():
        if value.endswith("|") or value == "-":
            raise DataError(
                f"{folder / 'wav.scp'}: {id} is a command ({value[:40]!r}); none is run: name plain audio files"
            )
        path = Path(value)
        paths[id] = path if path.is_absolute() or path.exists() else folder / path
    return paths


def _segments(folder: Path, audio: dict[str, Path]) -> dict[str, tuple[str, float, float | None]]:
    path = folder / "segments"
    if not path.exists():
        return {id: (id, 0.0, None) for id in audio}
    segments: dict[str, tuple[str, float, float | None]] = {}
    for id, value in _table(path).items():
        try:
            recording, start, end = value.split()
            # Kaldi writes -1 for "to the end".
            segments[id] = (recording, float(start), None if float(end) < 0 else float(end))
        except ValueError:
            raise DataError(f"{path}: {id} expects 'recording start end', found {value!r}") from None
    return segments


def _table(path: Path) -> dict[str, str]:
    """First word to the rest of its line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DataError(f"{path}: missing or not readable") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        if key in table:
            raise DataError(f"{path}, line {number}: {key!r} occurs twice")
        table[key] = rest.strip()
    return table
