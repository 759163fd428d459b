"""Shared set-up: real corpora are found through the environment, and their tests say so when they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("sottovoce", deadline=None)  # tests assert no time
settings.load_profile("sottovoce")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora named by SOTTOVOCE_DATA."""
    folder = os.environ.get("SOTTOVOCE_DATA")
    if not folder:
        pytest.skip("needs real corpora: set SOTTOVOCE_DATA to their folder")
    return Path(folder)


TONES = {"do": 262.0, "re": 440.0, "mi": 740.0, "fa": 1245.0}


def _sing(words: list[str], rng: np.random.Generator) -> np.ndarray:
    parts = []
    for word in words:
        t = np.arange(3200) / 16000
        parts += [np.sin(2 * np.pi * TONES[word] * t) * 0.3, np.zeros(800)]
    samples = np.concatenate(parts)
    return samples + rng.normal(0, 0.003, len(samples))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data: 48 train, 8 dev and 12 test utterances of one to three tones by disjoint singers."""
    import soundfile

    from sottovoce.data.prepare import prepare

    rng = np.random.default_rng(0)
    source = tmp_path_factory.mktemp("tones")
    for split, count in (("train", 48), ("dev", 8), ("test", 12)):
        rows = ["audio\ttext\tspeaker"]
        for i in range(count):
            words = rng.choice(list(TONES), size=rng.integers(1, 4)).tolist()
            soundfile.write(source / f"{split}{i}.wav", _sing(words, rng), 16000)
            rows.append(f"{split}{i}.wav\t{' '.join(words)}\t{split}-{i % 10}")
        (source / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare("table", source, out)
    return out
