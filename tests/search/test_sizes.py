"""Bytes of a packed file before there is one, against the file."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_models import LanguageModel, Transformer
from torch import nn

from sottovoce.packed import PackedMatrix, file_sizes, load_model
from sottovoce.quant import BandSpec, BitPlan
from sottovoce.quant.weights import Weight, find_weights
from sottovoce.schemes import PTQ, compress
from sottovoce.search.sizes import model_bytes, part_bytes

FIELDS = {"architecture": {"type": "none"}, "provenance": {"scheme": "ptq", "planned": True}}
MODELS = {"untied": LanguageModel, "tied": lambda: LanguageModel(tied=True), "transformer": Transformer}


@st.composite
def bands(draw: st.DrawFn, weight: Weight, scale_dtype: str) -> tuple[BandSpec, ...]:
    """One to three bands of a weight, each with levels and scales of its own."""
    borders = draw(st.sets(st.integers(1, weight.rows - 1), max_size=2))
    edges = [0, *sorted(borders), weight.rows]
    found = []
    for start, stop in pairwise(edges):
        groupings = ["tensor", "row", "model"] + ["gate"] * (not borders)
        spec = BandSpec(
            draw(st.integers(2, 8)),
            draw(st.sampled_from(["uniform", "lloyd-max"])),
            draw(st.sampled_from(groupings)),
            zero=draw(st.sampled_from([None, True])),
            scale_dtype=scale_dtype,
            start=start,
            stop=stop,
        )
        found.append(replace(spec, bits=1, zero=None) if draw(st.booleans()) else spec)
    return tuple(found)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(data=st.data())
def test_predicted_bytes_are_those_of_the_file(name: str, data: st.DataObject) -> None:
    torch.manual_seed(0)
    model: nn.Module = MODELS[name]()
    weights = find_weights(model)
    chosen = data.draw(st.sets(st.sampled_from([w.name for w in weights]), min_size=1), "planned")
    scale_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    plan = BitPlan({w.name: data.draw(bands(w, scale_dtype), w.name) for w in weights if w.name in chosen})
    float_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    tokenizer = data.draw(st.sampled_from([None, b"words"]))
    predicted = model_bytes(model, plan, FIELDS, float_dtype, None if tokenizer is None else len(tokenizer))
    parts = {
        w.name: sum(part_bytes(w, (s.stop or 0) - s.start, s) for s in plan.weights[w.name])
        for w in weights
        if w.name in chosen
    }

    packed = replace(compress(model, plan, PTQ()).finish(float_dtype=float_dtype), tokenizer=tokenizer, **FIELDS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        packed.save(path)
        assert predicted == file_sizes(path).model_bytes
        tensors = load_model(path).tensors
        for key, size in parts.items():
            matrix = tensors[key]
            assert isinstance(matrix, PackedMatrix)
            assert size == sum(b.codes.nbytes + b.levels.nbytes + b.scale.nbytes for b in matrix.bands)
