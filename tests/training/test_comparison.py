"""The comparison behind the demo: its rows, its resuming, and its table."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from sottovoce.cli.demo import results_table
from sottovoce.errors import ConfigError
from sottovoce.evaluation.results import ResultRow
from sottovoce.training import comparison
from sottovoce.training.arms import Job
from sottovoce.training.comparison import compare, default_arms
from sottovoce.training.config import CompressionConfig, parse_recipe
from sottovoce.training.run import Run
from sottovoce.training.train import train

KEYS = {
    "system", "bits", "seed", "split", "reference", "wer", "errors", "words", "ci95", "file_bytes", "model_bytes",
    "fp32_bytes", "mapsswe_p", "verdict",
}  # fmt: skip


def test_the_demo_compares_what_it_promises() -> None:
    section = CompressionConfig(options={"strength": 3.0}, grouping="row")
    arms = default_arms(section)
    names = [(a.system, a.bits) for a in arms]
    assert names[:2] == [("fp32", 32), ("int8", 8)]
    assert set(names[2:]) == {(s, b) for s in ("ptq", "linear_qat", "s8bqat") for b in (5, 4, 3)}
    assert len({a.name for a in arms}) == 11
    own = [a.compression for a in arms if a.system == "s8bqat"]
    assert all(c and c.options == {"strength": 3.0} and c.grouping == "row" for c in own)
    others = [a.compression for a in arms if a.system in ("ptq", "linear_qat", "int8")]
    assert all(c and not c.options and c.grouping == "tensor" for c in others)


@pytest.mark.slow
def test_rows_are_written_and_a_second_call_goes_on(tones: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            "name": "tones",
            "tokenizer": {"kind": "char", "vocabulary": 12},
            "data": {"max_duration": 5.0},
            "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
            "phase": {"epochs": 2, "learning_rate": 5e-3, "warmup_steps": 4},
            "compression": {"phase": {"epochs": 1, "learning_rate": 2e-3, "warmup_steps": 0}},
        },
        "test",
    )
    base = train(recipe, tones, tmp_path / "base", progress=False)
    arms = [arm for arm in default_arms(recipe.compression, [4]) if arm.system in ("fp32", "int8", "s8bqat")]
    done: list[str] = []
    rows = compare(recipe, tones, base, tmp_path, arms, done=done.append)
    assert sorted(done) == ["fp32", "int8", "s8bqat-4"] and done.index("fp32") < done.index("int8")
    written = json.loads((tmp_path / "results.json").read_text())
    assert [row["system"] for row in written] == ["fp32", "int8", "s8bqat"] and all(set(row) >= KEYS for row in written)
    assert written[0]["verdict"] == "reference" and written[0]["mapsswe_p"] is None
    assert all(row["words"] == written[0]["words"] > 0 and row["split"] == "test" for row in written)
    assert written[2]["model_bytes"] < written[1]["model_bytes"] < written[0]["model_bytes"] < written[0]["file_bytes"]

    model = tmp_path / "arms" / "fp32" / "model.safetensors"
    stamp = model.stat().st_mtime_ns
    (tmp_path / "results.json").unlink()
    (tmp_path / "arms" / "s8bqat-4" / "test.jsonl").unlink()
    again = compare(recipe, tones, base, tmp_path, arms)
    assert [r.to_dict() for r in again] == [r.to_dict() for r in rows] and model.stat().st_mtime_ns == stamp


def _note_and_fail(job: Job, data: Path, split: str) -> None:
    """Stands for an arm: the first to run fails, the others would take long."""
    with (data / "started").open("a") as file:
        file.write(job.folder.name + "\n")
    if job.folder.name == "fp32":
        raise ConfigError("this arm fails")
    time.sleep(600)


def test_one_failed_arm_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_train_and_score", _note_and_fail)
    begin = time.monotonic()
    recipe = parse_recipe({"name": "x"}, "t")
    with pytest.raises(ConfigError, match="this arm fails"):
        compare(recipe, tmp_path, Run(tmp_path / "base"), tmp_path, default_arms(recipe.compression))
    assert time.monotonic() - begin < 500  # a worker that waited for its arm would take ten minutes
    assert len((tmp_path / "started").read_text().splitlines()) <= 3


def row(system: str, bits: int, wer: float, verdict: str, model_bytes: int = 1000) -> ResultRow:
    return ResultRow(
        system, bits, 0, "test", "fp32", wer, 10, 100, 5, 2, 3, (1.0, 9.0), 2000, model_bytes, 6000,
        None if system == "fp32" else 0.5, None, 0.0, 0.01, 0.02, 0.03, verdict,
    )  # fmt: skip


def test_the_table_has_a_row_for_each_system() -> None:
    rows = [row("fp32", 32, 10.0, "reference", 6000), row("s8bqat", 5, 10.5, "worse")]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(results_table(rows, parse_recipe({"name": "x"}, "t")))
    shown = [line.split() for line in console.export_text().splitlines()]
    (control,), (system,) = ([line for line in shown if name in line] for name in ("fp32", "s8bqat"))
    assert "10.00" in control and {"10.50", "worse"} <= set(system)
