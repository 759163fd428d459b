"""GQ: the mix of levels against a dense softmax, its schedule, and whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import ConfigError
from sottovoce.packed import load_model
from sottovoce.quant import BandSpec, BitPlan, Codebook, make_codebook
from sottovoce.schemes.session import Session


def kernel(seed: int = 0, spread: float = 0.15, shape: tuple[int, int] = (12, 20)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread


def mixed(weight: Tensor, grid: Tensor, alpha: float) -> Tensor:
    """softmax(-alpha |w - z|) @ z, dense and in float64, for weights and levels in units of the range."""
    shares = (-alpha * (weight.double()[..., None] - grid.double()).abs()).softmax(-1)
    return shares @ grid.double()


@settings(max_examples=60)
@given(st.sampled_from(["mu-law", "mu-law-scaled"]), st.integers(1, 8), st.floats(1.0, 400.0), st.floats(2e-3, 3.0))
def test_the_mix_is_the_softmax_over_all_levels(kind: str, bits: int, alpha: float, spread: float) -> None:
    weight = kernel(bits, spread)
    book = make_codebook(weight, BandSpec(bits, kind))
    width = float(book.scale) * 128
    expected = width * mixed(weight / width, book.levels / 128, alpha)
    # Single precision: distances carry 1e-7, which alpha multiplies in the exponent.
    assert torch.allclose(book.mix_(weight.clone(), alpha).double(), expected, atol=(1e-5 + 1e-6 * alpha) * width)
    exact = book.mix_(weight.double(), alpha)
    assert torch.allclose(exact, width * mixed(weight.double() / width, book.levels / 128, alpha), rtol=1e-11)


def test_the_published_form_by_hand() -> None:
    # Levels +-127 / 128, alpha = 10: tanh weighs them where |w - z| differs by 2 w.
    book = make_codebook(kernel(), BandSpec(1, "mu-law"))
    weight = torch.tensor([[0.1, -0.02, 0.0]])
    expected = 127 / 128 * torch.tanh(10 * weight)
    assert torch.allclose(book.mix_(weight.clone(), 10.0), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("levels", "width"), [([-15, -5, 5, 15], 16), ([-1, 1], 2), ([-64, 0, 64], 128), ([-128, 0, 127], 256)]
)
def test_distances_are_in_units_of_the_power_of_two_above_the_outer_level(levels: list[int], width: int) -> None:
    scale = torch.tensor([0.25, 0.5])
    book = Codebook(torch.tensor(levels, dtype=torch.int8), scale, 8, "any", "gate")
    weight = kernel(1, width / 16, (6, 10))
    parts = [
        s * width * mixed(w / s / width, book.levels / width, 50.0) for w, s in zip(weight.chunk(2), scale, strict=True)
    ]
    expected = torch.cat(parts)
    assert torch.allclose(book.mix_(weight.clone(), 50.0).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grouping", ["tensor", "gate", "row"])
@pytest.mark.parametrize("kind", ["lloyd-max", "uniform"])
def test_without_end_of_sharpness_it_is_the_nearest_level(kind: str, grouping: str) -> None:
    weight = kernel(2)
    book = make_codebook(weight, BandSpec(4, kind, grouping), gates=4)
    assert torch.equal(book.mix_(weight.clone(), 1e9), book.snap_(weight.clone()))
    snapped = book.snap_(weight.clone())
    assert torch.equal(book.mix_(snapped.clone(), 1e9), snapped)  # levels stay where they are


@settings(max_examples=40)
@given(st.integers(2, 6), st.booleans(), st.floats(1.0, 1000.0), st.integers(0, 999))
def test_the_mix_keeps_order_sign_and_bounds(bits: int, zero: bool, alpha: float, seed: int) -> None:
    weight = kernel(seed, 0.4, (1, 300)).sort().values.double()
    book = make_codebook(weight, BandSpec(bits, "mu-law", zero=zero))
    moved = book.mix_(weight.clone(), alpha)
    assert (moved.diff() >= -1e-9).all() and float(moved.abs().max()) <= 127 / 128 + 1e-9
    assert torch.allclose(book.mix_(-weight, alpha), -moved, atol=1e-9)
    assert float(book.mix_(torch.zeros(1, 1), alpha).abs()) <= 1e-6  # between a pair of levels, or on the level zero


def test_large_kernels_are_worked_through_in_pieces() -> None:
    weight = kernel(3, shape=(300, 700))
    for grouping in ("tensor", "row"):
        book = make_codebook(weight, BandSpec(3, grouping=grouping))
        whole = book.mix_(weight.clone(), 80.0)
        rows = [
            Codebook(book.levels, book.scale[r : r + 1] if grouping == "row" else book.scale, 3, "", "").mix_(
                weight[r : r + 1].clone(), 80.0
            )
            for r in (0, 93, 94, 187, 299)
        ]
        assert torch.allclose(torch.cat(rows), whole[[0, 93, 94, 187, 299]], atol=1e-6)


def test_autocast_does_not_coarsen_the_mix() -> None:
    weight = kernel(4)
    book = make_codebook(weight, BandSpec(4, "mu-law"))
    with torch.autocast("cpu", torch.bfloat16):
        inside = book.mix_(weight.clone(), 50.0)
    assert torch.equal(inside, book.mix_(weight.clone(), 50.0))


def still(scheme: sv.GQ, total: int, kind: str = "mu-law") -> tuple[nn.Linear, torch.optim.Optimizer, Session]:
    """A layer that its optimizer does not move, so that every change is the scheme's."""
    torch.manual_seed(0)
    model = nn.Linear(16, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model.weight.grad = torch.zeros_like(model.weight)
    plan = BitPlan.uniform(model, bits=3, kind=kind)
    return model, optimizer, sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=total)


