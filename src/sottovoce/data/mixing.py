"""What synthetic corpora share: a voice at 16 kHz, at a loudness, in noise of a kind, within full scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.espeak import Voice, speak
from sottovoce.data.noise import Samples, babble, pink, white
from sottovoce.frontend.resample import resample

RATE = 16_000
NOISES = ("white", "pink", "babble")
LOUDNESS_DB = (-34.0, -16.0)  # of the speech, below full scale
_TALKERS = 3
_PEAK = 0.99

Babblers = Sequence[tuple[str, NDArray[np.float32]]]
"""Voices that say something long: name and samples of each."""


def say(text: str, voice: Voice, seed: int) -> Samples:
    """``text`` by ``voice``, (S,) float32 at 16 kHz."""
    samples, rate = speak(text, voice, seed)
    return resample(samples, rate, RATE)


def at_loudness(speech: Samples, loudness_db: float) -> Samples:
    """``speech`` at so many decibels below full scale (its root mean square)."""
    level = float(np.sqrt(np.mean(np.square(speech, dtype=np.float64))))
    return speech * np.float32(10 ** (loudness_db / 20) / max(level, 1e-6))


def noise_of(kind: str, count: int, source: np.random.Generator, babblers: Babblers, besides: str) -> Samples:
    """Noise (count,) of one of ``NOISES``, of unit power; the voice ``besides`` does not babble."""
    if kind == "babble":
        pool = [samples for name, samples in babblers if name != besides]
        chosen = source.permutation(len(pool))[:_TALKERS]
        return babble(count, [pool[int(place)] for place in chosen], source)
    return (white if kind == "white" else pink)(count, source)


def limited(samples: Samples) -> Samples:
    """``samples``, made quieter as a whole where they would leave full scale."""
    peak = float(np.abs(samples).max())
    return samples if peak <= _PEAK else samples * np.float32(_PEAK / peak)
