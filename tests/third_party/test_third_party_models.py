"""Models that others wrote: compressed beside a plain loop, packed, saved, loaded again and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from third_party_models import CASES, Case
from torch import Tensor, nn

import sottovoce as sv

STEPS = 4


def compressed(case: Case, path: Path) -> tuple[nn.Module, sv.PackedModel]:
    """The model after a few steps of S8BQAT, on snapped weights, and its file."""
    torch.manual_seed(0)
    model = case.make().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    plan = sv.BitPlan.uniform(model, bits=4)
    session = sv.compress(model, plan, sv.S8BQAT(start=0.25, period=2), optimizer=optimizer, total_steps=STEPS)
    inputs = case.inputs()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = case.loss(model(**inputs))
        assert torch.isfinite(loss)
        loss.backward()
        optimizer.step()
    assert session.step == STEPS
    packed = session.finish()
    packed.save(path)
    return model.eval(), packed


def fresh(case: Case) -> nn.Module:
    torch.manual_seed(99)
    return case.make().eval()


@torch.no_grad()
def run(case: Case, model: nn.Module) -> Tensor:
    return case.output(model(**case.inputs()))


@pytest.mark.parametrize("name", CASES)
def test_a_reloaded_file_computes_what_the_snapped_model_does(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = tmp_path / "model.safetensors"
    model, packed = compressed(case, path)
    expected = run(case, model)
    for weight in case.compressed:
        value = model.get_parameter(weight)
        assert len(value.detach().unique()) <= 16, weight
        assert packed.tensor(weight).nbytes < value.nbytes, weight
    assert set(case.tied) <= set(packed.aliases)

    twin = fresh(case)
    assert not torch.allclose(run(case, twin), expected)
    sv.load(path, into=twin)
    for key, value in model.state_dict().items():
        assert torch.equal(twin.state_dict()[key], value), key
    assert torch.equal(run(case, twin), expected)

    looking_up = fresh(case)
    sv.load(path, into=looking_up, packed=True)
    assert torch.allclose(run(case, looking_up), expected, rtol=1e-4, atol=1e-5)
    assert held_bytes(looking_up) < held_bytes(model)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_named_with_what_becomes_of_it(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.make()
    described = sv.describe(model, bits=4)
    listed = {name for tensor in described.tensors for name in (tensor.name, *tensor.aliases)}
    assert listed == set(model.state_dict())
    assert set(case.compressed) <= {tensor.name for tensor in described.compressed}
    reasons = {tensor.name: tensor.reason for tensor in described.left_in_float}
    for tensor, reason in case.kept.items():
        assert reasons[tensor].startswith(reason)
    path = tmp_path / "model.safetensors"
    packed = sv.compress(model, described.plan, sv.PTQ()).finish()
    packed.save(path)
    assert described.file_bytes == path.stat().st_size
    assert {t.name: t.bytes_after for t in described.tensors} == {n: t.nbytes for n, t in packed.tensors.items()}


def held_bytes(model: nn.Module) -> int:
    tensors: dict[int, Any] = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
    return sum(t.nbytes for t in tensors.values())
