"""The session beside loops as people write them: accumulation, autocast, compiled models, averages, resuming."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sottovoce as sv
from sottovoce.errors import PlanError
from sottovoce.packed import PackedModel
from sottovoce.schemes import Session


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 8))
        self.output = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.body(x).tanh())


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


def batch(step: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=g), torch.randint(0, 3, (8,), generator=g)


def loss_of(model: nn.Module, step: int) -> Tensor:
    x, y = batch(step)
    return nn.functional.cross_entropy(model(x), y)


def begin(model: nn.Module, steps: int, scheme: Any = None, bits: int = 3) -> tuple[torch.optim.Optimizer, Session]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheme = scheme or sv.S8BQAT(strength=2.0, start=0.0, full=0.3, finish=0.5, refit=3)
    plan = sv.BitPlan.uniform(model, bits=bits)
    return optimizer, sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=steps)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def same(a: PackedModel, b: PackedModel) -> bool:
    return set(a.tensors) == set(b.tensors) and all(
        np.array_equal(a.decode(name), b.decode(name)) for name in a.tensors
    )


def test_accumulated_gradients_are_one_step(model: Net) -> None:
    """Quantized weights stay the same between the parts of a batch, and only the step counts."""
    model.eval()  # batch norm would see parts
    optimizer, session = begin(model, 10, sv.StraightThrough(refit=2))
    train(model, optimizer, range(1))
    x, y = batch(1)
    held = model.output.weight.detach().clone()
    whole = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), model.output.weight)[0]
    optimizer.zero_grad()
    for part in (slice(0, 4), slice(4, 8)):
        (nn.functional.cross_entropy(model(x[part]), y[part]) / 2).backward()
        assert torch.equal(model.output.weight.detach(), held) and session.step == 1
    assert torch.allclose(model.output.weight.grad, whole, atol=1e-6)  # type: ignore[arg-type]
    optimizer.step()
    assert session.step == 2


def test_autocast_and_a_scaler_that_skips(model: Net) -> None:
    optimizer, session = begin(model, 8)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    weights = []
    for step in range(8):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, step)
        scaler.scale(loss).backward()
        if step in (2, 6):
            model.output.weight.grad[0, 0] = float("nan")  # type: ignore[index]
        before = model.output.weight.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        if step in (2, 6):
            assert torch.equal(model.output.weight.detach(), before)
        weights.append(model.output.weight.detach().clone())
    assert session.step == 6 and len(weights[-1].unique()) <= 8
    packed = session.finish()
    assert all(np.isfinite(packed.decode(name)).all() for name in packed.tensors)
    assert np.array_equal(packed.decode("output.weight"), model.output.weight.detach().numpy())


@pytest.mark.parametrize("scheme", [sv.PTQ(), sv.S8BQAT(), sv.ADMM(finish=None, strength=(10.0, 100.0), period=2)])
def test_a_run_that_ends_before_its_last_step_is_settled(model: Net, scheme: Any) -> None:
    """Steps that a scaler skips never come back, so the last one of the plan may not come."""
    optimizer, session = begin(model, 100, scheme)
    train(model, optimizer, range(40))
    weight = model.output.weight.detach().clone()
    session.finish()
    fresh = Net()
    fresh.output.weight.data.copy_(weight)
    rounded = sv.compress(fresh, sv.BitPlan.uniform(fresh, bits=3), sv.PTQ())
    rounded.finish()
    error = (model.output.weight - weight).square().sum()
    # Levels are of these weights and not of the first ones; ADMM's are of weights and multipliers, so farther away.
    assert error <= (3.0 if isinstance(scheme, sv.ADMM) else 1.0001) * (fresh.output.weight - weight).square().sum()


@pytest.mark.parametrize("order", ["compiled before", "compiled after", "a part compiled", "compiled in place"])
def test_compiled_models_see_weights_change(model: Net, order: str, tmp_path: Path) -> None:
    twin = Net()
    twin.load_state_dict(model.state_dict())
    optimizer, session = begin(twin, 8)
    train(twin, optimizer, range(8))
    expected = session.finish()

    run: nn.Module = model
    if order == "compiled before":
        run = torch.compile(model, backend="aot_eager")  # type: ignore[assignment]
    elif order == "a part compiled":
        model.body = torch.compile(model.body, backend="aot_eager")  # type: ignore[assignment]
    elif order == "compiled in place":
        model.compile(backend="aot_eager")
    optimizer, session = begin(run, 8)
    if order == "compiled after":
        run = torch.compile(model, backend="aot_eager")  # type: ignore[assignment]
    train(run, optimizer, range(8))
    packed = session.finish()
    assert set(packed.tensors) == set(expected.tensors)
    for name in packed.tensors:
        assert np.allclose(packed.decode(name), expected.decode(name), atol=1e-3), name
    packed.save(tmp_path / "m.safetensors")
    run.eval()
    x = batch(0)[0]
    logits = run(x).detach()
    fresh = Net().eval()
    sv.load(tmp_path / "m.safetensors", into=fresh)
    assert torch.allclose(fresh(x), logits, atol=1e-6)  # the compiled model computes with what was packed
    sv.load(tmp_path / "m.safetensors", into=run)


def test_an_average_of_latents_is_packed_where_it_is_asked_for(model: Net) -> None:
    optimizer, session = begin(model, 12, sv.StraightThrough(refit=3))
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = model.output.weight.detach().clone()
    for step in range(12):
        train(model, optimizer, range(step, step + 1))
        held = model.output.weight.detach().clone()
        with session.on_latents():
            latent = model.output.weight.detach().clone()
            ema.update_parameters(model)
        expected = latent if step == 0 else expected.lerp(latent, 0.5)
        assert len(held.unique()) <= 8 < len(latent.unique())
        assert torch.equal(model.output.weight.detach(), held)
    assert torch.allclose(ema.module.output.weight.detach(), expected, atol=1e-6)
    packed = session.finish(averaged=ema)
    fresh = Net()
    fresh.load_state_dict(ema.module.state_dict())
    assert same(packed, sv.compress(fresh, sv.BitPlan.uniform(fresh, bits=3), sv.PTQ()).finish())
    assert np.array_equal(packed.decode("output.weight"), model.output.weight.detach().numpy())
    other = nn.Linear(2, 2)
    with pytest.raises(PlanError, match="averaged: expected a copy of the model"):
        sv.compress(model, sv.BitPlan.uniform(model, bits=3), sv.PTQ()).finish(averaged=other)


def test_an_average_after_finish_is_a_model_like_any_other(model: Net) -> None:
    """Without ``averaged``, what is packed is the model and never its average."""
    optimizer, session = begin(model, 4)
    ema = AveragedModel(model)
    train(model, optimizer, range(4))
    ema.update_parameters(model)
    packed = session.finish()
    assert np.array_equal(packed.decode("output.weight"), model.output.weight.detach().numpy())
    plan = sv.BitPlan.uniform(ema.module, bits=3)
    assert set(sv.compress(ema.module, plan, sv.PTQ()).finish().tensors) == set(packed.tensors)


class Wrapper(torch.optim.Optimizer):
    """As accelerate wraps an optimizer: a subclass that was never initialized as one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


