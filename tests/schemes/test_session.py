"""The session beside ordinary loops: what the forward sees, what the optimizer moves, what the file decodes to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import ConfigError, PlanError
from sottovoce.packed import load_model
from sottovoce.quant import BitPlan, find_weights
from sottovoce.schemes import Scheme
from sottovoce.schemes.session import Session


class Tagger(nn.Module):
    """A small recurrent net with tied embeddings, layer norm and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, 12, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("seen", torch.zeros(1, dtype=torch.int64))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(self.embedding(tokens).transpose(1, 2)).transpose(1, 2)
        return self.output(self.norm(self.lstm(x)[0]))


@pytest.fixture
def model() -> Tagger:
    torch.manual_seed(0)
    return Tagger()


def batch() -> Tensor:
    return torch.randint(0, 12, (4, 9), generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module) -> Tensor:
    tokens = batch()
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(1, 1).flatten())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, session: Session | None = None) -> None:
    for _ in range(steps):
        loss = loss_of(model)
        if session is not None:
            loss = loss + session.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


SCHEMES = {
    "decoupled": lambda: sv.S8BQAT(strength=2.0, start=0.2),
    "hard": lambda: sv.S8BQAT(strength=2.0, start=0.0, period=7, finish=None, levels_at=0.5),
    "published": lambda: sv.S8BQAT.published(strength=1e-3),
    "calibrated": lambda: sv.S8BQAT.published(calibrate=0.3),
    "finishing": lambda: sv.S8BQAT(finish=0.5, refit=3),
    "straight_through": lambda: sv.StraightThrough(refit=4),
    "gq": lambda: sv.GQ(period=0.1, start=0.2),
    "admm": lambda: sv.ADMM(strength=(10.0, 1000.0), finish=None),
    "admm finishing": lambda: sv.ADMM(strength=(10.0, 1000.0), refit=3),
    "linear": lambda: sv.linear_qat(strength=5.0),
    "ptq": lambda: sv.PTQ(),
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_the_file_decodes_to_the_weights_that_training_finished_with(
    model: Tagger, name: str, bits: int, tmp_path: Path
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    session = sv.compress(
        model, BitPlan.uniform(model, bits=bits), SCHEMES[name](), optimizer=optimizer, total_steps=20
    )
    train(model, optimizer, 20, session)
    session.finish().save(tmp_path / "m.safetensors")
    packed = load_model(tmp_path / "m.safetensors")
    for key, value in model.state_dict().items():
        assert np.array_equal(packed.decode(key), value.float().numpy()), key
    weight = model.lstm.weight_hh_l0
    assert len(weight.detach().unique()) <= 2**bits
    twin = Tagger()
    sv.load(tmp_path / "m.safetensors", into=twin)
    assert torch.equal(twin(batch()), model(batch()))
    assert packed.aliases == {"output.weight": "embedding.weight"}


@pytest.mark.parametrize("name", SCHEMES)
def test_training_still_learns(model: Tagger, name: str) -> None:
    before = float(loss_of(model).detach())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    session = sv.compress(model, BitPlan.uniform(model, bits=4), SCHEMES[name](), optimizer=optimizer, total_steps=60)
    train(model, optimizer, 60, session)
    session.finish()
    assert float(loss_of(model).detach()) < 0.7 * before


def test_without_an_optimizer_finish_rounds_and_packs(model: Tagger) -> None:
    packed = sv.compress(model, BitPlan.uniform(model, bits=3), sv.PTQ()).finish()
    assert len(np.unique(packed.decode("lstm.weight_ih_l0"))) <= 8
    assert torch.equal(model.embedding.weight, model.output.weight)


def test_forward_sees_quantized_weights_and_the_optimizer_moves_latents(model: Tagger) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    session = sv.compress(
        model, BitPlan.uniform(model, bits=2), sv.StraightThrough(refit=None), optimizer=optimizer, total_steps=10
    )
    start = model.lstm.weight_hh_l0.detach().clone()
    train(model, optimizer, 1)  # quantized weights are in place after the first step
    for _ in range(3):
        assert len(model.lstm.weight_hh_l0.detach().unique()) <= 4
        latent = session.latent("lstm.weight_hh_l0")
        assert latent is not None and torch.allclose(latent, start, atol=1e-2) and len(latent.unique()) > 4
        quantized_gradient = torch.autograd.grad(loss_of(model), model.lstm.weight_hh_l0)[0]
        before = latent.clone()
        train(model, optimizer, 1)
        after = session.latent("lstm.weight_hh_l0")
        assert after is not None and torch.allclose(after, before - 1e-4 * quantized_gradient, atol=1e-7)
    session.close()
    assert len(model.lstm.weight_hh_l0.detach().unique()) > 4
    assert session.latent("lstm.weight_hh_l0") is None and session.latent("norm.weight") is None


@pytest.mark.parametrize("positional", [True, False])
def test_a_closure_runs_on_quantized_weights(model: Tagger, positional: bool) -> None:
    twin = Tagger()
    twin.load_state_dict(model.state_dict())
    seen: list[int] = []

    def run(net: Tagger, closures: bool) -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
        session = sv.compress(
            net, BitPlan.uniform(net, bits=2), sv.StraightThrough(), optimizer=optimizer, total_steps=6
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            seen.append(len(net.lstm.weight_hh_l0.detach().unique()))
            loss = loss_of(net)
            loss.backward()
            return loss

        for _ in range(6):
            if closures and positional:
                optimizer.step(closure)  # type: ignore[arg-type]
            elif closures:
                optimizer.step(closure=closure)  # type: ignore[arg-type]
            else:
                closure()
                optimizer.step()
        session.finish()

    run(model, True)
    assert all(count <= 4 for count in seen[1:6])
    run(twin, False)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_optimizer_that_calls_its_closure_often(model: Tagger) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    session = sv.compress(
        model, BitPlan.uniform(model, bits=3), sv.StraightThrough(), optimizer=optimizer, total_steps=4
    )
    counts: list[int] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        counts.append(len(model.lstm.weight_hh_l0.detach().unique()))
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)  # type: ignore[arg-type]
    assert session.step == 3 and max(counts[5:]) <= 8


@pytest.mark.parametrize("fused", [False, True])  # a fused optimizer is called for skipped steps too
def test_skipped_steps_count_for_nothing(model: Tagger, fused: bool) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, fused=fused)
    session = sv.compress(
        model, BitPlan.uniform(model, bits=4), sv.StraightThrough(), optimizer=optimizer, total_steps=6
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for step in range(6):
        optimizer.zero_grad()
        scaler.scale(loss_of(model)).backward()
        if step % 2:
            model.conv.weight.grad[0, 0, 0] = float("inf")  # type: ignore[index]
        scaler.step(optimizer)
        scaler.update()
    assert session.step == 3
    session.finish()
    assert len(model.conv.weight.detach().unique()) <= 16


@pytest.mark.parametrize("steps", [7, 13])
@pytest.mark.parametrize("name", SCHEMES)
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(model: Tagger, name: str, steps: int) -> None:
    twin = Tagger()
    twin.load_state_dict(model.state_dict())
    plan = BitPlan.uniform(model, bits=3)

    def start(net: Tagger) -> tuple[torch.optim.Optimizer, Session]:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        return optimizer, sv.compress(net, plan, SCHEMES[name](), optimizer=optimizer, total_steps=20)

    optimizer, session = start(model)
    train(model, optimizer, 20, session)
    session.finish()

    optimizer, session = start(twin)
    train(twin, optimizer, steps, session)
    saved = session.state_dict()
    weights, moments = twin.state_dict(), optimizer.state_dict()
    resumed = Tagger()
    resumed.load_state_dict(weights)
    optimizer, session = start(resumed)
    optimizer.load_state_dict(moments)
    session.load_state_dict(saved)
    train(resumed, optimizer, 20 - steps, session)
    session.finish()
    for (key, a), b in zip(model.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_state_of_another_plan_is_refused(model: Tagger) -> None:
    saved = sv.compress(model, BitPlan.uniform(model, bits=3, exclude=("conv.weight",)), sv.PTQ()).state_dict()
    with pytest.raises(PlanError, match=r"conv\.weight"):
        sv.compress(model, BitPlan.uniform(model, bits=3), sv.PTQ()).load_state_dict(saved)
    with pytest.raises(PlanError, match='"bits": 3'):
        saved = sv.compress(model, BitPlan.uniform(model, bits=5), sv.PTQ()).state_dict()
        sv.compress(model, BitPlan.uniform(model, bits=3), sv.PTQ()).load_state_dict(saved)


def test_an_optimizer_without_a_planned_weight_or_steps_is_refused(model: Tagger) -> None:
    optimizer = torch.optim.SGD(model.lstm.parameters(), lr=0.1)
    with pytest.raises(PlanError, match=r"embedding\.weight: planned, but not among the optimizer's"):
        sv.compress(model, BitPlan.uniform(model, bits=3), sv.PTQ(), optimizer=optimizer, total_steps=5)
    with pytest.raises(PlanError, match="total_steps"):
        sv.compress(model, BitPlan.uniform(model, bits=3), sv.PTQ(), optimizer=optimizer)


def test_a_band_of_rows_has_bits_of_its_own(model: Tagger, tmp_path: Path) -> None:
    plan = BitPlan.uniform(model, bits=2).split_rows("embedding.weight", 3, (8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    session = sv.compress(model, plan, sv.StraightThrough(), optimizer=optimizer, total_steps=5)
    train(model, optimizer, 5)
    assert set(session.hit_rates()) >= {"embedding.weight[0:3]", "embedding.weight[3:12]"}
    session.finish().save(tmp_path / "m.safetensors")
    matrix = load_model(tmp_path / "m.safetensors").tensors["embedding.weight"]
    assert [(b.start, b.stop, b.bits) for b in matrix.bands] == [(0, 3, 8), (3, 12, 1)]  # type: ignore[union-attr]
    assert len(model.embedding.weight[3:].detach().unique()) == 2


def test_the_hard_compressor_snaps_and_logs_its_hit_rate(model: Tagger) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    session = sv.compress(
        model,
        BitPlan.uniform(model, bits=4),
        sv.S8BQAT(start=0.0, period=4, finish=None),
        optimizer=optimizer,
        total_steps=12,
    )
    train(model, optimizer, 4)
    assert len(model.lstm.weight_hh_l0.detach().unique()) <= 16
    assert session.hit_rates()["lstm.weight_hh_l0"] == 1.0
    train(model, optimizer, 8)
    assert [event["step"] for event in session.events] == [4, 8]
    for event in session.events:
        assert set(event["hit_rate"]) == set(event["clip_rate"]) == {band.name for band in session.bands}
        assert all(0 <= rate <= 1 for rate in event["hit_rate"].values())
        assert all(0 <= rate < 0.2 for rate in event["clip_rate"].values())


def test_optimizer_state_survives_hard_compression(model: Tagger) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    sv.compress(model, BitPlan.uniform(model, bits=4), sv.S8BQAT(period=2), optimizer=optimizer, total_steps=6)
    train(model, optimizer, 4)
    assert all(int(state["step"]) == 4 and state["exp_avg"].abs().sum() > 0 for state in optimizer.state.values())


@pytest.mark.parametrize("strength", [2.0, 50.0])
def test_the_pull_uses_the_groups_learning_rate(model: Tagger, strength: float) -> None:
    frozen, moving = model.lstm.weight_hh_l0, model.lstm.weight_ih_l0
    rest = [p for p in model.parameters() if p is not frozen and p is not moving]
    groups = [{"params": [frozen], "lr": 0.0}, {"params": [moving], "lr": 1e-3}, {"params": rest, "lr": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0)
    scheme = sv.S8BQAT(strength=strength, start=0.0, full=0.0, finish=None)
    session = sv.compress(model, BitPlan.uniform(model, bits=4), scheme, optimizer=optimizer, total_steps=10)
    books = {band.name: band.codebook for band in session.bands}
    expected = {name: getattr(model.lstm, name.split(".")[1]).detach().clone() for name in books if "weight_" in name}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(5):
        optimizer.step()
        books["lstm.weight_ih_l0"].pull_(expected["lstm.weight_ih_l0"], strength * 1e-3)
    books["lstm.weight_hh_l0"].clip_(expected["lstm.weight_hh_l0"])
    assert torch.equal(frozen.detach(), expected["lstm.weight_hh_l0"])  # a rate of zero pulls nothing
    assert torch.equal(moving.detach(), expected["lstm.weight_ih_l0"])


def test_the_pull_follows_the_rate_after_an_optimizers_state_is_loaded(model: Tagger) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    saved = torch.optim.SGD(model.parameters(), lr=5e-4).state_dict()
    session = sv.compress(model, BitPlan.uniform(model, bits=4), sv.S8BQAT(), optimizer=optimizer, total_steps=10)
    optimizer.load_state_dict(saved)
    assert session.rate(session.bands[0]) == 5e-4
    assert sv.compress(model, BitPlan.uniform(model, bits=4), sv.PTQ()).rate(session.bands[0]) == 0.0


@pytest.mark.parametrize("scheme", [sv.StraightThrough(), sv.S8BQAT(), sv.GQ.published(), sv.ADMM()], ids=repr)
def test_weights_that_became_nan_are_told_in_one_line(scheme: Scheme) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=math.nan)
    session = sv.compress(model, BitPlan.uniform(model, bits=2), scheme, optimizer=optimizer, total_steps=4)
    with pytest.raises(ConfigError, match=r"0\.weight: the weights are no numbers any more after step [12]; lower"):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(3, 6)).sum().backward()
            optimizer.step()
        session.finish()


def test_no_file_is_made_of_what_training_has_lost() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = sv.compress(
        model, BitPlan.uniform(model, bits=2), sv.StraightThrough(), optimizer=optimizer, total_steps=4
    )
    with torch.no_grad():
        model[0].weight.fill_(math.inf)
    with pytest.raises(ConfigError, match=r"0\.weight: the weights are no numbers any more"):
        session.finish()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[1].bias.fill_(math.nan)
    with pytest.raises(ConfigError, match=r"1\.bias: cannot be packed: it holds nan"):
        sv.compress(model, BitPlan.uniform(model, bits=2), sv.PTQ()).finish()


def test_weights_that_cannot_be_worked_on_are_refused() -> None:
    half = nn.Linear(4, 4).bfloat16()
    with pytest.raises(PlanError, match=r"weight: expected float32 master weights, found torch\.bfloat16"):
        sv.compress(half, BitPlan.uniform(half, bits=4), sv.PTQ())
    image = nn.Sequential(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with pytest.raises(PlanError, match=r"0\.weight: expected contiguous memory"):
        sv.compress(image, BitPlan.uniform(image, bits=4), sv.PTQ())
    lost = nn.Linear(4, 4)
    with torch.no_grad():
        lost.weight[1, 2] = math.inf
    with pytest.raises(PlanError, match="weight: expected finite weights, found nan or inf"):
        sv.compress(lost, BitPlan.uniform(lost, bits=4), sv.PTQ())
    with pytest.raises(PlanError, match="names no weight"):
        sv.compress(nn.Linear(2, 2), BitPlan({}), sv.PTQ())


def test_masks_of_booleans_are_stored_and_come_back(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    model.register_buffer("mask", torch.tensor([True, False]))
    sv.compress(model, BitPlan.uniform(model, bits=4), sv.PTQ()).finish().save(tmp_path / "m.safetensors")
    twin = nn.Linear(4, 4)
    twin.register_buffer("mask", torch.tensor([False, False]))
    sv.load(tmp_path / "m.safetensors", into=twin)
    assert twin.mask.tolist() == [True, False]


def test_every_weight_of_the_model_is_found_once(model: Tagger) -> None:
    found = {w.name: w for w in find_weights(model)}
    assert set(found) == {"embedding.weight", "conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0"}
    assert found["embedding.weight"].aliases == ("output.weight",)


def test_floats_that_half_precision_cannot_hold_stay_single(model: Tagger) -> None:
    with torch.no_grad():
        model.norm.bias.fill_(1e6)
        model.norm.weight.fill_(1.0 + 2**-12)
    packed = sv.compress(model, BitPlan.uniform(model, bits=4), sv.PTQ()).finish()
    assert packed.tensors["norm.bias"].dtype == np.float32  # type: ignore[union-attr]
    assert packed.tensors["norm.weight"].dtype == np.float16  # type: ignore[union-attr]
    assert model.norm.weight[0].item() == 1.0  # the model computes with what was stored
    kept = sv.compress(model, BitPlan.uniform(model, bits=4), sv.PTQ()).finish(float_dtype="float32")
    assert kept.tensors["conv.bias"].dtype == np.float32  # type: ignore[union-attr]
    assert kept.tensors["seen"].dtype == np.int64  # type: ignore[union-attr]


class Everything(nn.Module):
    """Each kind of module that compression finds by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, 4, 3, padding=1)
        self.gru = nn.GRU(16, 6, 2, bidirectional=True, batch_first=True)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.lstm = nn.LSTM(12, 8, bidirectional=True, proj_size=3, batch_first=True)
        self.cell = nn.LSTMCell(6, 5)
        self.output = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.image(x[:, None]).permute(0, 2, 1, 3).flatten(2)  # (N, T, 4 * F)
        x = self.gru(x)[0]
        x = self.attention(x, x, x)[0]
        x = self.lstm(x)[0]
        return self.output(self.cell(x[:, -1])[0])


@pytest.mark.parametrize("grouping", ["tensor", "gate", "row"])
def test_every_kind_of_module_trains_packs_and_loads(grouping: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Everything()
    plan = BitPlan.uniform(model, bits=3, grouping=grouping)
    assert len(plan.weights) == 1 + 8 + 2 + 6 + 2 + 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    session = sv.compress(model, plan, sv.S8BQAT(), optimizer=optimizer, total_steps=8)
    x = torch.randn(3, 7, 4)
    for _ in range(8):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    session.finish().save(tmp_path / "m.safetensors")
    twin = Everything()
    sv.load(tmp_path / "m.safetensors", into=twin)
    assert torch.equal(twin(x), model(x))
    groups = {"tensor": 1, "gate": 3, "row": 18}[grouping]
    matrix = load_model(tmp_path / "m.safetensors").tensors["gru.weight_hh_l0"]
    assert len(matrix.bands[0].scale) == groups  # type: ignore[union-attr]
