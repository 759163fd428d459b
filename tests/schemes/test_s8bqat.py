"""The scheme's schedule and its published form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sottovoce as sv
from sottovoce.errors import ConfigError
from sottovoce.quant import BitPlan
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.spec import BandSpec
from sottovoce.schemes.schedule import crossed, is_event, ramp


def linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(16, 8)


def test_ramp_and_events() -> None:
    assert [ramp(p, 0.25, 0.75) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert ramp(0.3, 0.3, 0.3) == 1.0 and ramp(0.29, 0.3, 0.3) == 0.0
    assert [s for s in range(1, 21) if is_event(s, 20, 5)] == [5, 10, 15]
    assert not is_event(5, 20, None)
    assert [s for s in range(1, 21) if is_event(s, 20, 0.26)] == [5, 10, 15]  # a share of the run
    assert [s for s in range(1, 5) if is_event(s, 4, 0.01)] == [1, 2, 3]  # one step at least
    assert [s for s in range(1, 21) if crossed(s, 20, 0.26)] == [6]


def test_published_penalty_is_lambda_times_the_sum_and_has_its_gradient() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plan = BitPlan.uniform(model, bits=3, kind="regions")
    session = sv.compress(model, plan, sv.S8BQAT.published(strength=5e-4), optimizer=optimizer, total_steps=10)
    total, gradient = session.bands[0].codebook.penalty(model.weight.detach())
    penalty = session.penalty()
    assert float(penalty.detach()) == pytest.approx(5e-4 * float(total), rel=1e-5)
    penalty.backward()
    assert model.weight.grad is not None
    assert torch.allclose(model.weight.grad, 5e-4 * gradient)
    assert model.bias.grad is None


def test_published_settings_are_the_papers() -> None:
    scheme = sv.S8BQAT.published()
    assert (scheme.form, scheme.strength, scheme.finish, scheme.estimate) == ("published", 5e-4, None, False)
    assert [s for s in range(1, 121) if is_event(s, 120, scheme.period)] == [35, 70, 105]


def test_strong_published_penalty_brings_weights_to_their_levels() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scheme = sv.S8BQAT.published(strength=1e-2, period=None)
    session = sv.compress(model, BitPlan.uniform(model, bits=3), scheme, optimizer=optimizer, total_steps=200)
    before = session.hit_rates(2e-3)["weight"]
    for _ in range(200):
        optimizer.zero_grad()
        session.penalty().backward()
        optimizer.step()
    assert session.hit_rates(2e-3)["weight"] > max(0.8, before)


def test_calibration_sets_lambda_to_the_asked_ratio_of_gradients() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    session = sv.compress(
        model,
        BitPlan.uniform(model, bits=3),
        sv.S8BQAT.published(calibrate=0.5),
        optimizer=optimizer,
        total_steps=10,
    )
    assert float(session.penalty()) == 0.0  # nothing is known before the first step
    model(torch.ones(2, 16)).square().sum().backward()
    assert model.weight.grad is not None
    task = model.weight.grad.clone()
    optimizer.step()
    optimizer.zero_grad()
    session.penalty().backward()
    ratio = model.weight.grad.square().mean().sqrt() / task.square().mean().sqrt()
    assert float(ratio) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("calibrate", [None, 0.5])
def test_the_penalty_is_weighed_against_the_task(calibrate: float | None) -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scheme = sv.S8BQAT.published(strength=2e-3, full=0.5, period=None, calibrate=calibrate)
    session = sv.compress(model, BitPlan.uniform(model, bits=3), scheme, optimizer=optimizer, total_steps=8)
    assert session.penalty_ratio() is None  # at the start of the ramp, and without gradients
    for step in range(1, 6):
        optimizer.zero_grad()
        model(torch.ones(2, 16)).square().sum().backward()
        assert model.weight.grad is not None
        task = model.weight.grad.clone()
        found = session.penalty_ratio()
        optimizer.zero_grad()
        penalty = session.penalty()
        if step == 1:
            assert found is None and float(penalty) == 0.0
            model.weight.grad = task  # what lambda is taken from
        else:
            penalty.backward()
            assert model.weight.grad is not None and found is not None
            assert found == pytest.approx(float(model.weight.grad.norm() / task.norm()), rel=1e-4)
            model.weight.grad += task
        optimizer.step()
    if calibrate is not None:
        assert found == pytest.approx(calibrate, rel=0.05)  # weights are clipped after the first step
    model.weight.grad = torch.zeros_like(model.weight)
    assert session.penalty_ratio() is None  # no task to weigh it against


def test_without_a_penalty_there_is_nothing_to_weigh() -> None:
    for scheme in (sv.S8BQAT(strength=5.0, start=0.0, full=0.0), sv.StraightThrough()):
        model = linear()
        session = sv.compress(model, BitPlan.uniform(model, bits=3), scheme)
        model(torch.ones(2, 16)).square().sum().backward()
        assert session.penalty_ratio() is None


def test_decoupled_form_has_no_penalty_and_starts_late() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    session = sv.compress(
        model,
        BitPlan.uniform(model, bits=3),
        sv.S8BQAT(strength=2.0, start=0.5, finish=None),
        optimizer=optimizer,
        total_steps=10,
    )
    assert float(session.penalty()) == 0.0
    model.weight.grad = torch.zeros_like(model.weight)
    before = model.weight.detach().clone()
    for _ in range(5):
        optimizer.step()
    assert torch.equal(model.weight, before)
    optimizer.step()
    assert not torch.equal(model.weight, before)


def test_levels_are_taken_anew_where_asked() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    session = sv.compress(
        model,
        BitPlan.uniform(model, bits=3),
        sv.S8BQAT(levels_at=0.5, start=1.0, finish=None),
        optimizer=optimizer,
        total_steps=4,
    )
    first = session.bands[0].codebook
    model.weight.data *= 4
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert session.bands[0].codebook is first
    optimizer.step()
    assert float(session.bands[0].codebook.scale) == 4 * float(first.scale)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"form": "soft"}, "form"),
        ({"strength": -1.0}, "strength"),
        ({"start": 0.8, "full": 0.5}, "start and full"),
        ({"period": 0}, "period"),
        ({"refit": 0}, "refit"),
        ({"calibrate": 0.5}, "calibrate"),
        ({"form": "published", "calibrate": 0.0}, "calibrate"),
        ({"strength": float("nan")}, "strength"),
        ({"finish": 7.0}, "finish"),
        ({"levels_at": -0.1}, "levels_at"),
        ({"full": 9.0}, "full"),
        ({"period": 2.5}, "period must be a positive whole number of steps or a share of the run"),
        ({"period": 1.0}, "period"),
        ({"period": True}, "period"),
        ({"period": float("nan")}, "period"),
        ({"period": -0.1}, "period"),
        ({"refit": 0.0}, "refit"),
        ({"clip_bits": 9}, "clip_bits"),
        ({"clip_bits": 0}, "clip_bits"),
        ({"clip_bits": 2.0}, "clip_bits"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        sv.S8BQAT(**change)  # type: ignore[arg-type]


def test_straight_through_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="start"):
        sv.StraightThrough(start=2.0)
    for refit in (0, 1.5, -3):
        with pytest.raises(ConfigError, match="refit"):
            sv.StraightThrough(refit=refit)
    assert sv.StraightThrough(refit=0.1).refit == 0.1 and sv.StraightThrough(refit=None).refit is None


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_preset_clips_to_two_bits_then_trains_on_snapped_weights_and_pulls_nothing(bits: int) -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    session = sv.compress(model, BitPlan.uniform(model, bits=bits), sv.S8BQAT(), optimizer=optimizer, total_steps=8)
    codebook, before = session.bands[0].codebook, model.weight.detach().clone()
    limits = make_codebook(before, BandSpec(min(bits, 2)))
    kept = limits.clip_(before.clone())
    assert not torch.equal(kept, before)
    seen = []
    for _ in range(8):
        model(torch.ones(1, 16)).sum().backward()
        optimizer.step()
        seen.append(model.weight.detach().clone())
    assert torch.equal(seen[1], before) and torch.equal(seen[2], kept)  # a quarter of the run passes first
    assert all(len(weight.unique()) <= 2**bits for weight in seen[3:])  # from one half on, forward sees snapped weights
    latent = session.latent("weight")
    assert latent is not None and torch.equal(latent, kept)
    assert session.bands[0].codebook is not codebook  # levels are taken anew as that begins


def test_without_clip_bits_nothing_is_clipped() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scheme = sv.S8BQAT(clip_bits=None, start=0.0, finish=None)
    session = sv.compress(model, BitPlan.uniform(model, bits=3), scheme, optimizer=optimizer, total_steps=4)
    before = model.weight.detach().clone()
    model(torch.ones(1, 16)).sum().backward()
    optimizer.step()
    assert session.step == 1 and torch.equal(model.weight, before)


@pytest.mark.parametrize("kind", ["lloyd-max", "uniform", "regions", "linear"])
@pytest.mark.parametrize("zero", [None, True])
def test_weights_are_clipped_to_one_bit_whatever_the_levels(kind: str, zero: bool | None) -> None:
    """A kind that always has a zero is clipped to two."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    plan = BitPlan.uniform(model, bits=4, kind=kind, zero=zero)
    session = sv.compress(model, plan, sv.S8BQAT(clip_bits=1, finish=None), optimizer=optimizer, total_steps=4)
    before = model.weight.detach().clone()
    for _ in range(4):
        model(torch.ones(1, 16)).sum().backward()
        optimizer.step()
    limits = session.bands[0].limits
    assert limits is not None and limits.bits == (2 if kind in ("regions", "linear") else 1)
    assert kind == "linear" or model.weight.abs().max() < before.abs().max()  # its grid is the same for all weights
