"""Conversations said by synthetic voices: one recording each, its utterances one after the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from sottovoce.data.entries import Entry
from sottovoce.data.espeak import Voice
from sottovoce.data.mixing import RATE, Babblers, at_loudness, limited, noise_of, say
from sottovoce.data.noise import Samples, mix
from sottovoce.data.room import Room, reverberate
from sottovoce.errors import DataError
from sottovoce.packed.replacing import replacing


@dataclass(frozen=True)
class Side:
    """One speaker of a conversation, and where they are; ``seed`` is the state of what is random in that."""

    voice: Voice
    room: Room
    noise: str
    loudness_db: float
    seed: tuple[int, ...]


@dataclass(frozen=True)
class TalkUtterance:
    """One utterance to be said: everything but its samples."""

    id: str
    text: str
    side: Side
    snr_db: float
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Talk:
    """One recording to be made: its utterances, in the order in which they were said."""

    id: str
    split: str
    utterances: tuple[TalkUtterance, ...]


def render(utterance: TalkUtterance, babblers: Babblers) -> Samples:
    """The samples (S,) float32 of an utterance at 16 kHz, within [-1, 1]; 0.1 to 0.33 s without speech at both ends,
    into which the room's echo falls. The ratio to the noise is that of the reverberant sound."""
    side, source = utterance.side, np.random.default_rng((*utterance.seed, 1))
    speech = say(utterance.text, side.voice, int(source.integers(2**31)))
    before, after = source.integers(RATE // 10, RATE // 3, size=2)
    response = side.room.response(RATE, np.random.default_rng((*side.seed, 1)))
    speech = reverberate(np.pad(at_loudness(speech, side.loudness_db), (before, after)), response)
    noise = noise_of(side.noise, len(speech), source, babblers, side.voice.name)
    return limited(mix(speech, noise, utterance.snr_db))


def record(talk: Talk, folder: Path, babblers: Babblers) -> list[Entry]:
    """Write ``folder/<id>.flac`` unless it is there, and return its utterances as entries.

    ``<id>.json`` beside it says at which sample each begins and ends; it is written last, so that a recording without
    it is made anew. Raises DataError for such a file that is damaged.
    """
    audio, places = folder / f"{talk.id}.flac", folder / f"{talk.id}.json"
    if not places.exists():
        parts = [render(utterance, babblers) for utterance in talk.utterances]
        with replacing(audio) as stream:
            soundfile.write(stream, np.concatenate(parts), RATE, format="FLAC", subtype="PCM_16")
        with replacing(places) as stream:
            stream.write(json.dumps(np.cumsum([0, *map(len, parts)]).tolist()).encode())
    edges = _read_edges(places, len(talk.utterances))
    entry = partial(Entry, path=audio)
    return [
        entry(id=u.id, text=u.text, speaker=u.side.voice.name, start=first / RATE, end=last / RATE)
        for u, first, last in zip(talk.utterances, edges[:-1], edges[1:], strict=True)
    ]


def _read_edges(path: Path, utterances: int) -> list[int]:
    try:
        edges = json.loads(path.read_text())
        if len(edges) == utterances + 1 and all(isinstance(edge, int) for edge in edges):
            return list(edges)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it to make the recording anew") from error
    raise DataError(
        f"{path}: expected {utterances + 1} places, found others; delete it to have the recording made anew"
    )