def test_sharpness_grows_linearly_from_the_start_to_the_end() -> None:
    scheme = sv.GQ(sharpness=(50.0, 400.0), start=0.25)
    assert [scheme.alpha(p) for p in (0.25, 0.625, 1.0)] == [50.0, 225.0, 400.0]
    assert sv.GQ().alpha(0.0) == 50.0


def test_weights_change_at_events_and_only_there() -> None:
    model, optimizer, session = still(sv.GQ(period=4, start=0.3), 20)
    changed = []
    for step in range(1, 21):
        before, levels = model.weight.detach().clone(), session.bands[0].codebook
        optimizer.step()
        moved = not torch.equal(before, model.weight)
        assert moved == (session.bands[0].codebook is not levels)  # levels are taken anew at each event
        if moved:
            changed.append(step)
            alpha = 50 + 350 * (step / 20 - 0.3) / 0.7
            expected = session.bands[0].codebook.mix_(before.clone(), alpha)
            assert torch.allclose(model.weight, expected)
    assert changed == [8, 12, 16]  # 4 comes before the start; the end has the session's own rounding
    assert [event["step"] for event in session.events] == changed
    assert session.events[0]["sharpness"] == pytest.approx(50 + 350 * 0.1 / 0.7)
    for share in ("hit_rate", "clip_rate"):
        assert all(0 <= event[share]["weight"] <= 1 for event in session.events)


def test_mu_is_fitted_before_the_mix_and_again_at_each_event() -> None:
    model, optimizer, session = still(sv.GQ(period=2), 6)
    with torch.no_grad():
        model.weight.copy_(kernel(5, 0.6, (8, 16)))
    wide = make_codebook(model.weight.detach(), BandSpec(3, "mu-law")).levels
    assert not torch.equal(session.bands[0].codebook.levels, wide)
    optimizer.step()
    optimizer.step()
    assert torch.equal(session.bands[0].codebook.levels, wide)


