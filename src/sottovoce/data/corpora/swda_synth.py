"""SwDA's conversations said by espeak-ng's voices, in rooms and in noise: speech whose words a language model can tell.

Text and splits are those of the corpus ``swda``, normalized alike: test is said from its validation conversations, dev
from some of its dev conversations, and train from utterances of its training conversations. So a language model that
was trained on ``swda`` has seen no word of dev or test, and no voice is in two splits (``voices.py``).

A recording is a conversation. Its two speakers each have a voice, a loudness, a room and a kind of noise (white, pink,
or others of the split's voices that babble); each utterance has a ratio of speech to noise of its own. Identifiers are
``conversation-number-speaker``, the number that of the utterance in its conversation, so that their order is that in
which things were said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from sottovoce.data import options as check
from sottovoce.data.checks import Skips
from sottovoce.data.corpora.common import check_source
from sottovoce.data.corpora.swda import Turns, read_swda_turns
from sottovoce.data.entries import Entry, build_cuts
from sottovoce.data.mixing import LOUDNESS_DB, NOISES, Babblers, say
from sottovoce.data.prepared import SPLITS, Prepared, begin, finish
from sottovoce.data.room import Room
from sottovoce.data.talks import Side, Talk, TalkUtterance, record
from sottovoce.data.voices import voices
from sottovoce.progress import Progress

NAME = "swda-synth"
_TEXT_OF = {"train": "train", "dev": "dev", "test": "validation"}
_BABBLERS, _SENTENCES = 8, 6
_CHUNK = 8  # recordings that a process makes at a time
_MOST = 1_000_000

Range = tuple[float, float]


@dataclass(frozen=True)
class Conditions:
    """What makes the speech hard: ranges from which each is drawn evenly. Of each utterance ``snr_db``; of each speaker
    in a conversation the seconds in which a sound falls by 60 dB, ``t60``, and the direct sound's share, ``drr_db``."""

    snr_db: Range = (10.0, 40.0)
    t60: Range = (0.1, 0.4)
    drr_db: Range = (3.0, 18.0)


