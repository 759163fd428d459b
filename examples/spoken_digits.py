"""What the examples train on: spoken digits, from the Free Spoken Digit Dataset or made up on the spot.

Without ``--data`` each "speaker" says the digits as two gliding formants over a voice's harmonics, in noise: enough for
a recognizer to have something to learn, and no download. With ``--data`` it is a folder of FSDD's recordings
(``{digit}_{speaker}_{index}.wav``); indices 0 to 4 are the test set, as in the corpus.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.errors import DataError, SottovoceError
from sottovoce.frontend import FeatureSettings, StreamingFbank, read_audio
from sottovoce.packed import PackedModel
from sottovoce.packed.model import file_sizes
from sottovoce.schemes import pack_float

FEATURES = FeatureSettings(sample_rate=8000, bins=40)
FRAMES = 48
DIGITS = 10


@dataclass(frozen=True)
class Digits:
    """Log-mel features (N, T, 40), zero mean and unit deviation over the training set, and the digits (N,)."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def options(description: str) -> argparse.Namespace:
    """The command line that all examples share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="folder of FSDD recordings; by default digits are made up")
    parser.add_argument("--out", type=Path, default=Path("digits.safetensors"), help="the packed file to write")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that everything works")
    return parser.parse_args()


def digits(data: Path | None, quick: bool = False) -> Digits:
    """Training and test data. Raises DataError for a folder without recordings."""
    torch.manual_seed(0)
    recorded = _recordings(data) if data else _made_up(40 if quick else 100)
    x = np.stack([_features(samples) for samples, _, _ in recorded])
    y = np.array([digit for _, digit, _ in recorded])
    held_out = np.array([index < 5 for _, _, index in recorded])
    x = (x - x[~held_out].mean((0, 1))) / x[~held_out].std((0, 1))
    features, labels = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)
    return Digits((features[~held_out], labels[~held_out]), (features[held_out], labels[held_out]))


def batches(part: tuple[Tensor, Tensor], seed: int, size: int = 32) -> list[tuple[Tensor, Tensor]]:
    """One epoch of shuffled batches, none smaller than the others."""
    order = torch.randperm(len(part[1]), generator=torch.Generator().manual_seed(seed))
    return [(part[0][rows], part[1][rows]) for rows in order.split(size) if len(rows) == size]


@torch.no_grad()
def error_rate(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Share of digits that are not recognized, in percent."""
    model.eval()
    wrong = (model(test[0]).argmax(1) != test[1]).float().mean()
    model.train()
    return 100 * float(wrong)


def write_float(model: nn.Module, out: Path) -> Path:
    """The model as it is, beside ``out``, to compare bytes with."""
    path = out.with_suffix(".float32.safetensors")
    pack_float(model).save(path)
    return path


def report(before: float, after: float, uncompressed: Path, out: Path, packed: PackedModel) -> None:
    """Error and bytes of two models that were trained equally long: in float throughout, and compressed."""
    old, new = file_sizes(uncompressed), file_sizes(out)
    print("in float, and compressed in the second part of a training that is as long:")
    print(f"before: {before:5.1f} % errors, {old.file_bytes:8,} bytes ({uncompressed})")
    ratio = packed.fp32_bytes / new.file_bytes
    print(f"after:  {after:5.1f} % errors, {new.file_bytes:8,} bytes ({out}), {ratio:.1f} times smaller")


def run(main: object) -> None:
    """Call it; a user's mistake is one line and exit code 2."""
    try:
        main()  # type: ignore[operator]
    except SottovoceError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _features(samples: np.ndarray) -> np.ndarray:
    stream = StreamingFbank(FEATURES)
    stream.accept_waveform(FEATURES.sample_rate, samples)
    stream.input_finished()
    frames = stream.frames(0, min(stream.frames_ready, FRAMES))
    return np.pad(frames, ((0, FRAMES - len(frames)), (0, 0)), mode="edge")


def _recordings(folder: Path) -> list[tuple[np.ndarray, int, int]]:
    paths = sorted(folder.rglob("[0-9]_*_*.wav"))
    if not paths:
        raise DataError(f"{folder}: expected FSDD recordings ({{digit}}_{{speaker}}_{{index}}.wav), found none")
    return [(read_audio(path)[0], int(path.stem[0]), int(path.stem.rsplit("_", 1)[1])) for path in paths]


def _made_up(count: int) -> list[tuple[np.ndarray, int, int]]:
    """``count`` utterances of each digit; of ten, the first one is for the test set."""
    rng = np.random.default_rng(0)
    numbered = [(digit, 0 if take % 10 == 0 else take + 5) for take in range(count) for digit in range(DIGITS)]
    return [(_utterance(digit, rng), digit, index) for digit, index in numbered]


def _utterance(digit: int, rng: np.random.Generator) -> np.ndarray:
    rate = FEATURES.sample_rate
    t = np.linspace(0, 1, int(rate * rng.uniform(0.3, 0.45)))
    first, second = 300 + 55 * digit, 900 + 170 * ((digit * 7) % DIGITS)  # where two formants begin, in Hz
    tract, voice = rng.uniform(0.87, 1.15), rng.uniform(90, 220)
    pitch = np.cumsum(voice * (1 + 0.1 * t)) / rate
    sound = np.zeros_like(t)
    for k in range(1, 25):
        for formant, glide in ((first, 150), (second, -300 if digit % 2 else 300)):
            strength = np.exp(-(((k * voice - tract * (formant + glide * t)) / 150) ** 2))
            sound += strength * np.sin(2 * np.pi * k * pitch)
    sound *= np.hanning(len(t)) ** 0.3 / max(float(np.abs(sound).max()), 1e-6)
    noisy = 0.3 * sound + rng.normal(0, 0.1, len(t))
    return np.pad(noisy, rng.integers(0, 400, 2)).astype(np.float32).clip(-1, 1)
