"""What runs a model takes its file or the run folder that it lies in."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    tiny["speaking_model"]().save(folder / "model.safetensors")
    soundfile.write(tmp_path / "speech.wav", 0.3 * np.random.default_rng(0).normal(size=16_000), 16_000)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "{model}", "--json"),
        ("inspect", "{model}", "--reference", "{model}", "--json"),
        ("transcribe", "{model}", "{audio}"),
        ("bench", "{model}", "--device", "ethos-u55-256"),
    ],
)
def test_a_run_folder_stands_for_its_file(run, folder: Path, arguments: tuple[str, ...]) -> None:
    found = []
    for model in (folder, folder / "model.safetensors"):
        names = {"model": model, "audio": folder.parent / "speech.wav"}
        code, out, err = run(*(argument.format(**names) for argument in arguments))
        assert code == 0, err
        found.append(out)
    assert found[0] == found[1] and found[0]


def test_bench_times_the_file_of_a_run(run, folder: Path, tmp_path: Path) -> None:
    code, _, err = run("bench", folder, "--frames", 3, "--json", tmp_path / "bench.json")
    assert code == 0, err
    assert json.loads((tmp_path / "bench.json").read_text())["model"] == str(folder / "model.safetensors")


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "{empty}"),
        ("inspect", "{model}", "--reference", "{empty}"),
        ("transcribe", "{empty}", "{audio}"),
        ("bench", "{empty}"),
        ("export", "{empty}", "--out", "{empty}/onnx"),
        ("evaluate", "{empty}", "--data", "{empty}"),
    ],
)
def test_a_folder_without_a_model_is_one_line(run, folder: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"empty": empty, "model": folder, "audio": tmp_path / "speech.wav"}
    code, _, err = run(*(argument.format(**names) for argument in arguments))
    assert code == 2 and not any(empty.iterdir())
    assert err == (
        f"error: {empty}: expected a model file, or a run folder with model.safetensors, found a folder without it\n"
    )
