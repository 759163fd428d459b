"""Architecture search: its gradient by differences, its penalty, its budgets, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from search_models import LanguageModel, Transformer, loss_of, sentences, trained
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import ConfigError, PlanError
from sottovoce.quant import BandSpec
from sottovoce.search import NAS, clusters
from sottovoce.search.nas import _gradients, _Supernet

LEVELS = BandSpec(8, "uniform", "row")


@pytest.mark.parametrize("make", [LanguageModel, Transformer])
def test_the_gradient_of_the_widths_is_exact(make) -> None:
    torch.manual_seed(0)
    model: nn.Module = make().double().eval()
    found = clusters(model, "layer")
    net = _Supernet(model, found, (1, 2, 8), LEVELS, None)
    tokens = sentences(3, 6, vocabulary=20)
    loss = lambda batch: loss_of(model, batch)  # noqa: E731
    mix = torch.rand(len(found), 3).softmax(1)
    slope = _gradients(net, mix, loss, tokens)
    step = 1e-4
    for c in range(len(found)):
        for n in range(3):
            values = []
            for sign in (1, -1):
                moved = mix.clone().double()
                moved[c, n] += sign * step
                with torch.no_grad():
                    net.mix(moved)
                    values.append(float(loss_of(model, tokens)))
            assert float(slope[c, n]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3, abs=1e-6)


def test_mixing_weights_is_mixing_outputs_of_a_linear_map() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    x = torch.randn(5, 6)
    net = _Supernet(layer, clusters(layer), (1, 4), LEVELS, None)
    outputs = []
    for choice in ([1.0, 0.0], [0.0, 1.0]):
        net.mix(torch.tensor([choice]))
        outputs.append(layer(x).detach())
    net.mix(torch.tensor([[0.3, 0.7]]))
    assert torch.allclose(layer(x), 0.3 * outputs[0] + 0.7 * outputs[1], atol=1e-6)


def test_two_stages_want_two_batches() -> None:
    model, batch = trained(), sentences(4)
    with pytest.raises(ConfigError, match="pipelined: expected two batches or more"):
        sv.search_architecture(model, [batch], lambda b: loss_of(model, b), settings=NAS(weights="pipelined"))


@pytest.mark.parametrize("form", ["softmax", "gumbel"])
@pytest.mark.parametrize("weights", ["fixed", "joint", "pipelined"])
def test_it_finds_widths_and_leaves_the_model_as_it_was(form: str, weights: str) -> None:
    model = trained().train()
    model.zero_grad()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batches = [sentences(16, seed=s) for s in range(4)]
    settings = NAS(form=form, weights=weights, steps=30, weight_steps=10, beta=0.02)
    seen: list[tuple[int, int]] = []

    def search() -> sv.SensitivityTable:
        return sv.search_architecture(
            model, batches, lambda b: loss_of(model, b), rows={"output.weight": [6]}, settings=settings,
            progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip

    table = search()
    assert table.metric == "nas" and table.details["form"] == form
    assert np.allclose(np.exp(-table.omega).sum(1), 1.0, atol=1e-5)
    assert seen[-1][0] == seen[-1][1] == 30 + 10 * (weights == "pipelined")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert np.array_equal(table.omega, search().omega)  # the same seed, the same widths
    choice = table.choose(average_bits=2.5)
    assert choice.average_bits <= 2.5 and choice.plan.resolve(model)


@pytest.mark.parametrize("weights", ["fixed", "pipelined"])
def test_frozen_weights_are_searched_alike_and_stay_frozen(tmp_path: Path, weights: str) -> None:
    """In a search that trains none of them; one that does leaves the frozen ones alone."""
    tables, traces = [], []
    for frozen in (False, True):
        model = trained()
        if frozen:
            model.requires_grad_(False)
            model.output.requires_grad_(weights == "pipelined")
        loss = lambda batch, model=model: loss_of(model, batch)  # noqa: E731
        batches = [sentences(16, seed=s) for s in range(2)]
        settings = NAS(weights=weights, steps=20, weight_steps=4)
        tables.append(sv.search_architecture(model, batches, loss, settings=settings, cache=tmp_path / str(frozen)))
        traces.append(sv.sensitivity(model, batches, "hessian", loss=loss, probes=2).omega)
        assert not frozen or [n for n, p in model.named_parameters() if p.requires_grad] == (
            ["output.weight", "output.bias"] if weights == "pipelined" else []
        )
    assert np.allclose(traces[0], traces[1])
    assert weights == "pipelined" or np.allclose(tables[0].omega, tables[1].omega)


def test_a_stronger_penalty_gives_fewer_bits_and_bisection_meets_a_budget() -> None:
    model = trained()
    batches = [sentences(16, seed=s) for s in range(2)]
    loss = lambda batch: loss_of(model, batch)  # noqa: E731

    def average(beta: float) -> float:
        table = sv.search_architecture(model, batches, loss, settings=NAS(beta=beta, steps=60))
        return table.price(table.omega.argmin(1).tolist()).average_bits

    found = [average(beta) for beta in (0.0, 0.3, 30.0)]
    assert found[0] > found[1] > found[2] == 1.0
    for target in (2.0, 4.0):
        table = sv.search_architecture(model, batches, loss, by="gate", settings=NAS(steps=60), average_bits=target)
        assert table.price(table.omega.argmin(1).tolist()).average_bits == pytest.approx(target, abs=0.25)
        assert target - 0.5 < table.choose(average_bits=target).average_bits <= target


def test_an_interrupted_search_goes_on_and_a_finished_one_costs_nothing(tmp_path: Path) -> None:
    model, batch = trained(), sentences(8)
    calls: list[int] = []

    def search(stop: float = float("inf"), scale: float = 1.0, cache: Path | None = tmp_path) -> sv.SensitivityTable:
        calls.clear()

        def loss(tokens: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) > stop:
                raise KeyboardInterrupt
            return loss_of(model, tokens) * scale

        return sv.search_architecture(
            model, [batch], loss, settings=NAS(steps=10), average_bits=3.0, rounds=4, cache=cache
        )

    whole = search(cache=None)
    with pytest.raises(KeyboardInterrupt):
        search(stop=1 + 25)  # one look at the loss, two rounds, and a half
    kept = len(next(tmp_path.glob("nas-*.jsonl")).read_text().splitlines())
    found = search()
    assert kept == 2 and len(calls) == 1 + 20
    assert np.array_equal(found.omega, whole.omega) and found.details == whole.details
    assert np.array_equal(search().omega, whole.omega) and len(calls) == 1
    search(scale=2.0)  # another loss is another search
    assert len(calls) == 1 + 40
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    search()
    assert len(calls) == 1 + 40


def test_it_gives_bits_to_what_matters() -> None:
    # One matrix is not used at all: its bits cost and bring nothing.
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(20, 20), nn.Linear(20, 20)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + 0.0 * self.unused(x)

    torch.manual_seed(0)
    model = Half()
    x = torch.randn(64, 20)
    target = model(x).detach()
    loss = lambda batch: (model(batch) - target).square().mean() * 20  # noqa: E731
    table = sv.search_architecture(model, [x], loss, settings=NAS(steps=150))
    bits = dict(zip([c.name for c in table.clusters], table.omega.argmin(1), strict=True))
    assert bits["unused.weight"] == 0 and bits["used.weight"] >= 1


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"form": "hard"}, "form"),
        ({"weights": "free"}, "weights"),
        ({"beta": -1.0}, "beta"),
        ({"steps": 0}, "steps"),
        ({"weight_steps": 0}, "weight_steps"),
        ({"temperature": (0.1, 1.0)}, "temperature"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"held_out": 1.0}, "held_out"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        NAS(**change)  # type: ignore[arg-type]


def test_inputs_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = trained(steps=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tokens = sentences(2)
    with pytest.raises(ConfigError, match="batch at least"):
        sv.search_architecture(model, [], lambda b: loss_of(model, b))
    with pytest.raises(ConfigError, match="one finite number, found nan"):
        sv.search_architecture(model, [tokens], lambda b: loss_of(model, b) * float("nan"))
    joint = NAS(weights="joint")
    with pytest.raises(ConfigError, match="prototypes are quantized already"):
        sv.search_architecture(model, [tokens], lambda b: loss_of(model, b), settings=joint, prototypes={})
    with pytest.raises(PlanError, match="expected weights at 1 bits"):
        sv.search_architecture(model, [tokens], lambda b: loss_of(model, b), prototypes={})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
