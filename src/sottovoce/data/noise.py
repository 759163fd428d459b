"""Noise for training data: white, pink, and babble, mixed at a signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def white(count: int, source: np.random.Generator) -> Samples:
    """Gaussian noise (count,) of unit power."""
    return source.standard_normal(count, dtype=np.float32)


def pink(count: int, source: np.random.Generator) -> Samples:
    """Noise (count,) whose power falls as 1/f, of unit power."""
    size = 1 << max(4, int(count - 1).bit_length())  # powers of two: other lengths make the FFT slow
    spectrum = np.fft.rfft(source.standard_normal(size))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return _unit_power(np.fft.irfft(spectrum, size)[:count].astype(np.float32))


def babble(count: int, talkers: Sequence[Samples], source: np.random.Generator) -> Samples:
    """All ``talkers`` at once, each repeated from a random place on, (count,) of unit power."""
    mixed = np.zeros(count, np.float32)
    for samples in talkers:
        start = int(source.integers(len(samples)))
        mixed += np.take(_unit_power(samples), np.arange(start, start + count), mode="wrap")
    return _unit_power(mixed)


def mix(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """``speech`` (S,) plus ``noise`` (S,) of unit power, at ``snr_db`` between their powers."""
    power = float(np.mean(np.square(speech, dtype=np.float64)))
    return speech + noise * np.float32(np.sqrt(power * 10.0 ** (-snr_db / 10.0)))


def _unit_power(samples: Samples) -> Samples:
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return samples if power == 0 else samples / np.float32(np.sqrt(power))
