"""Rooms: a synthetic impulse response, and speech in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sottovoce.data.noise import Samples

_GAP_SECONDS = 0.0025  # from the direct sound to the first of what the walls return


@dataclass(frozen=True)
class Room:
    """``t60``: seconds in which the sound falls by 60 dB; ``drr_db``: the direct sound's energy over that of all that
    the walls return, in decibels."""

    t60: float
    drr_db: float

    def response(self, rate: int, source: np.random.Generator) -> Samples:
        """Impulse response (t60 * rate,) float32, its direct sound 1 at sample 0.

        Polack's model of late reverberation (1988; Jot, Cerveau and Warusfel, AES 1997): Gaussian noise under an
        exponential envelope, h(t) = n(t) exp(-3 ln(10) t / t60). It starts 2.5 ms after the direct sound: early echoes
        are not modelled apart.
        """
        first, count = round(_GAP_SECONDS * rate), max(2, round(self.t60 * rate))
        tail = source.standard_normal(count) * 10 ** (-3 * np.arange(count) / (self.t60 * rate))
        tail[: min(first, count - 1)] = 0
        tail *= np.sqrt(10 ** (-self.drr_db / 10) / np.square(tail).sum())
        tail[0] = 1
        return tail.astype(np.float32)


def reverberate(speech: Samples, response: Samples) -> Samples:
    """``speech`` (S,) convolved with ``response`` (R,), its first S samples."""
    size = 1 << int(len(speech) + len(response) - 2).bit_length()  # powers of two: other lengths make the FFT slow
    spectrum = np.fft.rfft(speech, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(speech)].astype(np.float32)
