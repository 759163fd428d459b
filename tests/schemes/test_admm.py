"""ADMM: the descent of its inner alternation, its steps by hand, its state, and one scale for a whole model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import ConfigError
from sottovoce.packed import load_model
from sottovoce.quant import BandSpec, BitPlan, Codebook, make_codebook
from sottovoce.quant.spec import KINDS
from sottovoce.schemes.admm import project
from sottovoce.schemes.session import Session


def error(weight: Tensor, book: Codebook) -> float:
    return float((weight - book.snap_(weight.clone())).double().square().sum())


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(1, 8), st.sampled_from(["tensor", "gate", "row"]), st.integers(0, 10**6),
    st.floats(0.02, 3.0), st.floats(0.0, 2.0), st.integers(1, 20),
)  # fmt: skip
def test_the_alternation_of_scale_and_codes_never_raises_its_objective(
    kind: str, bits: int, grouping: str, seed: int, spread: float, moved: float, rounds: int
) -> None:
    if kind not in ("uniform", "lloyd-max"):
        grouping = "tensor"
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(8, 30, generator=generator) * spread
    assume(bits > 1 or kind in ("uniform", "lloyd-max"))  # the others have a zero, or want two bits
    spec = BandSpec(bits, kind, grouping)
    book = make_codebook(weight, spec, gates=4)
    target = weight + moved * spread * torch.randn(8, 30, generator=generator)  # w + u, after weights have moved
    after = project(target, book, spec, 4, rounds)
    assert error(target, after) <= error(target, book) * (1 + 1e-5) + 1e-12
    assert len(after.levels) <= 2**bits and torch.equal(after.scale, after.scale.half().float())
    again = project(target, after, spec, 4, rounds)
    assert error(target, again) <= error(target, after) * (1 + 1e-5) + 1e-12


def still(scheme: sv.ADMM, total: int, lr: float = 0.0, bits: int = 2) -> tuple[nn.Linear, torch.optim.SGD, Session]:
    """A layer whose loss has no gradient, so that every change is the scheme's."""
    torch.manual_seed(0)
    model = nn.Linear(16, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    model.weight.grad = torch.zeros_like(model.weight)
    plan = BitPlan.uniform(model, bits=bits, kind="uniform", grouping="row")
    return model, optimizer, sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=total)


def test_the_steps_of_an_outer_iteration_by_hand() -> None:
    scheme = sv.ADMM(strength=(2.0, 2.0), period=3, finish=None)
    model, optimizer, session = still(scheme, 100, lr=0.1)
    weight = model.weight.detach().clone()
    target, dual = None, torch.zeros_like(weight)
    for step in range(1, 8):
        optimizer.step()
        if target is None:  # begins with q of the weights and no multipliers
            target = session.bands[0].codebook.snap_(weight.clone())
        else:
            share = 0.2 / 1.2  # lr * rho / (1 + lr * rho)
            weight = weight + share * (target - weight)
        if step % 3 == 0:
            total = weight + dual
            quantized = session.bands[0].codebook.snap_(total.clone())
            dual = total - quantized
            target = quantized - dual
        assert torch.allclose(model.weight, weight, atol=1e-6)
    assert torch.allclose(session.tensors["weight dual"], dual, atol=1e-6)
    assert [event["step"] for event in session.events] == [3, 6]
    residual = (weight - (target + dual)).norm() / weight.norm()
    assert session.events[0]["residual"]["weight"] > session.events[1]["residual"]["weight"] > float(residual) * 0.5


def test_strength_grows_geometrically_and_multipliers_stay() -> None:
    scheme = sv.ADMM(strength=(1.0, 100.0), period=10, finish=None)
    assert [scheme.rho(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 10.0, 100.0])
    assert sv.ADMM(strength=(1.0, 100.0), finish=0.5).rho(0.5) == pytest.approx(100.0)
    _, optimizer, session = still(scheme, 40, lr=0.1)
    products = []
    for step in range(1, 21):
        optimizer.step()
        if step % 10 == 0:
            products.append(session.values["rho"])
            total = session.tensors["weight target"] + session.tensors["weight dual"]
            snapped = session.bands[0].codebook.snap_(total.clone())
            assert torch.allclose(total, snapped, atol=1e-6)  # target + u is q, whatever u was scaled by
    assert products == pytest.approx([100**0.25, 100**0.5])


