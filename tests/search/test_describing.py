"""What compression would do is told before anything is touched, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import sottovoce as sv
from sottovoce.errors import PlanError
from sottovoce.models import Rnnt, make_lm
from sottovoce.packed import RnntArchitecture, lm_architecture


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.depthwise = nn.Conv1d(8, 8, 3, groups=8)
        self.positional = parametrizations.weight_norm(nn.Conv1d(8, 8, 4, groups=2), dim=2)
        self.upsample = nn.ConvTranspose1d(8, 4, 2)
        self.gate = nn.Parameter(torch.ones(8, 2))
        self.scale = nn.Parameter(torch.ones(8))
        self.nothing = nn.Linear(8, 0)
        self.norm = nn.BatchNorm1d(8)
        self.output = nn.Linear(8, 12)
        self.output.weight = self.embedding.weight


def test_every_tensor_has_its_place_and_its_reason() -> None:
    model = Mixed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    described = sv.describe(model, bits=4)
    reasons = {tensor.name: tensor.reason for tensor in described.tensors}
    assert set(reasons) == set(model.state_dict()) - {"output.weight"}
    assert reasons == {
        "gate": "unsupported layer: Mixed",
        "scale": "a vector of shape (8,): a weight is a matrix",
        "embedding.weight": "",
        "depthwise.weight": "",
        "depthwise.bias": "bias",
        "positional.bias": "bias",
        "positional.parametrizations.weight.original0": reasons["positional.parametrizations.weight.original1"],
        "positional.parametrizations.weight.original1": "WeightNorm computes the weight from it: "
        "torch.nn.utils.parametrize.remove_parametrizations undoes that",
        "upsample.weight": "unsupported layer: ConvTranspose1d",
        "upsample.bias": "bias",
        "nothing.weight": "empty: a shape of (0, 8) holds no weight",
        "nothing.bias": "bias",
        "norm.weight": "norm",
        "norm.bias": "norm",
        "norm.running_mean": "buffer",
        "norm.running_var": "buffer",
        "norm.num_batches_tracked": "buffer",
        "output.bias": "bias",
    }
    table = str(described)
    assert "embedding.weight (also output.weight)" in table and "2 weights compressed, 16 tensors left" in table
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_advice_on_parametrizations_works() -> None:
    model = Mixed()
    nn.utils.parametrize.remove_parametrizations(model.positional, "weight")
    assert "positional.weight" in {tensor.name for tensor in sv.describe(model).compressed}


@pytest.mark.parametrize("float_dtype", ["float16", "float32"])
def test_bytes_are_those_of_the_file(tmp_path: Path, float_dtype: str) -> None:
    model = nn.Sequential(nn.Linear(40, 30), nn.LayerNorm(30), nn.Linear(30, 7))
    plan = sv.BitPlan.uniform(model, bits=3, grouping="row").split_rows("0.weight", 10, (6, 2))
    described = sv.describe(model, plan, float_dtype=float_dtype)
    assert described.tensors[0].bits == (6, 2)
    path = tmp_path / "model.safetensors"
    packed = sv.compress(model, described.plan, sv.PTQ()).finish(float_dtype=float_dtype)
    packed.save(path)
    assert path.stat().st_size == described.file_bytes
    assert {t.name: t.bytes_after for t in described.tensors} == {n: t.nbytes for n, t in packed.tensors.items()}
    assert described.float_bytes == packed.fp32_bytes


def test_include_and_exclude() -> None:
    model = Mixed()
    names = [t.name for t in sv.describe(model, include=("output.*", "depth*"), exclude=("*wise*",)).compressed]
    assert names == ["embedding.weight"]  # by its tied name
    left = {t.name: t.reason for t in sv.describe(model, exclude=("depth*",)).left_in_float}
    assert left["depthwise.weight"] == "left out by the plan"
    with pytest.raises(PlanError, match="matches no weight"):
        sv.describe(model, include=("decoder.*",))
    with pytest.raises(PlanError, match="give them, or a plan"):
        sv.describe(model, sv.BitPlan.uniform(model, bits=4), exclude=("depth*",))


def test_weights_that_compress_refuses_are_told_with_its_words() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Linear(4, 3).half(), nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    )
    described = sv.describe(model, bits=4)
    reasons = {t.name: t.reason for t in described.tensors}
    assert reasons["0.weight"] == ""
    assert reasons["1.weight"].startswith("cannot be packed: expected float32 master weights, found torch.float16")
    assert reasons["2.weight"].startswith("cannot be packed: expected contiguous memory")
    assert set(described.plan.weights) == {"0.weight"}
    sv.compress(model, described.plan, sv.PTQ()).finish()


def test_a_target_says_at_once_what_it_cannot_run() -> None:
    recognizer = Rnnt(RnntArchitecture(features=8, vocabulary=5, encoder_units=8, predictor_units=8, joiner_units=8))
    language_model = make_lm(lm_architecture({"type": "lstm-lm", "vocabulary": 6, "embedding": 8, "units": 8}))
    for target in ("runtime", "onnxruntime", "sherpa-onnx"):
        assert sv.describe(recognizer, target=target).plan == sv.describe(recognizer).plan
    assert sv.describe(torch.nn.DataParallel(language_model), target="runtime").compressed
    with pytest.raises(
        PlanError, match="sherpa-onnx: runs an RNN-T, found LstmLm; its packed file runs in runtime and"
    ):
        sv.describe(language_model, target="sherpa-onnx")
    with pytest.raises(PlanError, match=r"target runtime: runs this package's .* found Mixed; .* in PyTorch"):
        sv.describe(Mixed(), target="runtime")
    with pytest.raises(PlanError, match="target: expected runtime, onnxruntime, sherpa-onnx, found 'onnx'"):
        sv.describe(recognizer, target="onnx")  # type: ignore[arg-type]
