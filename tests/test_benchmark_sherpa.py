# ruff: noqa: E402 - imports follow the check that the extra is there
"""benchmarks/sherpa.py on a small random model: rows are made of what was really said, and other tokens end it."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("onnxruntime", "sherpa_onnx"):
    pytest.importorskip(package, reason=f"{package} is not installed: it comes with the [export] extra")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
from sherpa import compare, first_difference, piece, row_of, show
from tables import Tables

from sottovoce.export import FORMS
from sottovoce.export.transcripts import padded, synthetic


def test_where_two_lists_part() -> None:
    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a", "b"], ["a", "c"]) == 1
    assert first_difference(["a", "b"], ["a"]) == 1
    assert first_difference([], ["a"]) == 0
    assert piece(8_000) == 2560


def made_up(tokens: list[list[str]]) -> dict[str, Any]:
    results = [{"text": " ".join(one), "tokens": one} for one in tokens]
    return {"results": results, "cpu_s": 0.5, "load_s": 0.01, "added_bytes": 1_000_000}


def row(system: str, tokens: list[list[str]]) -> dict[str, Any]:
    expected = [["one"], ["two", "two"], ["one", "two", "two"]]
    signals = [np.zeros(8_000)] * 3
    return row_of(system, 4, 10, made_up(tokens), expected, signals, 8_000, [["one"], ["two", "three"]])


def test_a_row_counts_equal_strings_and_word_errors() -> None:
    same = row("sherpa-onnx, codes", [["one"], ["two", "two"], ["one", "two", "two"]])
    assert (same["equal"], same["tokens"], same["long_differs_at"]) == (2, 3, None)
    assert same["wer"] == pytest.approx(100 / 3) and same["real_time_factor"] == pytest.approx(0.5 / 3)
    other = row("sherpa-onnx, int8", [["one"], ["two"], ["one", "two"]])
    assert (other["equal"], other["long_differs_at"]) == (1, 2)
    with pytest.raises(SystemExit, match="4 bits, sherpa-onnx, codes: other tokens than our runtime in 1 strings"):
        row("sherpa-onnx, codes", [["one"], ["two"], ["one", "two"]])


@pytest.mark.slow
def test_every_system_on_a_small_model(tmp_path: Path) -> None:
    tiny = runpy.run_path(str(Path(__file__).parent / "runtime" / "tiny_rnnt.py"))
    path = tmp_path / "model" / "model.safetensors"
    path.parent.mkdir()
    model = tiny["speaking_model"](5)
    bias = np.array(model.tensors["joiner.output.bias"])
    bias[0] += 2  # it says nothing in the silence of the end, of which sherpa-onnx leaves a part undecoded
    replace(model, tensors={**model.tensors, "joiner.output.bias": bias}).save(path)
    signals = [padded(sound, 16_000, 32) for sound in synthetic(16_000)]
    rows = compare(path, 4, tmp_path, signals, 16_000, [["one"], ["two"]])
    assert [one["system"] for one in rows] == ["ours, float", "ours, int8", *(f"sherpa-onnx, {form}" for form in FORMS)]
    assert all(one["real_time_factor"] > 0 and one["added_bytes"] > 0 and one["file_bytes"] > 0 for one in rows)
    assert all(one["equal"] == 2 for one in rows if one["system"].endswith(("float", "codes")))
    tables = Tables(keep=True)
    show({"parameters": 1000, "strings": 2, "words": 2, "sound_s": 10.0, "systems": rows}, "window", tables)
    assert tables.parts[0].startswith("window predictor: 0.00 million parameters, 2 strings, 2 words")
    lines = [line.split(" | ") for line in tables.parts[0].splitlines()[4:]]
    assert [line[3] for line in lines if line[0].endswith(("float", "codes"))] == ["2"] * 3
    assert lines[0][5].endswith(" tokens") and all(line[5].startswith(("equal", "parts at ")) for line in lines[1:])
