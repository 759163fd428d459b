"""Several networks timed beside each other: in turns, step by step, or each alone in its loop.

A step is one encoder frame and one joiner; every fourth step also runs the predictor, about as often as speech has
tokens. The work is therefore the same for every network, whatever tokens it would have found. Times are means over
cycles of four steps, so that each holds one predictor step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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

    def seconds(self) -> float:
        """What the next step takes."""
        start = time.perf_counter()
        self()
        return time.perf_counter() - start


def interleaved(
    systems: Mapping[str, Steps], *, cycles: int, seed: int = 0, pause: float = 0.0
) -> dict[str, list[float]]:
    """Seconds a step of each system, a mean for each cycle: the systems take turns step by step, in shuffled order.

    So each finds in the caches only what the others left of its weights. The first cycle warms up and is dropped.
    pause: seconds before each step, in which idle threads of the one before can fall asleep.
    """
    order, shuffled = list(systems), np.random.default_rng(seed)
    means: dict[str, list[float]] = {name: [] for name in systems}
    for cycle in range(cycles + 1):
        totals = dict.fromkeys(systems, 0.0)
        for _ in range(CYCLE):
            shuffled.shuffle(order)
            for name in order:
                if pause:
                    time.sleep(pause)
                totals[name] += systems[name].seconds()
        if cycle:
            for name, total in totals.items():
                means[name].append(total / CYCLE)
    return means


def hot(systems: Mapping[str, Steps], *, rounds: int, cycles: int) -> dict[str, list[float]]:
    """Seconds a step of each system, a mean for each cycle: each runs alone in its loop, and the loops are repeated in
    rounds, so that a slow minute of the machine falls on all. The first cycle of each loop warms up."""
    means: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, steps in systems.items():
            loop = [sum(steps.seconds() for _ in range(CYCLE)) / CYCLE for _ in range(cycles + 1)]
            means[name] += loop[1:]
    return means
