"""Random packed transducers, small enough to run hundreds of times."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import sentencepiece

from sottovoce.packed import PackedMatrix, PackedModel, RnntArchitecture, make_band

SMALL = RnntArchitecture(
    features=5,
    vocabulary=12,
    stack=4,
    stride=2,
    encoder_layers=2,
    encoder_units=12,
    reduction=2,
    reduction_after=1,
    embedding=8,
    predictor_layers=2,
    predictor_units=8,
    joiner_units=9,
)


def shapes(a: RnntArchitecture) -> dict[str, tuple[int, ...]]:
    """Every tensor of the network, by name: docs/design.md section 11."""
    found: dict[str, tuple[int, ...]] = {"encoder.mean": (a.features,), "encoder.istd": (a.features,)}
    for i, width in enumerate(a.layer_inputs()):
        found |= lstm_shapes(f"encoder.layers.{i}.", 0, width, a.encoder_units)
        if a.layer_norm:
            found |= {f"encoder.norms.{i}.weight": (a.encoder_units,), f"encoder.norms.{i}.bias": (a.encoder_units,)}
    found |= dense_shapes("encoder.projection.", a.joiner_units, a.encoder_width)
    found["predictor.embedding.weight"] = (a.vocabulary, a.embedding)
    for i in range(a.predictor_layers):
        found |= lstm_shapes("predictor.lstm.", i, a.predictor_units if i else a.embedding, a.predictor_units)
    found |= dense_shapes("predictor.projection.", a.joiner_units, a.predictor_units)
    return found | dense_shapes("joiner.output.", a.vocabulary, a.joiner_units)


def lstm_shapes(prefix: str, layer: int, columns: int, units: int) -> dict[str, tuple[int, ...]]:
    rows = 4 * units
    return {
        f"{prefix}weight_ih_l{layer}": (rows, columns),
        f"{prefix}weight_hh_l{layer}": (rows, units),
        f"{prefix}bias_ih_l{layer}": (rows,),
        f"{prefix}bias_hh_l{layer}": (rows,),
    }


def dense_shapes(prefix: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}weight": (rows, columns), f"{prefix}bias": (rows,)}


def random_matrix(rng: np.random.Generator, rows: int, columns: int, bits: int = 4) -> PackedMatrix:
    """Two bands of different bits, random levels (-128 among those possible), weights of about 1.5 / sqrt(columns)."""
    cut = rows // 2
    bands = []
    for start, stop, b in ((0, cut, bits), (cut, rows, bits + 1)):
        if stop == start:
            continue
        levels = np.sort(rng.choice(np.arange(-128, 128), 2**b, replace=False)).astype(np.int8)
        codes = rng.integers(0, 2**b, (stop - start, columns)).astype(np.uint8)
        scale = (rng.uniform(1.0, 2.0, stop - start) * 1.5 / (64 * np.sqrt(columns))).astype(np.float16)
        bands.append(make_band(codes, levels, scale, b, "random", "row", start))
    return PackedMatrix((rows, columns), tuple(bands))


def random_model(
    a: RnntArchitecture = SMALL, seed: int = 0, *, bits: int = 4, packed: bool = True, **fields: Any
) -> PackedModel:
    """A random network that emits now and then; packed=False stores its decoded weights as float32."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for name, shape in shapes(a).items():
        if len(shape) == 2:
            matrix = random_matrix(rng, *shape, bits=bits)
            tensors[name] = matrix if packed else matrix.decode()
        elif "istd" in name or ("norms" in name and name.endswith("weight")):
            tensors[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            tensors[name] = rng.normal(0, 0.3, shape).astype(np.float16)
    tensors["joiner.output.bias"][0] += np.float16(3.0)  # blank, most of the time
    return PackedModel(tensors, architecture=a.to_dict(), **fields)


@cache
def tokenizer() -> bytes:
    """A character tokenizer of about 20 pieces, blank first."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four", "five six seven", "eight nine zero"] * 5),
        model_writer=model,
        model_type="char",
        vocab_size=30,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        pad_id=0,
        pad_piece="<blk>",
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def vocabulary() -> int:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer()).vocab_size()


def speaking_model(seed: int = 0, **fields: Any) -> PackedModel:
    """A random network over fbanks, or whatever ``input`` says, with a tokenizer."""
    features = fields.get("input", {}).get("dim", 20)
    a = RnntArchitecture(
        features=features,
        vocabulary=vocabulary(),
        encoder_units=16,
        embedding=8,
        predictor_units=8,
        joiner_units=12,
    )
    fields.setdefault("input", {"kind": "waveform", "bins": features})
    return random_model(a, seed, tokenizer=tokenizer(), **fields)
