"""Files of hypotheses: ``id<TAB>text`` lines, or JSON lines with ``id``, ``text`` and optional keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sottovoce.errors import DataError
from sottovoce.packed.replacing import replacing


@dataclass(frozen=True)
class Hypothesis:
    """What a system heard in an utterance; speaker, recording and reference text where they are known."""

    id: str
    text: str
    speaker: str | None = None
    recording: str | None = None
    reference: str | None = None


_KEYS = {item.name for item in fields(Hypothesis)}


def read_hypotheses(path: str | Path) -> list[Hypothesis]:
    """Read a UTF-8 file in its order: JSON lines if its name ends in .jsonl, else tab-separated; skips blank lines.

    Raises DataError naming file and line for a line of another form or an identifier given twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}") from error
    parse = _from_json if path.suffix == ".jsonl" else _from_tabs
    found: dict[str, Hypothesis] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        hypothesis = parse(f"{path}:{number}", line)
        if hypothesis.id in found:
            raise DataError(f"{path}:{number}: identifier {hypothesis.id!r} is given twice")
        found[hypothesis.id] = hypothesis
    return list(found.values())


def write_hypotheses(path: str | Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write a file that ``read_hypotheses`` reads, whole or not at all; tab-separated files keep id and text only.

    Raises DataError for an identifier or text that the form cannot hold, or a path that cannot be written.
    """
    path = Path(path)
    encode = _to_json if path.suffix == ".jsonl" else _to_tabs
    content = "".join(encode(path, hypothesis) + "\n" for hypothesis in hypotheses)
    try:
        with replacing(path) as stream:
            stream.write(content.encode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _from_tabs(where: str, line: str) -> Hypothesis:
    id, tab, text = line.partition("\t")
    if not tab or not id or "\t" in text:
        raise DataError(f"{where}: expected an identifier, a tab and a text, found {line[:60]!r}")
    return Hypothesis(id, text)


def _from_json(where: str, line: str) -> Hypothesis:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected a JSON object, found {line[:60]!r}") from error
    if not isinstance(value, dict) or not {"id", "text"} <= set(value) <= _KEYS:
        raise DataError(f"{where}: expected the keys {', '.join(sorted(_KEYS))}, found {line[:60]!r}")
    known = {key: item for key, item in value.items() if item is not None}
    if not all(isinstance(item, str) for item in known.values()) or not {"id", "text"} <= set(known) or not known["id"]:
        raise DataError(f"{where}: expected text for each key, found {line[:60]!r}")
    return Hypothesis(**known)


def _to_tabs(path: Path, hypothesis: Hypothesis) -> str:
    parts = (hypothesis.id, hypothesis.text)
    if not hypothesis.id.strip() or any(mark in part for part in parts for mark in "\t\r\n"):
        raise DataError(f"{path}: utterance {hypothesis.id!r}: tabs, line ends and empty names do not fit this form")
    return "\t".join(parts)


def _to_json(path: Path, hypothesis: Hypothesis) -> str:
    if not hypothesis.id:
        raise DataError(f"{path}: expected an identifier for {hypothesis.text[:60]!r}, found none")
    return json.dumps({key: value for key, value in asdict(hypothesis).items() if value is not None})
