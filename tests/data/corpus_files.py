"""Small audio files for the tests of data."""

from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut

from sottovoce.data.entries import make_cut
from sottovoce.data.prepared import SPLITS, begin, finish

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def tone(path: Path, seconds: float = 0.5, rate: int = 16_000, hz: float = 300.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * time), rate, subtype="PCM_16")
    return path


def digits_corpus(folder: Path, speakers: tuple[str, ...] = ("ann", "bob", "cat"), indexes: int = 2) -> Path:
    for place, speaker in enumerate(speakers):
        for digit in range(10):
            for index in range(indexes):
                hz = 200.0 + 100 * digit + 7 * place + index
                tone(folder / "recordings" / f"{digit}_{speaker}_{index}.wav", 0.25, 8_000, hz)
    return folder


def tiny_prepared(folder: Path, train: int = 24, other: int = 4) -> Path:
    """A prepared folder of tones, 0.4 to 1.5 s long, each with a few words."""
    begin(folder, "tiny", {})
    splits: dict[str, list[MonoCut]] = {}
    for split in SPLITS:
        splits[split] = []
        for number in range(train if split == "train" else other):
            source = np.random.default_rng([SPLITS.index(split), number])
            seconds = 0.4 + 1.1 * source.random()
            path = tone(folder / "audio" / split / f"{split}-{number:03d}.wav", seconds, hz=200 + 20 * number)
            text = " ".join(source.choice(WORDS, 3))
            cut = make_cut(path.stem, path, round(seconds * 16_000), 16_000, text, f"speaker{number % 3}")
            splits[split].append(cut)
    finish(folder, "tiny", {}, splits)
    return folder
