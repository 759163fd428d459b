"""Small random models of every kind that is exported."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import SMALL, random_matrix, random_model, speaking_model

from sottovoce.packed import LmArchitecture, LstmLmArchitecture, PackedModel, Pcen, TransformerLmArchitecture

RNNTS = {
    "reduction inside": SMALL,
    "reduction at the end": replace(SMALL, reduction_after=SMALL.encoder_layers),
    "neither reduction nor norm": replace(SMALL, reduction_after=0, layer_norm=False),
    "no overlap": replace(SMALL, stack=2, stride=2),
    "much overlap, one predictor layer": replace(SMALL, stack=7, stride=2, predictor_layers=1),
    "PCEN": replace(SMALL, pcen=Pcen()),
}
V = 37
LMS: dict[str, LmArchitecture] = {
    "lstm": LstmLmArchitecture(V, embedding=12, units=20, layers=2),
    "lstm, tied": LstmLmArchitecture(V, embedding=16, units=16, layers=1, tied=True),
    "transformer": TransformerLmArchitecture(V, width=24, layers=2, heads=3, feed_forward=40, context=12),
    "transformer, post-norm, tied": TransformerLmArchitecture(
        V, width=16, layers=3, heads=2, feed_forward=24, context=9, norm="post", positions="sinusoidal", tied=True
    ),
}
NEMO = {"kind": "waveform", "bins": 20, "style": "nemo", "low_hz": 0.0, "high_hz": 0.0}

__all__ = ["LMS", "NEMO", "RNNTS", "SMALL", "lm_model", "random_matrix", "random_model", "speaking_model"]


def lm_model(a: LmArchitecture, seed: int = 0, *, bits: int = 4) -> PackedModel:
    """Random packed weights, two bands each."""
    rng, tensors = np.random.default_rng(seed), {}
    for name, shape in _shapes(a).items():
        if len(shape) == 2 and name != "positions":
            tensors[name] = random_matrix(rng, *shape, bits=bits)
        elif name.endswith("norm.weight"):
            tensors[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            tensors[name] = rng.normal(0, 0.3, shape).astype(np.float16)
    aliases = {"output.weight": "embedding.weight"} if a.tied else {}
    return PackedModel({k: v for k, v in tensors.items() if k not in aliases}, a.to_dict(), aliases=aliases)


def _shapes(a: LmArchitecture) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def dense(name: str, rows: int, columns: int) -> None:
        found.update({f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)})

    if isinstance(a, LstmLmArchitecture):
        found["embedding.weight"] = (a.vocabulary, a.embedding)
        for i, width in enumerate(a.layer_inputs()):
            for what, columns in (("ih", width), ("hh", a.units)):
                found[f"lstm.weight_{what}_l{i}"] = (4 * a.units, columns)
                found[f"lstm.bias_{what}_l{i}"] = (4 * a.units,)
        dense("output", a.vocabulary, a.units)
        return found
    found["embedding.weight"] = (a.vocabulary, a.width)
    if a.positions == "learned":
        found["positions"] = (a.context, a.width)
    for i in range(a.layers):
        for name in ("query", "key", "value", "attended"):
            dense(f"layers.{i}.{name}", a.width, a.width)
        dense(f"layers.{i}.expand", a.feed_forward, a.width)
        dense(f"layers.{i}.contract", a.width, a.feed_forward)
        for name in ("attention_norm", "feed_forward_norm"):
            found |= {f"layers.{i}.{name}.{part}": (a.width,) for part in ("weight", "bias")}
    if a.norm == "pre":
        found |= {f"norm.{part}": (a.width,) for part in ("weight", "bias")}
    dense("output", a.vocabulary, a.width)
    return found


def saved(model: PackedModel, path: Path) -> Path:
    model.save(path)
    return path
