"""Synthetic speech by espeak-ng: digit strings and short commands, many voices, noise; the same for a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut
from numpy.typing import NDArray

from sottovoce.data import options as check
from sottovoce.data.checks import Skips, problem
from sottovoce.data.entries import make_cut
from sottovoce.data.espeak import Voice
from sottovoce.data.mixing import LOUDNESS_DB, NOISES, RATE, at_loudness, limited, noise_of, say
from sottovoce.data.noise import mix
from sottovoce.data.phrases import draw_phrase, vocabulary
from sottovoce.data.prepared import SPLITS, Prepared, begin, finish
from sottovoce.data.voices import voices
from sottovoce.progress import Progress

_BABBLERS = 8
_MOST = 1_000_000


@dataclass(frozen=True)
class Utterance:
    """One utterance to be made: everything but its samples. ``seed`` is the state of all that is random in it."""

    id: str
    split: str
    text: str
    voice: Voice
    noise: str
    snr_db: float
    loudness_db: float
    seed: tuple[int, int, int]


def prepare_synth(
    out: str | Path,
    *,
    seed: int = 0,
    train: int = 3000,
    dev: int = 200,
    test: int = 400,
    test_words: int | None = None,
    snr_db: tuple[float, float] = (10.0, 30.0),
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Fill ``out`` with 16 kHz FLAC files and manifests of so many utterances a split.

    160 voices speak in train, 16 others in dev, 24 others in test. Each utterance has white, pink or babble noise at a
    random ratio within ``snr_db`` (decibels) and a random loudness. ``test_words`` asks for a test set of at least so
    many words instead of ``test`` utterances. The same seed gives the same audio, bit for bit. Raises ConfigError on
    bad options, DataError without espeak-ng or where ``out`` holds other data.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    for split, size in sizes.items():
        check.integer(split, size, 1, _MOST)
    if test_words is not None:
        check.integer("test_words", test_words, 1, _MOST)
    low, high = check.span("snr_db", snr_db, -20, 100)
    chosen = {**sizes, "test_words": test_words, "snr_db": (low, high), "strict": bool(strict)}
    chosen["seed"] = check.integer("seed", seed, 0, 2**31)
    done = begin(out, "synth", chosen)
    if done is not None:
        return done
    plan = {split: plan_split(split, sizes[split], seed, (low, high)) for split in SPLITS}
    if test_words is not None:
        plan["test"] = _enough_words(test_words, seed, (low, high))
    skips = Skips(strict)
    cuts = _render_all(Path(out), plan, skips, progress)
    details = {"voices": {split: [asdict(voice) for voice in voices()[split]] for split in SPLITS}}
    return finish(out, "synth", chosen, cuts, skips.items, {**details, "vocabulary": vocabulary()})


def plan_split(split: str, count: int, seed: int, snr_db: tuple[float, float]) -> list[Utterance]:
    """The utterances of a split; utterance i does not depend on ``count``."""
    return [plan_utterance(split, number, seed, snr_db) for number in range(count)]


def plan_utterance(split: str, number: int, seed: int, snr_db: tuple[float, float]) -> Utterance:
    """Utterance ``number`` of ``split``: text, voice, noise and loudness drawn from (seed, split, number) alone."""
    state = (seed, SPLITS.index(split), number)
    source = np.random.default_rng(state)
    cast = voices()[split]
    voice = cast[source.integers(len(cast))]
    voice = replace(
        voice,
        rate=round(voice.rate * source.uniform(0.93, 1.07)),
        pitch=voice.pitch + int(source.integers(-4, 5)),
    )
    return Utterance(
        id=f"synth-{split}-{number:06d}",
        split=split,
        text=draw_phrase(source),
        voice=voice,
        noise=NOISES[source.integers(3)],
        snr_db=float(source.uniform(*snr_db)),
        loudness_db=float(source.uniform(*LOUDNESS_DB)),
        seed=state,
    )


def render(utterance: Utterance) -> NDArray[np.float32]:
    """The samples (S,) float32 of ``utterance`` at 16 kHz, within [-1, 1]."""
    source = np.random.default_rng((*utterance.seed, 1))
    speech = say(utterance.text, utterance.voice, int(source.integers(2**31)))
    before, after = source.integers(RATE // 10, RATE // 3, size=2)
    speech = np.pad(at_loudness(speech, utterance.loudness_db), (before, after))
    babblers = _babblers(utterance.split) if utterance.noise == "babble" else ()
    noise = noise_of(utterance.noise, len(speech), source, babblers, utterance.voice.name)
    return limited(mix(speech, noise, utterance.snr_db))


def _enough_words(words: int, seed: int, snr_db: tuple[float, float]) -> list[Utterance]:
    plan: list[Utterance] = []
    while words > 0:
        plan.append(plan_utterance("test", len(plan), seed, snr_db))
        words -= len(plan[-1].text.split())
    return plan


def _render_all(
    out: Path, plan: Mapping[str, list[Utterance]], skips: Skips, progress: Progress | None
) -> dict[str, list[MonoCut]]:
    cuts: dict[str, list[MonoCut]] = {split: [] for split in plan}
    total, done = sum(map(len, plan.values())), 0
    for split, utterances in plan.items():
        folder = out / "audio" / split
        folder.mkdir(parents=True, exist_ok=True)
        for utterance in utterances:
            cut = _render_one(folder, utterance, skips)
            if cut is not None:
                cuts[split].append(cut)
            done += 1
            if progress:
                progress(done, total)
    skips.report(sum(map(len, cuts.values())))
    return cuts


def _render_one(folder: Path, utterance: Utterance, skips: Skips) -> MonoCut | None:
    samples = render(utterance)
    reason = problem(utterance.text, 0.0, len(samples) / RATE, len(samples) / RATE)
    if reason:
        skips.add(utterance.id, reason)
        return None
    path = folder / f"{utterance.id}.flac"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return make_cut(utterance.id, path, len(samples), RATE, utterance.text, utterance.voice.name)


@cache
def _babblers(split: str) -> tuple[tuple[str, NDArray[np.float32]], ...]:
    """Voices of the same split saying something long, so that no test voice is heard in training."""
    source = np.random.default_rng((SPLITS.index(split), 2))
    cast = voices()[split]
    order = source.permutation(len(cast))[:_BABBLERS]
    spoken = []
    for place in order:
        text = ", ".join(draw_phrase(source) for _ in range(4))
        spoken.append((cast[place].name, say(text, cast[place], int(place))))
    return tuple(spoken)
