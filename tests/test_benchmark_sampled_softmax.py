"""The table of benchmarks/sampled_softmax.py from made-up cells."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
import cells as finished
from cells import Cells
from sampled_softmax import cell_config, show
from tables import Tables


def test_forms_are_compared_seed_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")
    options = argparse.Namespace(recipe="swda-lstm", epochs=None, quick=False, seeds=2)
    cells = Cells(tmp_path / "cells.jsonl")
    show(cells, options, Tables())
    assert capsys.readouterr().out == ""
    for form, seed, perplexity, speed in (
        ("sampled", 0, 50.0, 9.0),
        ("sampled", 1, 66.0, 30.0),
        ("full", 1, 60.0, 10.0),
    ):
        figures = {"perplexity": perplexity, "words_per_second": speed}
        cells.record(cell_config(options, form), seed, figures, 1.0)
    show(cells, options, Tables())
    sampled = next(line for line in capsys.readouterr().out.splitlines() if "sampled" in line)
    assert [cell.strip() for cell in sampled.split("│")[2:6]] == ["50.00 66.00", "9 30", "+10.00 %", "3.00"]