def test_there_is_nothing_in_the_loss() -> None:
    _, _, session = still(sv.GQ(), 20)
    assert float(session.penalty()) == 0.0


def test_published_settings_are_the_sources() -> None:
    scheme = sv.GQ.published()
    assert scheme.sharpness == (10.0, 400.0) and scheme.start == 0.0
    assert round(scheme.period * 120_000) == 1000
    assert sv.GQ.published(period=5000, start=0.1).period == 5000


class Tagger(nn.Module):
    """Embedding, LSTM and output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.output = nn.Linear(16, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.output(self.lstm(self.embedding(tokens))[0])
        return scores


TOKENS = torch.randint(0, 12, (4, 9), generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.roll(1, 1).flatten())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
@pytest.mark.parametrize("kind", ["mu-law", "mu-law-scaled"])
def test_the_file_decodes_to_the_weights_that_training_finished_with(kind: str, bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    plan = BitPlan.uniform(model, bits=bits, kind=kind)
    session = sv.compress(model, plan, sv.GQ(), optimizer=optimizer, total_steps=40)
    train(model, optimizer, 40)
    session.finish().save(tmp_path / "m.safetensors")
    packed = load_model(tmp_path / "m.safetensors")
    for name, value in model.state_dict().items():
        assert np.array_equal(packed.decode(name), value.numpy()), name
    assert len(model.lstm.weight_hh_l0.detach().unique()) <= 2**bits
    twin = Tagger()
    sv.load(tmp_path / "m.safetensors", into=twin)
    assert torch.equal(twin(TOKENS), model(TOKENS))


def test_training_learns_and_ends_nearer_its_levels_than_plain_training() -> None:
    distance, losses = {}, {}
    for name, scheme in {"gq": sv.GQ(period=0.1), "ptq": sv.PTQ()}.items():
        torch.manual_seed(0)
        model = Tagger()
        start = float(loss_of(model).detach())
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        plan = BitPlan.uniform(model, bits=3, kind="mu-law-scaled")
        session = sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=80)
        train(model, optimizer, 80)
        latent = model.lstm.weight_hh_l0.detach().clone()
        session.finish()
        distance[name] = float((latent - model.lstm.weight_hh_l0.detach()).square().mean())
        losses[name] = float(loss_of(model).detach()) / start
    assert losses["gq"] < 0.5
    assert distance["gq"] < 0.5 * distance["ptq"]


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does() -> None:
    def begin() -> tuple[Tagger, torch.optim.Optimizer, Session]:
        torch.manual_seed(0)
        model = Tagger()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        plan = BitPlan.uniform(model, bits=3, kind="mu-law-scaled")
        scheme = sv.GQ(period=0.15, start=0.1)
        return model, optimizer, sv.compress(model, plan, scheme, optimizer=optimizer, total_steps=20)

    whole, optimizer, session = begin()
    train(whole, optimizer, 20)
    session.finish()
    cut, optimizer, session = begin()
    train(cut, optimizer, 11)
    weights, moments, saved = cut.state_dict(), optimizer.state_dict(), session.state_dict()
    resumed, optimizer, session = begin()
    resumed.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    session.load_state_dict(saved)
    assert [event["step"] for event in session.events] == [3, 6, 9]
    train(resumed, optimizer, 9)
    session.finish()
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"period": 0}, "period"),
        ({"period": 1.0}, "period"),
        ({"period": None}, "period must be given"),
        ({"sharpness": (0.0, 400.0)}, "sharpness"),
        ({"sharpness": (400.0, 50.0)}, "sharpness"),
        ({"sharpness": (50.0, float("inf"))}, "sharpness"),
        ({"sharpness": (50.0,)}, "sharpness"),
        ({"sharpness": 50.0}, "sharpness"),
        ({"sharpness": "50"}, "sharpness"),
        ({"start": 1.5}, "start"),
        ({"start": float("nan")}, "start"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        sv.GQ(**change)  # type: ignore[arg-type]