def test_without_a_finishing_phase_it_ends_on_its_quantized_copy() -> None:
    model, optimizer, session = still(sv.ADMM(strength=(1.0, 1.0), period=4, finish=None), 20, lr=0.1)
    for _ in range(20):
        optimizer.step()
    quantized = model.weight.detach().clone()
    session.finish()
    assert torch.equal(model.weight, quantized) and len(quantized[0].unique()) <= 4


def test_extra_gradient_by_hand_on_a_quadratic() -> None:
    # loss = |w - c|^2 / 2: gradient w - c; look-ahead w' = w - 0.5 (w - c + g (w - t)), step with the gradient at w'.
    torch.manual_seed(0)
    model = nn.Linear(6, 4, bias=False)
    centre = torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheme = sv.ADMM(form="extragradient", strength=(0.3, 0.3), period=50, finish=None, look_ahead=5.0)
    plan = BitPlan.uniform(model, 2, kind="uniform", grouping="row", scale_dtype="float32")
    session = sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=100)
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model.weight - centre).square().sum() / 2
        loss.backward()
        calls.append(float(loss.detach()))
        return loss

    optimizer.step(closure)  # no multipliers yet: a plain step
    assert len(calls) == 1
    for _ in range(3):
        w, t = model.weight.detach().clone(), session.tensors["weight target"]
        ahead = w - 0.5 * (w - centre + 0.3 * (w - t))
        expected = w - 0.1 * (ahead - centre + 0.3 * (ahead - t))
        optimizer.step(closure)
        assert torch.allclose(model.weight, expected, atol=1e-6)
    assert len(calls) == 7
    before = model.weight.detach().clone()
    closure()
    optimizer.step()  # without a closure: the proximal form
    moved = before - 0.1 * (before - centre)
    share = 0.1 * 0.3 / (1 + 0.1 * 0.3)
    assert torch.allclose(model.weight, moved + share * (session.tensors["weight target"] - moved), atol=1e-6)


