"""A prepared data folder: ``{train,dev,test}.jsonl.gz`` (lhotse cuts), ``audio/`` or, of a corpus that comes as
features, ``arrays/``; ``prepared.json`` comes last."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut

from sottovoce.data.checks import Skipped
from sottovoce.errors import DataError
from sottovoce.packed.replacing import replacing

SPLITS = ("train", "dev", "test")
MARKER = "prepared.json"
_STARTED = "preparing.json"
_VERSION = 1


@dataclass(frozen=True)
class Prepared:
    """What ``prepared.json`` says: how the folder was made, utterances and words a split, and what was skipped."""

    folder: Path
    name: str
    options: dict[str, Any]
    counts: dict[str, int]
    words: dict[str, int]
    skipped: tuple[Skipped, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def load_prepared(folder: str | Path) -> Prepared:
    """Read ``folder/prepared.json``. Raises DataError if it is missing, unreadable or of another version."""
    values = _read_json(Path(folder) / MARKER)
    if values is None:
        raise DataError(f"{folder}: not a prepared data folder ({MARKER} is missing; run `sottovoce data prepare`)")
    if values.get("version") != _VERSION:
        raise DataError(f"{folder}/{MARKER}: version {_VERSION} expected, found {values.get('version')!r}")
    try:
        skipped = tuple(Skipped(**item) for item in values["skipped"])
        keys = ("name", "options", "counts", "words", "details")
        return Prepared(Path(folder), skipped=skipped, **{key: values[key] for key in keys})
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder}/{MARKER}: not as written by `sottovoce data prepare` ({error})") from None


def load_cuts(folder: str | Path, split: str) -> CutSet:
    """The cuts of ``split`` (train, dev or test) in a prepared folder. Raises DataError if there are none."""
    load_prepared(folder)
    path = Path(folder) / f"{split}.jsonl.gz"
    if split not in SPLITS or not path.exists():
        raise DataError(f"{folder}: there is no split {split!r} here")
    try:
        return CutSet.from_file(path).to_eager()
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise DataError(f"{path}: the manifest is damaged ({error}); prepare the data again") from error


def begin(
    out: str | Path,
    name: str,
    options: Mapping[str, Any],
    holds: Sequence[str] = ("audio",),
    *,
    resumes: bool = False,
) -> Prepared | None:
    """Make ``out`` ready to be filled; or, where the same preparation is complete already, return it. ``holds``: the
    folders that it gets.

    What an interrupted preparation left is removed; with ``resumes``, what is in those folders stays if the options
    were the same. Raises DataError if the folder was prepared with other options (the
    first that differs is named) or holds files that are not ours.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: --out must be a folder, found a file")
    if (folder / MARKER).exists():
        found = load_prepared(folder)
        _check_same(found, name, _plain(options))
        return found
    if folder.exists() and any(folder.iterdir()) and not (folder / _STARTED).exists():
        raise DataError(f"{folder}: not empty and not ours; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    started = {"name": name, "options": _plain(options)}
    if not (resumes and _read_json(folder / _STARTED) == started):
        _clear(folder)
    _write_json(folder / _STARTED, started)  # before all else, so that whatever a kill leaves is known to be ours
    for inner in holds:
        (folder / inner).mkdir(exist_ok=True)
    return None


def finish(
    out: str | Path,
    name: str,
    options: Mapping[str, Any],
    splits: Mapping[str, Sequence[Cut]],
    skipped: Sequence[Skipped] = (),
    details: Mapping[str, Any] | None = None,
) -> Prepared:
    """Write the manifests of ``splits`` and then ``prepared.json``. Raises DataError if a split has no utterances."""
    folder = Path(out)
    for split in SPLITS:
        cuts = splits.get(split, ())
        if not cuts:
            raise DataError(
                f"{folder}: no usable utterances for {split} ({len(skipped)} skipped); nothing was prepared"
            )
        partial = folder / f"{split}.partial.jsonl.gz"
        CutSet.from_cuts(cuts).to_file(partial)
        partial.replace(folder / f"{split}.jsonl.gz")
    prepared = Prepared(
        folder=folder,
        name=name,
        options=_plain(options),
        counts={split: len(splits[split]) for split in SPLITS},
        words={split: sum(count_words(cut) for cut in splits[split]) for split in SPLITS},
        skipped=tuple(skipped),
        details=_plain(details or {}),
    )
    return mark_complete(prepared)


def mark_complete(prepared: Prepared) -> Prepared:
    """Write ``prepared.json``, once everything else is there."""
    values = {key: value for key, value in asdict(prepared).items() if key != "folder"}
    _write_json(prepared.folder / MARKER, {"version": _VERSION, **values, "options": _plain(prepared.options)})
    (prepared.folder / _STARTED).unlink(missing_ok=True)
    return prepared


def count_words(cut: Cut) -> int:
    """Words in the transcript of ``cut``."""
    return len(cut.supervisions[0].text.split())


def _check_same(found: Prepared, name: str, options: Mapping[str, Any]) -> None:
    if found.name != name:
        raise DataError(f"{found.folder}: prepared as {found.name!r}, now {name!r} is asked for; choose another --out")
    for key in sorted({*found.options, *options}):
        old, new = found.options.get(key), options.get(key)
        if old != new:
            raise DataError(
                f"{found.folder}: prepared with {key}={old!r}, now {key}={new!r} is asked for; choose another --out"
            )


def _clear(folder: Path) -> None:
    for left in [*folder.glob("*.jsonl.gz"), *folder.glob("*.txt.gz"), *folder.glob(".*.gz.*.tmp")]:
        left.unlink()
    if (folder / _STARTED).exists():
        for made in ("audio", "arrays"):
            shutil.rmtree(folder / made, ignore_errors=True)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples become lists, paths become strings."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with replacing(path) as stream:
        stream.write((json.dumps(values, indent=1) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: a JSON object expected, found {type(values).__name__}")
    return values
