"""Run folders as training, evaluation, bench and search leave them, small enough to make in a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.scores import SentenceScore, write_scores
from sottovoce.packed import LstmLmArchitecture, PackedMatrix, PackedModel, RnntArchitecture, make_band

ARCHITECTURE = RnntArchitecture(
    features=20, vocabulary=30, stack=2, stride=1, encoder_layers=2, encoder_units=50, reduction=1, embedding=20,
    predictor_units=30, joiner_units=40,
)  # fmt: skip
SHAPES = {
    "encoder.layers.0.weight_ih_l0": (200, 40),
    "encoder.layers.0.weight_hh_l0": (200, 50),
    "encoder.layers.1.weight_ih_l0": (200, 50),
    "encoder.layers.1.weight_hh_l0": (200, 50),
    "encoder.projection.weight": (40, 50),
    "predictor.embedding.weight": (30, 20),
    "predictor.lstm.weight_ih_l0": (120, 20),
    "predictor.lstm.weight_hh_l0": (120, 30),
    "predictor.projection.weight": (40, 30),
    "joiner.output.weight": (30, 40),
}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero"]

MakeRun = Callable[..., Path]


def matrix(shape: tuple[int, int], bits: int, seed: int = 0) -> PackedMatrix:
    """Random codes over evenly spaced levels."""
    codes = np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint8)
    levels = (np.arange(1 << bits) - (1 << bits) // 2).astype(np.int8)
    return PackedMatrix(shape, (make_band(codes, levels, np.array([0.1], np.float16), bits, "uniform", "tensor"),))


def save_model(path: Path, bits: int, scheme: str | None = None, shapes: dict[str, tuple[int, int]] = SHAPES) -> str:
    """A file with these matrices; 32 bits are floats. Returns its hash as runs name it."""
    rng = np.random.default_rng(1)
    if bits == 32:
        tensors: dict[str, Any] = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    else:
        tensors = {name: matrix(shape, bits, k) for k, (name, shape) in enumerate(shapes.items())}
    architecture = ARCHITECTURE.to_dict() if shapes is SHAPES else LstmLmArchitecture(60, 30, 30).to_dict()
    made = {"seed": 0, "recipe": "tiny"} | ({"scheme": scheme, "bits": bits} if scheme else {})
    PackedModel(tensors, architecture, tokenizer=b"t", provenance=made).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def hypotheses(wrong: int, utterances: int = 24, script: str = "") -> list[Hypothesis]:
    """Of each utterance's four words, the first ``wrong`` utterances hear one otherwise."""
    found = []
    for k in range(utterances):
        words = [WORDS[(k + j) % 10] for j in range(4)]
        heard = [*words[:1], "oh" + script, *words[2:]] if k < wrong else words
        found.append(Hypothesis(f"u{k:02}", " ".join(heard), f"s{k % 9}", f"u{k:02}", " ".join(words)))
    return found


def record(folder: Path) -> None:
    """Histograms, shares and a sensitivity table with its plan."""
    counts = [int(v) for v in 1000 * np.exp(-0.5 * np.linspace(-3, 3, 64) ** 2)]
    stage = {name: {"low": -1.5, "high": 1.5, "counts": counts} for name in SHAPES}
    (folder / "weights.json").write_text(json.dumps({"version": 1, "before": stage, "trained": stage}))
    rows = [{"step": k, "steps": 10, "share": k / 20, "bands": {}} for k in range(11)]
    (folder / "levels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = list(SHAPES)[:3]
    clusters = [
        {"name": n, "parts": [[n, 0, 200]], "weights": 100, "omega": [1.0, 0.1, 0.0], "bytes": [1, 2, 4]} for n in names
    ]
    table = {"version": 1, "metric": "kl", "bits": [2, 4, 8], "clusters": clusters}
    (folder / "sensitivity.json").write_text(json.dumps(table))
    plan = {"version": 1, "weights": {n: [{"bits": 4}] for n in names}}
    (folder / "plan.json").write_text(json.dumps(plan))


def write_language_model(folder: Path, bits: int, worse: float) -> Path:
    """A run of a language model with its scores."""
    folder.mkdir(parents=True)
    shapes = {"embedding.weight": (60, 30), "lstm.weight_ih_l0": (120, 30), "lstm.weight_hh_l0": (120, 30)}
    save_model(folder / "model.safetensors", bits, "ptq" if bits < 32 else None, shapes)
    rng = np.random.default_rng(3)
    scores = [
        SentenceScore(f"s{k}", f"c{k % 10}", 5, -np.float32(1 + worse) * rng.random(5, np.float32)) for k in range(40)
    ]
    write_scores(folder / "scores.jsonl", scores)
    return folder
