"""Distributed data parallel on two processes of one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TINY = {
    "name": "tiny",
    "tokenizer": {"kind": "char", "vocabulary": 12},
    "data": {"max_duration": 5.0},
    "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
    "phase": {"epochs": 2, "learning_rate": 5e-3, "warmup_steps": 4},
}


@pytest.mark.slow
def test_two_processes_train_one_model(tones: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY))
    script = tmp_path / "command.py"
    script.write_text("from sottovoce.cli.main import run\n\nif __name__ == '__main__':\n    run()\n")
    command = [sys.executable, str(script), "train", str(recipe), "--data", str(tones), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--devices", "2", "--threads", "1"], capture_output=True, text=True, env={**os.environ}, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "model.safetensors").exists()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2] and 0 <= rows[-1]["dev_wer"] <= 300
