"""Transcripts of Switchboard (ISIP's ``swb_ms98_transcriptions``) and of Fisher (``fe_03_p1_tran``, ``p2``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sottovoce.data import options as check
from sottovoce.data.text import Conversation, TextCorpus, assemble, conversation, folder_of, hold_out, read_lines
from sottovoce.decoding.text import telephone
from sottovoce.errors import DataError

_Turn = tuple[float, str, str]  # start in seconds, side, words


def read_swbd_fisher(source: str | Path, *, dev_conversations: int = 50) -> TextCorpus:
    """All conversations of either corpus below ``source``, turns of both sides by their start; normalized by
    ``telephone``. Dev is the ``dev_conversations`` whose names have the smallest SHA-256 (their evaluation sets, Hub5
    and RT, are corpora of their own).

    Raises DataError where there is neither, or naming file and line for another layout.
    """
    held = check.integer("dev_conversations", dev_conversations, 1, 10_000)
    place = folder_of(source)
    found = [*_switchboard(place), *_fisher(place)]
    if not found:
        raise DataError(f"{place}: expected sw*-ms98-a-trans.text or fe_03_*.txt below it, found none")
    train, dev = hold_out(found, held)
    return assemble("swbd_fisher", "telephone", {"train": train, "dev": dev}, "dev", place)


def _switchboard(place: Path) -> Iterator[Conversation]:
    """``sw2001A-ms98-a-0001 0.000000 0.977625 words``: a file a side, sw2001 the conversation."""
    sides: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(place.rglob("sw*-ms98-a-trans.text")):
        sides[path.name[:6]].append(path)
    for name, paths in sorted(sides.items()):
        yield _conversation(name, [_isip(path, n, line) for path in paths for n, line in _numbered(path)])


def _isip(path: Path, number: int, line: str) -> _Turn:
    fields = line.split(maxsplit=3)
    return (_seconds(path, number, fields, 1), path.name[6:7], fields[3] if len(fields) > 3 else "")


def _fisher(place: Path) -> Iterator[Conversation]:
    """``0.00 1.92 A: words``, comments after ``#``."""
    for path in sorted(place.rglob("fe_03_*.txt")):
        turns = []
        for number, line in _numbered(path):
            fields = line.split(maxsplit=3)
            side = fields[2] if len(fields) > 2 else ""
            if side.rstrip(":") not in ("A", "B", "A1", "B1"):
                raise DataError(f"{path}:{number}: expected start, end and A: or B:, found {line[:40]!r}")
            turns.append((_seconds(path, number, fields, 0), side, fields[3] if len(fields) > 3 else ""))
        yield _conversation(path.stem, turns)


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    lines = enumerate(read_lines(path), start=1)
    return ((number, line) for number, line in lines if line.strip() and not line.startswith("#"))


def _seconds(path: Path, number: int, fields: list[str], at: int) -> float:
    try:
        return float(fields[at])
    except (IndexError, ValueError):
        raise DataError(f"{path}:{number}: expected a start in seconds, found {' '.join(fields)[:40]!r}") from None


def _conversation(name: str, turns: list[_Turn]) -> Conversation:
    return conversation(name, (words for _, _, words in sorted(turns, key=lambda turn: turn[:2])), telephone)
