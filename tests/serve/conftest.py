"""Small models that speak, a recording, and an app over them."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient

from sottovoce.serve import Limits, ServedModel, make_app, open_models

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A float model and two packed ones, as the command line names them."""
    folder, given = tmp_path_factory.mktemp("models"), []
    for name, seed, packed in (("float", 2, False), ("packed", 2, True), ("other", 3, True)):
        path = folder / f"{name}.safetensors"
        tiny["speaking_model"](seed, packed=packed).save(path)
        given.append(str(path))
    return given


@pytest.fixture(scope="session")
def models(model_files: list[str]) -> list[ServedModel]:
    return open_models(model_files)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of two channels at a rate that must be resampled."""
    rng, t = np.random.default_rng(1), np.arange(6 * 22_050) / 22_050
    sweep = 0.3 * np.sin(t * (900 + 300 * np.sin(5 * t))) + rng.normal(0, 0.02, len(t))
    path = tmp_path_factory.mktemp("sound") / "speech and more.flac"
    soundfile.write(path, np.stack([sweep, 0.5 * sweep], axis=1), 22_050)
    return path


@pytest.fixture
def client(models: list[ServedModel]) -> Iterator[TestClient]:
    limits = Limits(connections=2, seconds=30, file_bytes=400_000, message_bytes=70_000, idle_seconds=20)
    with TestClient(make_app(models, limits), base_url="http://127.0.0.1:8765") as client:
        yield client
