"""Resampling by Kaldi's windowed sinc, as sherpa-onnx does it: one port for training, the device and the corpora.

Source: ``LinearResample`` of Kaldi (``feat/resample.cc``) with sherpa-onnx's choice of 6 zero crossings and a cut-off
at 0.99 of the lower Nyquist frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError

_ZEROS = 6
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 768_000
_MOST_WEIGHTS = 1_000_000  # any rate to 80 kHz has fewer, and so have the usual ones above

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class _Filter:
    """Weights of the repeating unit of ``unit_in`` input and ``unit_out`` output samples."""

    unit_in: int
    unit_out: int
    first: NDArray[np.int64]  # (unit_out,) first input sample of each phase, relative to its unit
    counts: NDArray[np.int64]  # (unit_out,) number of taps that count
    weights: Samples  # (taps, unit_out), zero after a phase's last tap


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """``samples`` (S,) float32 at ``from_rate`` Hz, brought to ``to_rate`` Hz.

    Returns float32 of ``ceil(S * to_rate / from_rate)`` samples (Kaldi's GetNumOutputSamples), no delay. Raises
    DataError on rates outside 1 kHz to 768 kHz, on a pair of rates whose filter would have more than a million weights
    (an odd rate above 80 kHz), or samples that are not one channel.
    """
    return LinearResampler(from_rate, to_rate).accept(samples, last=True)


class LinearResampler:
    """The same for a stream: any cutting into chunks gives bit for bit the samples of one call."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._filter = _filter(_checked_rate(from_rate), _checked_rate(to_rate))
        self._same = from_rate == to_rate
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next samples start another one."""
        self._kept = np.zeros(0, np.float32)  # the end of the input, from sample ``_kept_from`` on
        self._kept_from = 0
        self._made = 0

    def accept(self, samples: Samples, last: bool = False) -> Samples:
        """The output samples (S',) float32 that ``samples`` (S,) complete; ``last`` ends the stream and flushes it."""
        new = _one_channel(samples)
        if self._same:
            return new.copy()
        self._kept = np.concatenate([self._kept, new])
        total = self._kept_from + len(self._kept)
        stop = _all_outputs(self._filter, total) if last else _safe_outputs(self._filter, total)
        output = self._produce(self._made, max(stop, self._made))
        self._made += len(output)
        if last:
            self.reset()
        else:
            self._forget()
        return output

    def _produce(self, start: int, stop: int) -> Samples:
        table = self._filter
        index = np.arange(start, stop, dtype=np.int64)
        phase = index % table.unit_out
        first = table.first[phase] + index // table.unit_out * table.unit_in - self._kept_from
        taps = len(table.weights)
        before = max(0, -int(first.min())) if len(first) else 0
        after = max(0, int(first.max()) + taps - len(self._kept)) if len(first) else 0
        padded = np.pad(self._kept, (before, after))
        first += before
        output = np.zeros(len(index), np.float32)
        # One multiplication and one addition a tap, always in this order: so the chunks do not change a bit.
        for tap in range(taps):
            output += table.weights[tap][phase] * padded.take(first + tap)
        return output

    def _forget(self) -> None:
        table = self._filter
        unit, phase = divmod(self._made, table.unit_out)
        # The first tap never moves back from one output to the next: what lies before the next one is done with.
        needed = unit * table.unit_in + int(table.first[phase])
        drop = min(max(0, needed - self._kept_from), len(self._kept))
        self._kept = self._kept[drop:]
        self._kept_from += drop


@lru_cache(maxsize=16)
def _filter(from_rate: int, to_rate: int) -> _Filter:
    base = gcd(from_rate, to_rate)
    unit_in, unit_out = from_rate // base, to_rate // base
    cutoff = float(np.float32(0.99 * 0.5 * min(from_rate, to_rate)))
    width = _ZEROS / (2.0 * cutoff)
    if unit_out * (2 * width * from_rate + 1) > _MOST_WEIGHTS:
        expected = f"expected a filter of at most {_MOST_WEIGHTS} weights, found more"
        raise DataError(f"resampling from {from_rate} to {to_rate} Hz: {expected}")
    time = np.arange(unit_out) / to_rate
    first = np.ceil((time - width) * from_rate).astype(np.int64)
    counts = np.floor((time + width) * from_rate).astype(np.int64) - first + 1
    taps = np.arange(counts.max())[:, None]
    offsets = ((first + taps) / from_rate - time).astype(np.float32)
    weights = (_windowed_sinc(offsets, cutoff) / np.float32(from_rate)).astype(np.float32)
    return _Filter(unit_in, unit_out, first, counts, np.where(taps < counts, weights, np.float32(0)))


def _windowed_sinc(offsets: NDArray[np.float32], cutoff: float) -> NDArray[np.float32]:
    t = offsets.astype(np.float64)
    inside = np.abs(t) < _ZEROS / (2.0 * cutoff)
    window = np.where(inside, 0.5 * (1 + np.cos(2 * np.pi * cutoff / _ZEROS * t)), 0.0).astype(np.float32)
    safe = np.where(t == 0, 1.0, t)
    sinc = np.where(t == 0, 2 * cutoff, np.sin(2 * np.pi * cutoff * safe) / (np.pi * safe)).astype(np.float32)
    return sinc * window


def _all_outputs(table: _Filter, total: int) -> int:
    return -(-total * table.unit_out // table.unit_in)


def _safe_outputs(table: _Filter, total: int) -> int:
    """How many outputs see input samples before ``total`` only (last taps do not move back with time)."""
    ends = table.first + table.counts
    units = np.floor_divide(total - ends, table.unit_in) + 1
    return int(np.maximum(units, 0).sum())


def _one_channel(samples: Samples) -> Samples:
    array = np.asarray(samples, dtype=np.float32)
    if array.ndim != 1:
        raise DataError(f"resampling takes one channel of shape (S,), found {array.shape}")
    return array


def _checked_rate(rate: int) -> int:
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise DataError(f"a sample rate must be an integer in [{_LOWEST_RATE}, {_HIGHEST_RATE}] Hz, found {rate!r}")
    return int(rate)
