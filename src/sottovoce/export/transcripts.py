"""Stock sherpa-onnx beside the packed runtime on the same sound: the same tokens, or not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sottovoce.decoding.protocol import BLANK, NO_HISTORY, State
from sottovoce.errors import ConfigError, ExportError
from sottovoce.frontend.fbank import fbank
from sottovoce.frontend.resample import resample
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.runtime import PackedRnnt
from sottovoce.runtime.arithmetic import Floats

_CHILD = Path(__file__).with_name("sherpa_child.py")
PIECE = 1600
"""Samples that are given to a stream at a time."""
_SHARES = (0.7, 0.5, 0.3, 0.15, 0.05)


@dataclass(frozen=True)
class Decoded:
    """Tokens by id, and by how much the closest decision was made: nats between the best two of any frame."""

    tokens: tuple[int, ...]
    margin: float


def greedy(
    network: PackedRnnt, frames: Floats, penalty: float, *, max_symbols: int = 1, window: int | None = None
) -> Decoded:
    """Greedy search over encoder frames (T, J), the blank ``penalty`` nats less likely. ``window``: the predictor
    sees only so many entries, the start among them, as in the ``lstm`` type."""
    history, margin = [NO_HISTORY], float("inf")
    output, state = network.predictor_step(np.array(history), network.predictor_start(1))
    for frame in frames:
        for _ in range(max_symbols):
            scores = network.joiner(frame[None], output)[0]
            scores[BLANK] -= np.float32(penalty)
            second, best = np.sort(scores)[-2:]
            margin = min(margin, float(best - second))
            token = int(scores.argmax())
            if token == BLANK:
                break
            history.append(token)
            output, state = _predicted(network, history, state, window)
    return Decoded(tuple(history[1:]), margin)


def _predicted(network: PackedRnnt, history: list[int], state: State, window: int | None) -> tuple[Floats, State]:
    if window is None or len(history) <= window:
        return network.predictor_step(np.array(history[-1:]), state)
    state = network.predictor_start(1)
    for token in history[-window:]:
        output, state = network.predictor_step(np.array([token]), state)
    return output, state


def telling_penalty(network: PackedRnnt, frames: Sequence[Floats], **search: Any) -> float:
    """A blank penalty at which sound that says nothing gives tokens, none of them by a hair: of a few, the one whose
    closest decision is the clearest; 0 where none makes the network speak."""
    gaps = np.concatenate([_gaps(network, rows) for rows in frames])
    best, clearest = 0.0, 0.0
    for share in _SHARES:
        penalty = float(np.quantile(gaps, share))
        if penalty <= 0:  # sherpa-onnx takes no notice of such a penalty
            continue
        found = [greedy(network, rows, penalty, **search) for rows in frames]
        margin = min(one.margin for one in found)
        if sum(len(one.tokens) for one in found) >= 3 and margin > clearest:
            best, clearest = penalty, margin
    return best


def _gaps(network: PackedRnnt, frames: Floats) -> Floats:
    """How much likelier than the best token the blank is, before anything was said, (T,)."""
    output, _ = network.predictor_step(np.array([NO_HISTORY]), network.predictor_start(1))
    scores = network.joiner(frames, np.repeat(output, len(frames), axis=0))
    gaps: Floats = scores[:, BLANK] - scores[:, 1:].max(axis=1)
    return gaps


def synthetic(rate: int) -> list[Floats]:
    """Three signals of 4 to 6 s that have the bands and the rhythm of speech, and no words."""
    return [_babble(np.random.default_rng(seed), rate, seconds) for seed, seconds in enumerate((4.0, 5.0, 6.0))]


def _babble(rng: np.random.Generator, rate: int, seconds: float) -> Floats:
    times = np.arange(int(rate * seconds)) / rate
    pitch = 2 * np.pi * np.cumsum(rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * times))) / rate
    voiced = np.sum([np.sin(k * pitch) * rng.uniform(0.2, 1) / k for k in range(1, 25)], axis=0)
    syllables = np.interp(times, np.arange(0, seconds + 1, 0.18), rng.uniform(-0.3, 1, int((seconds + 1) / 0.18) + 1))
    sound = (voiced + rng.normal(0, 0.3, len(times))) * np.maximum(syllables, 0)
    signal: Floats = (0.2 * sound / np.abs(sound).max()).astype(np.float32)
    return signal


def padded(samples: Floats, rate: int, chunk: int) -> Floats:
    """Followed by silence: nothing in sherpa-onnx flushes the last chunk, so what must be heard needs more than T
    frames of it."""
    return np.concatenate([samples, np.zeros(int(rate * (chunk + 10) * 0.01), np.float32)])


def ready_frames(samples: Floats, settings: FeatureSettings, chunk: int) -> Floats:
    """The features that sherpa-onnx decodes of a finished signal at the model's rate: whole chunks, as long as more
    frames follow, (T, F)."""
    features = fbank(samples, settings)
    return features[: (len(features) - 1) // chunk * chunk]


def at_rate(samples: Floats, rate: int, settings: FeatureSettings) -> Floats:
    """Resampled as recognizers do."""
    return resample_to(samples, rate, settings.sample_rate)


def resample_to(samples: Floats, rate: int, wanted: int) -> Floats:
    """The same at another rate in Hz."""
    return samples if rate == wanted else resample(samples, rate, wanted)


def check_installed() -> None:
    """Raises ConfigError where sherpa-onnx is not there."""
    if find_spec("sherpa_onnx") is None:
        raise ConfigError(
            "the export is checked by running sherpa-onnx, which is not installed: pip install 'sottovoce[export]', or "
            "--no-check to write it unchecked"
        )


def run_sherpa(
    passes: Sequence[Mapping[str, Any]], signals: Sequence[Floats], rate: int, piece: int = PIECE
) -> dict[str, Any]:
    """What ``sherpa_child`` prints, from a process of its own. Raises ExportError where that ends badly."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        arrays: dict[str, Any] = {str(i): signal for i, signal in enumerate(signals)}
        np.savez(folder / "signals.npz", **arrays)
        request = {"signals": str(folder / "signals.npz"), "rate": rate, "piece": piece, "passes": list(passes)}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-P", str(_CHILD), str(folder / "request.json")]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise ExportError(f"sherpa-onnx: ended with code {done.returncode} on the exported files: {lines[-1][:300]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def differing(expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> Iterator[int]:
    """The signals whose tokens differ."""
    return (i for i, (ours, theirs) in enumerate(zip(expected, found, strict=True)) if list(ours) != list(theirs))
