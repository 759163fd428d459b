"""Several networks timed beside each other: in turns, step by step, or each alone in its loop.

A step is one encoder frame and one joiner; every fourth step also runs the predictor, about as often as speech has
tokens. The work is therefore the same for every network, whatever tokens it would have found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sottovoce.decoding.protocol import NO_HISTORY, Encoder, Floats, Transducer
from sottovoce.packed import RnntArchitecture

CYCLE = 4  # steps, one of them with the predictor
_FRAMES_OF_NOISE = 64


class SteppedNetwork(Encoder, Transducer, Protocol):
    """What can be timed here: an RNN-T that knows its architecture."""

    @property
    def architecture(self) -> RnntArchitecture: ...


@dataclass(frozen=True)
class StepTimes:
    """Seconds of each step without the predictor, and of each with it."""

    plain: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Seconds of a step with a quarter of the predictor: the percentile of either kind, weighted by their numbers
        in a cycle. Percentiles of sums of four steps would count what disturbed one of them four times."""
        plain, predicted = (float(np.percentile(kind, percent)) for kind in (self.plain, self.predicted))
        return ((CYCLE - 1) * plain + predicted) / CYCLE


class Steps:
    """One stream of noise through a network, a step at a call."""

    def __init__(self, network: SteppedNetwork, *, seed: int = 0) -> None:
        a, rng = network.architecture, np.random.default_rng(seed)
        self._network = network
        self._noise = rng.normal(size=(_FRAMES_OF_NOISE, 1, a.subsampling, a.features)).astype(np.float32)
        self._tokens = rng.integers(1, max(2, a.vocabulary), (_FRAMES_OF_NOISE, 1)) % a.vocabulary
        self._encoder = network.encoder_start(1)
        self._history, self._predictor = network.predictor_step(
            np.array([NO_HISTORY], np.int64), network.predictor_start(1)
        )
        self._count = 0

    def __call__(self) -> tuple[Floats, Floats]:
        """The next step: its encoder frame (1, J) and the joiner's log-probabilities (1, V)."""
        at = self._count % _FRAMES_OF_NOISE
        if self._count % CYCLE == CYCLE - 1:
            self._history, self._predictor = self._network.predictor_step(self._tokens[at], self._predictor)
        frames, self._encoder = self._network.encoder_step(self._noise[at], self._encoder)
        self._count += 1
        return frames[:, 0], self._network.joiner(frames[:, 0], self._history)

    def timed(self, times: StepTimes) -> None:
        """The next step, its time added to its kind."""
        start = time.perf_counter()
        self()
        seconds = time.perf_counter() - start
        (times.plain if self._count % CYCLE else times.predicted).append(seconds)


def interleaved(
    systems: Mapping[str, Steps], *, cycles: int, seed: int = 0, pause: float = 0.0
) -> dict[str, StepTimes]:
    """The times of each system over so many cycles of four steps: they take turns step by step, in shuffled order.

    So each finds in the caches only what the others left of its weights. The first cycle warms up and is dropped.
    pause: seconds before each step, in which idle threads of the one before can fall asleep.
    """
    order, shuffled = list(systems), np.random.default_rng(seed)
    for cycle in range(cycles + 1):
        if cycle <= 1:
            times = {name: StepTimes() for name in systems}
        for _ in range(CYCLE):
            shuffled.shuffle(order)
            for name in order:
                if pause:
                    time.sleep(pause)
                systems[name].timed(times[name])
    return times


def hot(systems: Mapping[str, Steps], *, rounds: int, cycles: int) -> dict[str, StepTimes]:
    """The times of each system: each runs alone in its loop of so many cycles, and the loops are repeated in rounds, so
    that a slow minute of the machine falls on all. One cycle before each loop warms up."""
    times = {name: StepTimes() for name in systems}
    for _ in range(rounds):
        for name, steps in systems.items():
            for _ in range(CYCLE):
                steps()
            for _ in range(CYCLE * cycles):
                steps.timed(times[name])
    return times
