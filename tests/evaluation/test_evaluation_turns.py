"""Turns: who runs when, and what is counted; with networks that only note that they were called."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sottovoce.evaluation.turns import CYCLE, Steps, StepTimes, hot, interleaved
from sottovoce.runtime import PackedRnnt

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))


class Noting(PackedRnnt):
    """Notes its name and call in a log that several share."""

    def __init__(self, name: str, log: list[tuple[str, str]]) -> None:
        super().__init__(tiny["random_model"]())
        self.note = lambda call: log.append((name, call))

    def encoder_step(self, features, state):
        self.note("encoder")
        return super().encoder_step(features, state)

    def predictor_step(self, tokens, state):
        self.note("predictor")
        return super().predictor_step(tokens, state)

    def joiner(self, encoder, predictor):
        self.note("joiner")
        return super().joiner(encoder, predictor)


def noting(names: str) -> tuple[dict[str, Steps], list[tuple[str, str]]]:
    log: list[tuple[str, str]] = []
    systems = {name: Steps(Noting(name, log)) for name in names}
    log.clear()  # the predictor's first step
    return systems, log


def test_a_cycle_has_four_frames_and_joiners_and_one_predictor_step() -> None:
    systems, log = noting("a")
    for _ in range(3 * CYCLE):
        frames, log_probabilities = systems["a"]()
        assert frames.shape == (1, 9) and np.exp(log_probabilities).sum() == pytest.approx(1, abs=1e-4)
    calls = [call for _, call in log]
    assert Counter(calls) == {"encoder": 12, "joiner": 12, "predictor": 3}
    assert calls[-3:] == ["predictor", "encoder", "joiner"]


def test_interleaved_systems_take_turns_step_by_step() -> None:
    systems, log = noting("abc")
    times = interleaved(systems, cycles=2, seed=3)
    assert {name: (len(t.plain), len(t.predicted)) for name, t in times.items()} == dict.fromkeys("abc", (6, 2))
    turns = [name for name, call in log if call == "encoder"]
    assert len(turns) == 3 * 3 * CYCLE  # the first cycle is dropped
    rounds = [turns[at : at + 3] for at in range(0, len(turns), 3)]
    assert all(sorted(one) == list("abc") for one in rounds) and len({tuple(one) for one in rounds}) > 1


def test_hot_systems_run_alone_in_rounds() -> None:
    systems, log = noting("ab")
    times = hot(systems, rounds=2, cycles=3)
    turns = [name for name, call in log if call == "encoder"]
    assert "".join(turns) == ("a" * 16 + "b" * 16) * 2  # a cycle to warm up, then three
    assert {name: (len(t.plain), len(t.predicted)) for name, t in times.items()} == dict.fromkeys("ab", (18, 6))


def test_a_step_has_a_quarter_of_the_predictor() -> None:
    times = StepTimes([1.0, 1.0, 100.0, 1.0, 1.0], [5.0, 5.0, 80.0])
    assert times.percentile(50) == 2.0  # (3 * 1 + 5) / 4, whatever disturbed a step
    assert times.percentile(100) == (3 * 100 + 80) / 4
