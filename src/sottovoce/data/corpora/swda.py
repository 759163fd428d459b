"""Switchboard dialogue acts: N. Duran's text of the SwDA corpus, a file a conversation, ``Speaker|Utterance|Tag`` a
line, in the folders ``train``, ``val`` and, in the public copy, ``test``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sottovoce.data import options as check
from sottovoce.data.text import Conversation, TextCorpus, assemble, folder_of, hold_out, read_lines
from sottovoce.decoding.text import spoken
from sottovoce.errors import DataError


@dataclass(frozen=True)
class Turns:
    """A conversation and who said each of its sentences."""

    conversation: Conversation
    speakers: tuple[str, ...]


def read_swda(source: str | Path, *, dev_conversations: int = 24) -> TextCorpus:
    """Train, dev, validation, and test where it is there; a sentence is an utterance, normalized by ``spoken``.

    Dev is cut from training: the ``dev_conversations`` whose numbers have the smallest SHA-256. The 21 validation
    conversations are for reporting only. Raises DataError for another layout, naming file and line.
    """
    return read_swda_turns(source, dev_conversations=dev_conversations)[0]


def read_swda_turns(
    source: str | Path, *, dev_conversations: int = 24
) -> tuple[TextCorpus, Mapping[str, tuple[Turns, ...]]]:
    """The text as ``read_swda`` gives it, and by split the same conversations with their speakers."""
    held = check.integer("dev_conversations", dev_conversations, 1, 1000)
    place = folder_of(source, "swda_data")
    found = {name: _read(place / name) for name in ("train", "val", "test") if (place / name).is_dir()}
    train, dev = hold_out([turns.conversation for turns in found.get("train", ())], held)
    splits = {"train": train, "dev": dev, "validation": [turns.conversation for turns in found.get("val", ())]}
    if "test" in found:
        splits["test"] = [turns.conversation for turns in found["test"]]
    corpus = assemble("swda", "spoken", splits, "validation", place)
    turns_of = {turns.conversation: turns for part in found.values() for turns in part}
    return corpus, {name: tuple(turns_of[c] for c in kept) for name, kept in corpus.splits.items()}


def _read(folder: Path) -> list[Turns]:
    return [_turns(path) for path in sorted(folder.glob("*.txt"))]


def _turns(path: Path) -> Turns:
    said = [(speaker, text) for speaker, text in _utterances(path) if text]
    return Turns(Conversation(path.stem, tuple(text for _, text in said)), tuple(speaker for speaker, _ in said))


def _utterances(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("|")
        if len(fields) == 3:
            yield fields[0].strip(), spoken(fields[1])
        elif line.strip():
            raise DataError(f"{path}:{number}: expected Speaker|Utterance|Tag, found {len(fields)} fields")
