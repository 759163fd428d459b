"""Run folders for the report's tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from report_runs import MakeRun, hypotheses, record, save_model

from sottovoce.evaluation.hypotheses import write_hypotheses


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder with a tone for each utterance."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "audio" / "test").mkdir(parents=True)
    with gzip.open(folder / "test.jsonl.gz", "wt") as manifest:
        for h in hypotheses(0):
            path = folder / "audio" / "test" / f"{h.id}.flac"
            soundfile.write(path, 0.1 * np.sin(np.arange(8000) * 0.2), 16000)
            source = {"type": "file", "channels": [0], "source": str(path)}
            recording = {"id": h.id, "sources": [source], "sampling_rate": 16000, "num_samples": 8000}
            cut = {"id": h.id, "start": 0.0, "duration": 0.5, "channel": 0, "recording": recording}
            manifest.write(json.dumps(cut) + "\n")
    return folder


@pytest.fixture
def make_run(tmp_path: Path, data: Path) -> MakeRun:
    """``make_run(name, bits, wrong=, full=)``: a run folder; ``full`` adds what only newer runs hold."""

    def make(name: str, bits: int, *, wrong: int | None = 0, full: bool = True, **config: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        save_model(folder / "model.safetensors", bits, None if bits == 32 else "s8bqat")
        made = {"recipe": {"name": "tiny", "seed": 7}, "data": str(data), "data_hash": "d474", "seed": 7, **config}
        (folder / "config.yaml").write_text(yaml.safe_dump(made))
        if wrong is not None:
            write_hypotheses(folder / "test.jsonl", hypotheses(wrong))
        if full:
            (folder / "bench.json").write_text(json.dumps({"latency_ms": {"p50": 0.1 + bits / 100, "p90": 1.0}}))
            (folder / "environment.json").write_text(
                json.dumps({"sottovoce": "0.1.0", "torch": None, "python": "3.11"})
            )
        if full and bits < 32:
            record(folder)
        return folder

    return make