def test_a_wrapped_optimizer_is_hooked_inside(model: Net) -> None:
    inner = torch.optim.SGD(model.parameters(), lr=1e-2)
    wrapped = Wrapper(inner)
    session = sv.compress(model, sv.BitPlan.uniform(model, bits=3), sv.PTQ(), optimizer=wrapped, total_steps=3)
    loss_of(model, 0).backward()
    wrapped.step()
    assert session.step == 1


def test_one_checkpoint_of_model_optimizer_schedule_and_session_goes_on_to_the_bit(model: Net) -> None:
    """Groups with rates of their own, a schedule, and a file that is read without executing anything."""

    def start(net: Net) -> tuple[torch.optim.Optimizer, Any, Session]:
        groups = [{"params": net.body.parameters(), "lr": 1e-3}, {"params": net.output.parameters(), "lr": 2e-2}]
        optimizer = torch.optim.AdamW(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 16)
        scheme = sv.S8BQAT(strength=5.0, start=0.0, full=0.2, finish=0.4, refit=3)
        plan = sv.BitPlan.uniform(net, bits=2)
        return optimizer, schedule, sv.compress(net, plan, scheme, optimizer=optimizer, total_steps=16)

    def go(net: Net, parts: tuple[Any, Any, Session], steps: range) -> None:
        for step in steps:
            train(net, parts[0], range(step, step + 1))
            parts[1].step()

    twin = Net()
    twin.load_state_dict(model.state_dict())
    whole = start(model)
    go(model, whole, range(16))
    for stop in (4, 11):  # before and in the phase on quantized weights
        net = Net()
        net.load_state_dict(twin.state_dict())
        parts = start(net)
        go(net, parts, range(stop))
        file = io.BytesIO()
        torch.save({"model": net.state_dict(), "parts": [part.state_dict() for part in parts]}, file)
        saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        net = Net()
        parts = start(net)
        net.load_state_dict(saved["model"])
        for part, state in zip(parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        go(net, parts, range(stop, 16))
        assert {band.name: parts[2].rate(band) for band in parts[2].bands} == {
            band.name: whole[2].rate(band) for band in whole[2].bands
        }
        if stop == 11:
            assert same(parts[2].finish(), whole[2].finish())
        else:
            assert all(torch.equal(a, b) for a, b in zip(net.parameters(), model.parameters(), strict=True))


def test_a_session_that_is_under_way_goes_back_to_a_checkpoint_of_before(model: Net) -> None:
    """What was loaded into the model stays there: the latents of later steps are not written over it."""
    optimizer, session = begin(model, 10)
    train(model, optimizer, range(3))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), session.state_dict()))
    train(model, optimizer, range(3, 10))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for part, state in zip((model, optimizer, session), saved, strict=True):
        part.load_state_dict(state)  # type: ignore[attr-defined]
    assert all(torch.equal(value, saved[0][name]) for name, value in model.state_dict().items())
    train(model, optimizer, range(3, 10))
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
