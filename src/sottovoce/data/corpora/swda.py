"""Switchboard dialogue acts: N. Duran's text of the SwDA corpus, a file a conversation, ``Speaker|Utterance|Tag`` a
line, in the folders ``train``, ``val`` and, in the public copy, ``test``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sottovoce.data import options as check
from sottovoce.data.text import Conversation, TextCorpus, assemble, conversation, folder_of, hold_out, read_lines
from sottovoce.decoding.text import spoken
from sottovoce.errors import DataError


def read_swda(source: str | Path, *, dev_conversations: int = 24) -> TextCorpus:
    """Train, dev, validation, and test where it is there; a sentence is an utterance, normalized by ``spoken``.

    Dev is cut from training: the ``dev_conversations`` whose numbers have the smallest SHA-256. The 21 validation
    conversations are for reporting only. Raises DataError for another layout, naming file and line.
    """
    held = check.integer("dev_conversations", dev_conversations, 1, 1000)
    place = folder_of(source, "swda_data")
    train, dev = hold_out(_read(place / "train"), held)
    splits = {"train": train, "dev": dev, "validation": _read(place / "val")}
    if (place / "test").is_dir():
        splits["test"] = _read(place / "test")
    return assemble("swda", "spoken", splits, "validation", place)


def _read(folder: Path) -> list[Conversation]:
    return [conversation(path.stem, _utterances(path), spoken) for path in sorted(folder.glob("*.txt"))]


def _utterances(path: Path) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("|")
        if len(fields) == 3:
            yield fields[1]
        elif line.strip():
            raise DataError(f"{path}:{number}: expected Speaker|Utterance|Tag, found {len(fields)} fields")