class Tagger(nn.Module):
    """Embedding tied to the output layer, and an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.output = nn.Linear(8, 12)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.output(self.lstm(self.embedding(tokens))[0])
        return scores


TOKENS = torch.randint(0, 12, (4, 9), generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.roll(1, 1).flatten())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, closures: bool = False) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(steps):
        if closures:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


SCHEMES = {
    "proximal": lambda: sv.ADMM(strength=(10.0, 300.0), finish=None),
    "finishing": lambda: sv.ADMM(strength=(10.0, 300.0), finish=0.6, refit=2),
    "extragradient": lambda: sv.ADMM(form="extragradient", strength=(0.01, 1.0), finish=None, look_ahead=2.0),
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("grouping", ["model", "tensor", "row"])
def test_the_file_decodes_to_the_trained_weights_and_ties_stay(name: str, grouping: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    plan = BitPlan.uniform(model, bits=2, kind="uniform", grouping=grouping)
    session = sv.compress(model, plan, SCHEMES[name](), optimizer=optimizer, total_steps=30)
    train(model, optimizer, 30, closures=name == "extragradient")
    session.finish().save(tmp_path / "m.safetensors")
    packed = load_model(tmp_path / "m.safetensors")
    for key, value in model.state_dict().items():
        assert np.array_equal(packed.decode(key), value.numpy()), key
    assert packed.aliases == {"output.weight": "embedding.weight"}
    assert model.output.weight is model.embedding.weight
    scales = [float(s) for t in packed.tensors.values() if not isinstance(t, np.ndarray) for s in t.bands[0].scale]
    assert (len(set(scales)) == 1) == (grouping == "model")


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("cut", [3, 11, 21])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(name: str, cut: int) -> None:
    def begin() -> tuple[Tagger, torch.optim.Optimizer, Session]:
        torch.manual_seed(0)
        model = Tagger()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        plan = BitPlan.uniform(model, bits=2, kind="uniform", grouping="row")
        scheme = SCHEMES[name]()
        return model, optimizer, sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=30)

    closures = name == "extragradient"
    whole, optimizer, session = begin()
    train(whole, optimizer, 30, closures)
    session.finish()
    part, optimizer, session = begin()
    train(part, optimizer, cut, closures)
    weights, moments, saved = part.state_dict(), optimizer.state_dict(), session.state_dict()
    weights = {key: value.clone() for key, value in weights.items()}
    for key in list(weights):
        latent = session.latent(key)
        weights[key] = weights[key] if latent is None else latent.clone()
    resumed, optimizer, session = begin()
    resumed.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    session.load_state_dict(saved)
    train(resumed, optimizer, 30 - cut, closures)
    session.finish()
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_scale_for_a_whole_model_is_the_least_squares_one_of_all_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10))
    plan = BitPlan.uniform(model, bits=2, kind="uniform", grouping="model", overrides={"1.weight": 4})
    weights = [m.weight.detach().clone() for m in model]
    packed = sv.compress(model, plan, sv.PTQ()).finish()
    assert packed.tensors["0.weight"].bands[0].scale != packed.tensors["1.weight"].bands[0].scale  # type: ignore[union-attr]
    same = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10))
    for module, weight in zip(same, weights, strict=True):
        module.weight.data.copy_(weight)
    packed = sv.compress(same, BitPlan.uniform(same, 2, kind="uniform", grouping="model"), sv.PTQ()).finish()
    joint = make_codebook(torch.cat([w.flatten() for w in weights])[None], BandSpec(2, "uniform"))
    for name in ("0.weight", "1.weight"):
        band = packed.tensors[name].bands[0]  # type: ignore[union-attr]
        assert band.grouping == "tensor" and band.scale.astype(np.float32) == joint.scale.numpy()


def test_it_learns_where_rounding_at_the_end_does_not() -> None:
    losses = {}
    schemes = {"admm": sv.ADMM(strength=(0.3, 10.0), finish=None), "finishing": sv.ADMM(strength=(1.0, 10.0))}
    for name, scheme in {**schemes, "ptq": sv.PTQ()}.items():
        torch.manual_seed(0)
        model = Tagger()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
        plan = BitPlan.uniform(model, bits=2, kind="uniform", grouping="row")
        session = sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=120)
        train(model, optimizer, 120)
        session.finish()
        losses[name] = float(loss_of(model).detach())
    assert max(losses["admm"], losses["finishing"]) < 0.7 * losses["ptq"]


def test_published_settings_are_the_sources() -> None:
    scheme = sv.ADMM.published()
    assert scheme.form == "extragradient" and scheme.rho(0.0) == scheme.rho(0.7) == 1e-3
    assert scheme.look_ahead * 0.001 == pytest.approx(0.02) and round(1 / scheme.period) == 20 and scheme.inner == 20


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"form": "closed"}, "form"),
        ({"strength": (0.0, 1.0)}, "strength"),
        ({"strength": (2.0, 1.0)}, "strength"),
        ({"strength": 3.0}, "strength"),
        ({"start": -0.1}, "start"),
        ({"start": 0.8, "finish": 0.5}, "start and finish"),
        ({"finish": 2.0}, "finish"),
        ({"period": None}, "period must be given"),
        ({"period": 0}, "period"),
        ({"refit": 1.5}, "refit"),
        ({"inner": 0}, "inner"),
        ({"inner": True}, "inner"),
        ({"look_ahead": -1.0}, "look_ahead"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        sv.ADMM(**change)  # type: ignore[arg-type]