def prepare_swda_synth(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    train: int = 16_000,
    dev: int = 12,
    test: int = 21,
    dev_conversations: int = 24,
    snr_db: Range = Conditions.snr_db,
    eval_snr_db: Range | None = None,
    t60: Range = Conditions.t60,
    drr_db: Range = Conditions.drr_db,
    jobs: int = 1,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Fill ``out`` with 16 kHz FLAC recordings and manifests, from a folder of SwDA's text.

    ``train``: utterances, drawn from all training conversations; ``dev``, ``test``: whole conversations, at most as
    many as there are. ``dev_conversations`` is the option of ``swda`` of that name: the language model's recipe must
    have the same. The ranges are those of ``Conditions``; ``eval_snr_db`` is the ratio of speech to noise in dev and
    test, by default that of train. ``jobs`` processes share the work and change nothing in it. An interrupted
    preparation goes on where it was. Raises ConfigError on bad options, DataError for text in another layout, without
    espeak-ng or where ``out`` holds other data.
    """
    place = check_source(source)
    heard = Conditions(
        check.span("snr_db", snr_db, -20, 100), check.span("t60", t60, 0.01, 10), check.span("drr_db", drr_db, -30, 100)
    )
    held_out = heard if eval_snr_db is None else replace(heard, snr_db=check.span("eval_snr_db", eval_snr_db, -20, 100))
    sizes = {name: check.integer(name, n, 1, _MOST) for name, n in (("train", train), ("dev", dev), ("test", test))}
    processes = check.integer("jobs", jobs, 1, 256)
    chosen = {
        "source": str(place.absolute()),
        "seed": check.integer("seed", seed, 0, 2**31),
        **sizes,
        "dev_conversations": dev_conversations,
        **asdict(heard),
        "eval_snr_db": held_out.snr_db,
        "strict": bool(strict),
    }
    corpus, turns = read_swda_turns(place, dev_conversations=dev_conversations)
    done = begin(out, NAME, chosen, resumes=True)
    if done is not None:
        return done
    talks = plan_talks(turns, sizes, seed, {"train": heard, "dev": held_out, "test": held_out})
    babbled = {split: _babblers(split, list(corpus.sentences("train")), seed) for split in SPLITS}
    entries = _record_all(Path(out), talks, babbled, processes, progress)
    skips = Skips(strict)
    cuts = {split: build_cuts(entries[split], skips) for split in SPLITS}
    skips.report(sum(map(len, cuts.values())))
    details = {
        "text": {"normalization": corpus.normalization, "fingerprint": corpus.fingerprint()},
        "conversations": {split: [talk.id for talk in talks if talk.split == split] for split in ("dev", "test")},
    }
    return finish(out, NAME, chosen, cuts, skips.items, details)


def plan_talks(
    turns: Mapping[str, Sequence[Turns]], sizes: Mapping[str, int], seed: int, conditions: Mapping[str, Conditions]
) -> list[Talk]:
    """What will be said, drawn from the seed and the identifiers of conversations alone: a larger set has all that a
    smaller one has."""
    kept = {split: _first(turns[_TEXT_OF[split]], sizes[split]) for split in ("dev", "test")}
    drawn = _drawn(turns["train"], sizes["train"], seed)
    said = [("train", found, drawn[found.conversation.id]) for found in turns["train"]]
    said += [(split, found, list(range(len(found.speakers)))) for split in kept for found in kept[split]]
    talks = (_plan_talk(split, found, numbers, seed, conditions[split]) for split, found, numbers in said)
    return [talk for talk in talks if talk.utterances]


def _first(turns: Sequence[Turns], count: int) -> list[Turns]:
    """The conversations whose ids have the smallest SHA-256, in their own order."""
    chosen = sorted((found.conversation.id for found in turns), key=lambda id: _digest(id))[:count]
    return [found for found in turns if found.conversation.id in set(chosen)]


def _drawn(turns: Sequence[Turns], count: int, seed: int) -> dict[str, list[int]]:
    """Of each conversation the utterances that are said: those with the smallest hash of seed, id and number."""
    every = [(found.conversation.id, number) for found in turns for number in range(len(found.speakers))]
    ranked = sorted(every, key=lambda item: _digest(f"{seed} {item[0]} {item[1]}"))[:count]
    found: dict[str, list[int]] = {one.conversation.id: [] for one in turns}
    for id, number in sorted(ranked):
        found[id].append(number)
    return found


def _plan_talk(split: str, turns: Turns, numbers: Sequence[int], seed: int, conditions: Conditions) -> Talk:
    talk = turns.conversation
    state = (seed, SPLITS.index(split), int.from_bytes(_digest(talk.id)[:4]))
    names = sorted(set(turns.speakers))
    sides = dict(zip(names, _plan_sides(split, len(names), state, conditions), strict=True))
    utterances = []
    for number in numbers:
        speaker, own = turns.speakers[number], (*state, number)
        utterances.append(
            TalkUtterance(
                id=f"{talk.id}-{number:04d}-{speaker}",
                text=talk.sentences[number],
                side=sides[speaker],
                snr_db=float(np.random.default_rng(own).uniform(*conditions.snr_db)),
                seed=own,
            )
        )
    return Talk(talk.id, split, tuple(utterances))


def _plan_sides(split: str, count: int, state: tuple[int, ...], conditions: Conditions) -> Iterator[Side]:
    source = np.random.default_rng(state)
    cast = voices()[split]
    order = source.permutation(len(cast))
    for place in range(count):
        voice = cast[int(order[place % len(cast)])]
        yield Side(
            voice=replace(
                voice,
                rate=round(voice.rate * source.uniform(0.88, 1.12)),
                pitch=voice.pitch + int(source.integers(-12, 13)),
                pitch_range=voice.pitch_range + int(source.integers(-12, 13)),
            ),
            room=Room(float(source.uniform(*conditions.t60)), float(source.uniform(*conditions.drr_db))),
            noise=NOISES[source.integers(len(NOISES))],
            loudness_db=float(source.uniform(*LOUDNESS_DB)),
            seed=(*state, _MOST + place),
        )


def _record_all(
    out: Path, talks: Sequence[Talk], babblers: Mapping[str, Babblers], jobs: int, progress: Progress | None
) -> dict[str, list[Entry]]:
    entries: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    total, done = sum(len(talk.utterances) for talk in talks), 0
    for split in SPLITS:
        folder = out / "audio" / split
        folder.mkdir(parents=True, exist_ok=True)
        mine = [talk for talk in talks if talk.split == split]
        chunks = [mine[start : start + _CHUNK] for start in range(0, len(mine), _CHUNK)]
        for found in _mapped(chunks, folder, babblers[split], jobs):
            entries[split] += found
            done += len(found)
            if progress:
                progress(done, total)
    return entries


def _mapped(chunks: list[list[Talk]], folder: Path, babblers: Babblers, jobs: int) -> Iterator[list[Entry]]:
    work = partial(_record_chunk, folder=folder, babblers=babblers)
    if jobs == 1:
        yield from map(work, chunks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, chunks)


def _record_chunk(talks: Sequence[Talk], folder: Path, babblers: Babblers) -> list[Entry]:
    return [entry for talk in talks for entry in record(talk, folder, babblers)]


def _babblers(split: str, sentences: Sequence[str], seed: int) -> Babblers:
    """Voices of the split that say sentences of the training text."""
    source = np.random.default_rng((seed, SPLITS.index(split), 2))
    cast = voices()[split]
    spoken = []
    for place in source.permutation(len(cast))[:_BABBLERS]:
        text = ", ".join(sentences[i] for i in source.integers(len(sentences), size=_SENTENCES))
        spoken.append((cast[place].name, say(text, cast[place], int(place))))
    return tuple(spoken)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
