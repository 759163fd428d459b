"""Gates with bits of their own are bands of one matrix: NumPy and the compiled kernels run them to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sottovoce as sv
from sottovoce.models import Rnnt
from sottovoce.packed import PackedMatrix, RnntArchitecture, load_model
from sottovoce.quant import BandSpec
from sottovoce.runtime import NativeRnnt, PackedRnnt
from sottovoce.runtime.kernels import native_module
from sottovoce.search import clusters, plan_of

SIZES = {"features": 8, "vocabulary": 20, "encoder_units": 12, "encoder_layers": 2, "embedding": 6}


@pytest.mark.parametrize("seed", range(3))
def test_a_recognizer_with_bits_by_gate_runs_as_its_weights_say(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    architecture = RnntArchitecture.from_dict({"type": "rnnt", **SIZES, "predictor_units": 10, "joiner_units": 9})
    model = Rnnt(architecture)
    found = clusters(model, "gate", {"joiner.output.weight": [5], "predictor.embedding.weight": [3, 7]})
    bits = np.random.default_rng(seed).integers(1, 9, len(found)).tolist()
    packed = sv.compress(model, plan_of(found, bits, BandSpec(8, "uniform", "row")), sv.PTQ()).finish()
    replace(packed, architecture=architecture.to_dict()).save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    matrix = loaded.tensors["encoder.layers.0.weight_hh_l0"]
    assert isinstance(matrix, PackedMatrix) and {b.start % 12 for b in matrix.bands} == {0}
    for name, value in model.state_dict().items():
        assert np.array_equal(loaded.decode(name), value.numpy()), name
    rng = np.random.default_rng(seed)
    features, lengths = rng.normal(0, 1, (2, 40, 8)).astype(np.float32), np.array([40, 31])
    reference = PackedRnnt(loaded)
    frames, counts = reference.encode(features, lengths)
    exact = PackedRnnt(loaded, arithmetic="float").encode(features, lengths)[0]
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(features), torch.from_numpy(lengths))[0].numpy()
    assert np.allclose(exact[0], expected[0], atol=1e-4)
    if native_module() is None:
        pytest.skip("the compiled kernels are not here")
    compiled, compiled_counts = NativeRnnt(loaded).encode(features, lengths)
    assert np.array_equal(compiled, frames) and np.array_equal(compiled_counts, counts)
