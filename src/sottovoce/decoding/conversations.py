"""Which utterances follow one another, so that a language model can remember what was said before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sottovoce.decoding.text_files import read_table
from sottovoce.errors import DataError


def conversation_of(id: str, recording: str | None = None) -> str:
    """The recording where it is known, else the name up to its last hyphen or, without one, its last underscore; a name
    with neither is a conversation of its own.

    >>> conversation_of("sw2005-17"), conversation_of("meeting_3"), conversation_of("u1")
    ('sw2005', 'meeting', 'u1')
    """
    if recording:
        return recording
    return next((id.rpartition(mark)[0] for mark in "-_" if id.rpartition(mark)[0]), id)


def read_conversations(path: str | Path) -> dict[str, str]:
    """Lines of utterance and conversation, in the order in which they were said. Raises DataError naming the line of
    anything else."""
    found: dict[str, str] = {}
    for id, (line, conversation) in read_table(Path(path)).items():
        if len(conversation.split()) != 1:
            raise DataError(f"{path}:{line}: expected an utterance and its conversation, found {conversation[:40]!r}")
        found[id] = conversation
    return found


def in_conversations(
    ids: Sequence[str], recordings: Sequence[str | None], given: Mapping[str, str] | None = None
) -> list[list[int]]:
    """Indexes of utterances, conversation by conversation, each in the order of ``given`` or else as they come.

    ``given`` (``read_conversations``) says the conversation of each; ``conversation_of`` does without it. Raises
    DataError naming an utterance that ``given`` lacks.
    """
    order = list(range(len(ids)))
    if given is not None:
        missing = next((id for id in ids if id not in given), None)
        if missing is not None:
            raise DataError(f"conversations: expected one for {missing!r}, found none")
        places = {id: place for place, id in enumerate(given)}
        order.sort(key=lambda i: places[ids[i]])
    found: dict[str, list[int]] = {}
    for i in order:
        found.setdefault(given[ids[i]] if given else conversation_of(ids[i], recordings[i]), []).append(i)
    return list(found.values())
