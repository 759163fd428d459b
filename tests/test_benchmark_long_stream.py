"""benchmarks/long_stream.py on a small model: memory stays where it was, and parallel streams are as alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sottovoce.runtime import Recognizer

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
from cells import Cells
from long_stream import METHODS, RATE, long_stream, made_up_sound, show, speaking_model, streams_as_alone
from tables import Tables

SOUND = made_up_sound(20, 0)
MODEL = speaking_model(48, 0, SOUND, RATE)

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_ten_minutes_of_sound_leave_memory_as_it_was(tmp_path: Path) -> None:
    """Kept features alone would be 19 MB, kept samples 38 MB or 106 MB."""
    at_first, quarters = long_stream(Recognizer(MODEL), SOUND, RATE, 600, 4)
    assert all(quarter.segments > 5 and quarter.tokens > 20 for quarter in quarters)
    assert sum(quarter.sound for quarter in quarters) == pytest.approx(600)
    assert max(quarter.rss for quarter in quarters) - at_first < 4e6
    cells = Cells(tmp_path / "cells.jsonl")
    model = {"method": "greedy", "parameters": 1000, "kernel_threads": 1}
    figures = {"first": at_first, "quarters": [vars(quarter) for quarter in quarters]}
    cells.record(model | {"hours": 2.0}, 0, figures, 1.0)
    cells.record(model | {"hours": 0.1}, 0, {}, 1.0)  # a quick check
    cells.record(model | {"streams": 6}, 0, {"equal": 5}, 1.0)
    cells.record(model | {"streams": 6, "parameters": 10}, 0, {"equal": 0}, 1.0)
    tables = Tables(keep=True)
    show(cells, 2.0, 1, tables)
    table, sentence = tables.parts
    last = quarters[-1]
    assert len(table.splitlines()) == 6 and table.endswith(f"| {last.segments} | {last.tokens} |")
    assert sentence == "greedy: 5 of 6 parallel streams have the result that they have alone."


def test_parallel_streams_are_each_as_alone() -> None:
    """A few here; fifty, with both searches, in tests/runtime."""
    recognizer = Recognizer(MODEL, **METHODS["beam"])
    assert streams_as_alone(recognizer, SOUND[: 12 * RATE], RATE, 6, 1) == 6
    assert recognizer.transcribe(SOUND, RATE).tokens
