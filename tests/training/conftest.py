"""A corpus of tones, small enough to train on in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.data.prepare import prepare
from sottovoce.training.config import Recipe, parse_recipe

TONES = {"do": 262.0, "re": 440.0, "mi": 740.0, "fa": 1245.0}


def sing(words: list[str], rng: np.random.Generator) -> np.ndarray:
    parts = []
    for word in words:
        t = np.arange(3200) / 16000
        parts += [np.sin(2 * np.pi * TONES[word] * t) * 0.3, np.zeros(800)]
    samples = np.concatenate(parts)
    return samples + rng.normal(0, 0.003, len(samples))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data: 48 train, 8 dev and 12 test utterances of one to three tones by disjoint singers."""
    rng = np.random.default_rng(0)
    source = tmp_path_factory.mktemp("tones")
    for split, count in (("train", 48), ("dev", 8), ("test", 12)):
        rows = ["audio\ttext\tspeaker"]
        for i in range(count):
            words = rng.choice(list(TONES), size=rng.integers(1, 4)).tolist()
            soundfile.write(source / f"{split}{i}.wav", sing(words, rng), 16000)
            rows.append(f"{split}{i}.wav\t{' '.join(words)}\t{split}-{i % 10}")
        (source / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare("table", source, out)
    return out


@pytest.fixture
def recipe() -> Recipe:
    """Two epochs of a tiny recognizer."""
    return parse_recipe(
        {
            "name": "tones",
            "tokenizer": {"kind": "char", "vocabulary": 12},
            "data": {"max_duration": 5.0, "augment": {"noise": 0.02}},
            "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
            "phase": {"epochs": 3, "learning_rate": 5e-3, "warmup_steps": 4},
            "compression": {"phase": {"epochs": 2, "learning_rate": 2e-3, "warmup_steps": 0, "weight_decay": 0.0}},
        },
        "test",
    )
