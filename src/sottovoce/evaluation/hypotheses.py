"""Files of hypotheses: what systems heard, in the forms that toolkits write.

JSON lines with ``id``, ``text`` and optional ``speaker``, ``recording`` and ``reference`` (``evaluate`` writes them;
what ``transcribe --json`` prints and files of n-best lists are read too, their best text); ``id<TAB>text`` lines;
NIST's trn, ``text (id)``; Kaldi's and ESPnet's text, ``id text``, as a file or as ``text`` in a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sottovoce.decoding.text_files import read_lines, write_text
from sottovoce.errors import DataError


@dataclass(frozen=True)
class Hypothesis:
    """What a system heard in an utterance; speaker, recording and reference text where they are known."""

    id: str
    text: str
    speaker: str | None = None
    recording: str | None = None
    reference: str | None = None


_KEYS = {item.name for item in fields(Hypothesis)}
_TRN = re.compile(r"(.*?)\s*\(([^()]*)\)\s*")
_TEXTS = ("text", "1best_recog/text")  # in a folder that Kaldi or ESPnet decoded into

_Parse = Callable[[str, str], Hypothesis]


def read_hypotheses(path: str | Path) -> list[Hypothesis]:
    """Read a UTF-8 file in its order, or the ``text`` of a folder; blank lines are skipped.

    The form follows from the name, .jsonl, .tsv or .trn; with another one from the lines: trn if all end with an
    identifier in parentheses, tab-separated if all have a tab, else Kaldi's. Raises DataError naming file and line for
    a line of another form or an identifier given twice.
    """
    path = _file_in(Path(path))
    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line.strip()]
    parse = _form(path, [line for _, line in lines])
    found: dict[str, Hypothesis] = {}
    for number, line in lines:
        hypothesis = parse(f"{path}:{number}", line)
        if hypothesis.id in found:
            raise DataError(f"{path}:{number}: identifier {hypothesis.id!r} is given twice")
        found[hypothesis.id] = hypothesis
    return list(found.values())


def write_hypotheses(path: str | Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write a file that ``read_hypotheses`` reads, whole or not at all: .jsonl, .trn, else tab-separated; all but the
    first keep id and text only.

    Raises DataError for an identifier or text that the form cannot hold, or a path that cannot be written.
    """
    path = Path(path)
    encode = {".jsonl": _to_json, ".trn": _to_trn}.get(path.suffix, _to_tabs)
    write_text(path, "".join(encode(path, hypothesis) + "\n" for hypothesis in hypotheses))


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = next((path / name for name in _TEXTS if (path / name).is_file()), None)
    if found is None:
        raise DataError(f"{path}: expected a file of hypotheses, or a folder with {' or '.join(_TEXTS)}, found neither")
    return found


def _form(path: Path, lines: list[str]) -> _Parse:
    named: dict[str, _Parse] = {".jsonl": _from_json, ".tsv": _from_tabs, ".trn": _from_trn}
    if path.suffix in named:
        return named[path.suffix]
    if lines and all(_TRN.fullmatch(line) for line in lines):
        return _from_trn
    return _from_tabs if lines and all("\t" in line for line in lines) else _from_kaldi


def _from_tabs(where: str, line: str) -> Hypothesis:
    id, tab, text = line.partition("\t")
    if not tab or not id or "\t" in text:
        raise DataError(f"{where}: expected an identifier, a tab and a text, found {line[:60]!r}")
    return Hypothesis(id, text)


def _from_trn(where: str, line: str) -> Hypothesis:
    match = _TRN.fullmatch(line)
    if match is None or not match[2].strip():
        raise DataError(f"{where}: expected a text and an identifier in parentheses, found {line[:60]!r}")
    return Hypothesis(match[2].strip(), match[1])


def _from_kaldi(where: str, line: str) -> Hypothesis:
    id, _, text = line.strip().replace("\t", " ").partition(" ")
    return Hypothesis(id, text.strip())


def _from_json(where: str, line: str) -> Hypothesis:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected a JSON object, found {line[:60]!r}") from error
    if isinstance(value, dict):
        value = _of_other_commands(value)
    if not isinstance(value, dict) or not {"id", "text"} <= set(value) <= _KEYS:
        raise DataError(f"{where}: expected the keys {', '.join(sorted(_KEYS))}, found {line[:60]!r}")
    known = {key: item for key, item in value.items() if item is not None}
    if not all(isinstance(item, str) for item in known.values()) or not {"id", "text"} <= set(known) or not known["id"]:
        raise DataError(f"{where}: expected text for each key, found {line[:60]!r}")
    return Hypothesis(**known)


def _of_other_commands(value: dict[str, Any]) -> dict[str, Any]:
    """``transcribe`` names a file and says more of it; n-best lists say more too."""
    if "file" in value and "id" not in value:
        return {"id": value["file"], "text": value.get("text")}
    return {key: item for key, item in value.items() if key != "nbest"}


def _to_tabs(path: Path, hypothesis: Hypothesis) -> str:
    parts = (hypothesis.id, hypothesis.text)
    if not hypothesis.id.strip() or any(mark in part for part in parts for mark in "\t\r\n"):
        raise DataError(f"{path}: utterance {hypothesis.id!r}: tabs, line ends and empty names do not fit this form")
    return "\t".join(parts)


def _to_trn(path: Path, hypothesis: Hypothesis) -> str:
    id = hypothesis.id
    if not id.strip() or any(mark in id for mark in "()\r\n") or any(mark in hypothesis.text for mark in "\r\n"):
        raise DataError(
            f"{path}: utterance {id!r}: line ends, empty names and parentheses in them do not fit this form"
        )
    return f"{hypothesis.text} ({id})".lstrip()


def _to_json(path: Path, hypothesis: Hypothesis) -> str:
    if not hypothesis.id:
        raise DataError(f"{path}: expected an identifier for {hypothesis.text[:60]!r}, found none")
    return json.dumps({key: value for key, value in asdict(hypothesis).items() if value is not None})
