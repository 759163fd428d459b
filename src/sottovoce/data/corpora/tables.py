"""TSV or JSONL tables of audio path and text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sottovoce.data.checks import Skips
from sottovoce.data.corpora.common import prepare_entries
from sottovoce.data.entries import Entry
from sottovoce.data.prepared import SPLITS, Prepared
from sottovoce.errors import DataError
from sottovoce.progress import Progress

_SUFFIXES = (".tsv", ".jsonl")
_SPLIT_NAMES = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}


def prepare_table(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Manifests of one table, or of ``train``, ``dev`` and ``test`` (.tsv or .jsonl) in the folder ``source``.

    Columns (a TSV has a header): ``audio`` or ``path``, ``text``, and where known ``id``, ``speaker``, ``split``,
    ``duration`` (seconds). Relative paths are taken from the table's folder. A missing dev or test set is cut from
    train by whole speakers. Audio stays where it is. Raises DataError naming the file and the line.
    """
    return prepare_entries(
        "table",
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
    found: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for path, split in _files(source):
        for number, row in _rows(path):
            chosen, entry = _entry(path, number, row, split)
            found[chosen].append(entry)
    return found


def _files(source: Path) -> list[tuple[Path, str]]:
    if source.is_file():
        if source.suffix not in _SUFFIXES:
            raise DataError(f"{source}: a .tsv or .jsonl file expected")
        return [(source, "train")]
    found = [(source / f"{split}{suffix}", split) for split in SPLITS for suffix in _SUFFIXES]
    found = [(path, split) for path, split in found if path.exists()]
    if "train" not in [split for _, split in found]:
        raise DataError(f"{source}: no train.tsv or train.jsonl here")
    return found


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text ({error})") from None
    if path.suffix == ".jsonl":
        return _json_rows(path, text)
    return _tsv_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: a JSON object expected, found {type(row).__name__}")
        yield number, row


def _tsv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [name.strip() for name in next(rows, [])]
    if "text" not in header or not {"audio", "path"} & set(header):
        raise DataError(f"{path}: a header with the columns audio (or path) and text expected, found {header}")
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: {len(header)} columns expected, found {len(row)}")
        yield number, dict(zip(header, row, strict=True))


def _entry(path: Path, number: int, row: dict[str, Any], split: str) -> tuple[str, Entry]:
    audio, text = row.get("audio") or row.get("path"), row.get("text")
    if not isinstance(audio, str) or not isinstance(text, str):
        raise DataError(f"{path}, line {number}: audio (or path) and text must be given as strings")
    named = str(row.get("split") or split)
    if named not in _SPLIT_NAMES:
        raise DataError(f"{path}, line {number}: split must be one of {', '.join(_SPLIT_NAMES)}, found {named!r}")
    id = str(row.get("id") or f"{path.stem}-{number:06d}")
    # Without a speaker each utterance is its own: nothing then pretends that speakers were kept apart.
    speaker = str(row.get("speaker") or id)
    return _SPLIT_NAMES[named], Entry(id, path.parent / audio, text, speaker, seconds=_seconds(path, number, row))


def _seconds(path: Path, number: int, row: dict[str, Any]) -> float | None:
    value = row.get("duration")
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{path}, line {number}: duration must be seconds, found {value!r}") from None
