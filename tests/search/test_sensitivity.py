"""KL and Hessian sensitivities against what they are defined to be, and the table that holds them."""

from __future__ import annotations

import json
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from search_models import LanguageModel, Transformer, loss_of, sentences, trained
from torch import Tensor, nn
from torch.func import functional_call

import sottovoce as sv
from sottovoce.errors import ConfigError, PlanError
from sottovoce.packed import file_sizes
from sottovoce.quant import BandSpec, BitPlan
from sottovoce.search import SensitivityTable, clusters
from sottovoce.search.hessian import _draw, trace_samples
from sottovoce.search.rounding import Weights

ROWS = {"output.weight": [6], "embedding.weight": [6]}


def ptq(model: nn.Module, plan: BitPlan) -> nn.Module:
    """The model with its weights rounded as the packed file would have them."""
    twin = LanguageModel(model.output.out_features, model.lstm.hidden_size)  # type: ignore[union-attr,arg-type]
    twin.load_state_dict(model.state_dict())
    sv.compress(twin, plan, sv.PTQ()).finish(float_dtype="float32")
    return twin


@torch.no_grad()
def kl(p: Tensor, q: Tensor) -> float:
    """Mean KL over positions, in float64."""
    log_p, log_q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def test_kl_is_the_divergence_of_a_model_with_one_cluster_packed() -> None:
    model = trained().train()
    tokens = sentences(6)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen = []
    table = sv.sensitivity(
        model, [tokens[:3], tokens[3:]], bits=(1, 2, 8), by="gate", rows=ROWS,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert table.omega.shape == (12, 3) and table.metric == "kl"
    for i, cluster in enumerate(table.clusters):
        for j, bits in enumerate(table.bits):
            whole = {part.weight: [part] for part in cluster.parts}
            twin = LanguageModel()
            twin.load_state_dict(model.state_dict())
            plan = BitPlan.uniform(twin, bits, kind="uniform", grouping="row")
            sv.compress(twin, plan, sv.PTQ()).finish(float_dtype="float32")
            state = {key: value.clone() for key, value in model.state_dict().items()}
            for name, (part,) in whole.items():  # scales by row: rows round the same alone and together
                state[name][part.start : part.stop] = twin.state_dict()[name][part.start : part.stop]
            expected = kl(model(tokens), functional_call(model, state, (tokens,)))
            assert table.omega[i, j] == pytest.approx(expected, rel=1e-3, abs=2e-7)
    assert seen[-1] == (36, 36) and model.training and model.lstm.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_of_positions_observed_words_and_other_outputs() -> None:
    model, tokens = trained(), sentences(4)
    weights = torch.rand(4, 13)
    table = sv.sensitivity(model, [tokens], bits=(2,), by="model", position_weights=lambda batch: weights)
    twin = ptq(model, BitPlan.uniform(model, 2, kind="uniform", grouping="row"))
    with torch.no_grad():
        log_p, log_q = model(tokens).log_softmax(-1), twin(tokens).log_softmax(-1)
    each = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert table.omega[0, 0] == pytest.approx(float((each * weights).sum() / weights.sum()), rel=1e-3)
    words = tokens.roll(-1, 1)
    form = sv.sensitivity(model, [tokens], bits=(2,), by="model", observed=lambda batch: words)
    at = words[..., None]
    p, q = log_p.gather(-1, at), log_q.gather(-1, at)
    assert form.omega[0, 0] == pytest.approx(max(float((p.exp() * (p - q)).mean()), 0.0), rel=1e-3, abs=1e-7)
    assert form.details["form"] == "observed" and table.details["form"] == "full"
    given = sv.sensitivity(model, [tokens], bits=(2,), by="model", logits=lambda batch: model(batch)[:, -1])
    assert given.omega[0, 0] == pytest.approx(float(each[:, -1].mean()), rel=1e-3)


def test_prototypes_take_the_place_of_rounding() -> None:
    model, tokens = trained(), sentences(4)
    prototypes = {}
    for bits in (1, 4):
        twin = ptq(model, BitPlan.uniform(model, bits, kind="uniform", grouping="row"))
        prototypes[bits] = dict(twin.state_dict())
    direct = sv.sensitivity(model, [tokens], bits=(1, 4))
    given = sv.sensitivity(model, [tokens], bits=(1, 4), prototypes=prototypes)
    assert np.allclose(direct.omega, given.omega, rtol=1e-4)
    drifted = {bits: {k: v + 0.01 for k, v in state.items()} for bits, state in prototypes.items()}
    loss = lambda batch: loss_of(model, batch)  # noqa: E731
    options = {"metric": "hessian", "bits": (1, 4), "loss": loss, "probes": 2, "prototypes": drifted}
    by_rounding = sv.sensitivity(model, [tokens], **options, perturbation="rounding")  # type: ignore[arg-type]
    by_prototype = sv.sensitivity(model, [tokens], **options)  # type: ignore[arg-type]
    plain = sv.sensitivity(model, [tokens], **{**options, "prototypes": None})  # type: ignore[arg-type]
    assert np.allclose(by_rounding.omega, plain.omega) and not np.allclose(by_prototype.omega, plain.omega)
    with pytest.raises(PlanError, match="expected weights at 2 bits"):
        sv.sensitivity(model, [tokens], bits=(1, 2), prototypes=prototypes)
    with pytest.raises(PlanError, match=r"embedding\.weight of shape"):
        sv.sensitivity(model, [tokens], bits=(1,), prototypes={1: {}})


def explicit_hessian(model: nn.Module, tokens: Tensor) -> dict[tuple[str, str], Tensor]:
    """Blocks of the Hessian of the mean loss by parameter, each (n, m), through forward and reverse mode."""
    state = {name: p.detach() for name, p in model.named_parameters()}

    def value(parameters: dict[str, Tensor]) -> Tensor:
        logits = functional_call(model, parameters, (tokens[:, :-1],))
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    blocks = torch.func.jacrev(torch.func.grad(value))(state)
    return {
        (a, b): blocks[a][b].reshape(state[a].numel(), state[b].numel()) for a in state for b in state
    }  # fmt: skip


@pytest.mark.parametrize("products", ["block", "joint"])
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_products_against_an_explicit_hessian(kind: str, distribution: str, products: str) -> None:
    torch.manual_seed(0)
    model = (LanguageModel(9, 4) if kind == "lstm" else Transformer()).double()
    tokens = sentences(3, 5, vocabulary=9)
    with (
        torch.backends.mkldnn.flags(enabled=False),
        torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]),
    ):
        blocks = explicit_hessian(model, tokens)
    rows = {"output.weight": [4]} if kind == "lstm" else {}
    found = clusters(model, "gate" if kind == "lstm" else "layer", rows)
    weights = Weights(model)
    samples = trace_samples(
        weights, found, [tokens], lambda batch: loss_of(model, batch), probes=3, distribution=distribution,
        products=products, seed=5,
    )  # fmt: skip
    parameters = list({id(weights[p].parameter): weights[p].parameter for c in found for p in c.parts}.values())
    names = {id(p): name for name, p in model.named_parameters()}
    for probe in range(3):
        draws = _draw(parameters, distribution, 5, probe)
        for c, cluster in enumerate(found):
            own = {}
            for part in cluster.parts:
                z = own.setdefault(id(weights[part].parameter), torch.zeros_like(draws[id(weights[part].parameter)]))
                weights.rows(part, z).copy_(weights.rows(part, draws[id(weights[part].parameter)]))
            other = own if products == "block" else draws
            expected = sum(
                float(z.flatten() @ blocks[names[a], names[b]] @ w.flatten())
                for a, z in own.items()
                for b, w in other.items()
            )
            assert samples[c][probe] == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_the_estimate_is_the_trace() -> None:
    torch.manual_seed(1)
    model = LanguageModel(9, 4).double()
    tokens = sentences(4, 6, vocabulary=9)
    with torch.backends.mkldnn.flags(enabled=False):
        blocks = explicit_hessian(model, tokens)
    loss = lambda batch: loss_of(model, batch)  # noqa: E731
    table = sv.sensitivity(model, [tokens], "hessian", (2, 4), loss=loss, probes=400, normalize=False)
    means, errors = table.details["trace"], table.details["standard_error"]
    for cluster, mean, error in zip(table.clusters, means, errors, strict=True):
        truth = float(blocks[cluster.name, cluster.name].trace())
        assert abs(mean - truth) < 4 * error and error < 0.2 * abs(truth) + 1e-3
    whole, mean_trace = (
        sv.sensitivity(model, [tokens], "hessian", (2, 4), loss=loss, probes=4, normalize=normalize)
        for normalize in (False, True)
    )
    assert np.allclose(mean_trace.omega * whole.weights[:, None], whole.omega)
    rounded = ptq(model.float(), BitPlan.uniform(model, 2, kind="uniform", grouping="row"))
    for i, cluster in enumerate(table.clusters):
        distance = (rounded.state_dict()[cluster.name] - model.state_dict()[cluster.name]).square().sum()
        assert table.omega[i, 0] == pytest.approx(max(means[i], 0.0) * float(distance), rel=1e-4)


def test_batches_are_averaged_and_negative_traces_count_as_zero() -> None:
    model, tokens = trained(), sentences(8)
    loss = lambda batch: loss_of(model, batch)  # noqa: E731
    whole = sv.sensitivity(model, [tokens], "hessian", (2,), loss=loss, probes=2)
    halves = sv.sensitivity(model, [tokens[:4], tokens[4:]], "hessian", (2,), loss=loss, probes=2)
    assert np.allclose(whole.details["trace"], halves.details["trace"], rtol=1e-3)
    negative = sv.sensitivity(model, [tokens], "hessian", (2,), loss=lambda b: -loss(b), probes=2)
    assert np.allclose(negative.details["trace"], [-t for t in whole.details["trace"]], rtol=1e-4)
    assert (negative.omega >= 0).all() and (negative.omega == 0).any()
    alone = sv.sensitivity(model, [tokens], "hessian", (2,), loss=loss, probes=1)
    assert set(alone.details["standard_error"]) == {None}  # one probe tells nothing of its error
    assert json.loads(alone.to_json(), parse_constant=pytest.fail)


def test_an_interrupted_search_goes_on_and_other_content_starts_anew(tmp_path: Path) -> None:
    model, tokens = trained(), sentences(4)
    calls = []

    def logits(batch: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return model(batch)

    with pytest.raises(KeyboardInterrupt):
        sv.sensitivity(model, [tokens], logits=logits, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-9])  # killed while it wrote a line
    before = len(calls)
    table = sv.sensitivity(model, [tokens], logits=logits, cache=tmp_path)
    assert len(calls) - before == 1 + 16 - 3  # the reference, and what was not found yet
    assert np.array_equal(table.omega, sv.sensitivity(model, [tokens]).omega)
    before = len(calls)
    sv.sensitivity(model, [tokens], logits=logits, cache=tmp_path, bits=(2, 4))
    assert len(calls) - before == 1
    for change in ({"batches": [tokens[:3]]}, {"levels": BandSpec(8, "lloyd-max")}, {"by": "layer"}):
        sv.sensitivity(**{"model": model, "batches": [tokens], "bits": (2,), "cache": tmp_path, **change})  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 4
    with torch.no_grad():
        model.output.bias[0] += 1.0
    sv.sensitivity(model, [tokens], bits=(2,), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5

    probes = []

    def loss(batch: Tensor) -> Tensor:
        probes.append(1)
        return loss_of(model, batch)

    few = sv.sensitivity(model, [tokens], "hessian", (2,), loss=loss, probes=2, cache=tmp_path)
    more = sv.sensitivity(model, [tokens], "hessian", (2,), loss=loss, probes=3, cache=tmp_path)
    again = sv.sensitivity(model, [tokens], "hessian", (2,), loss=loss, probes=2, cache=tmp_path)
    assert len(probes) == 2 + 3 and np.array_equal(few.omega, again.omega) and not np.array_equal(few.omega, more.omega)


def test_only_the_warning_of_absent_hardware_is_kept_back() -> None:
    def loss(batch: Tensor) -> Tensor:
        warnings.warn("from the loss", stacklevel=1)
        return loss_of(model, batch)

    model = trained(steps=1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        sv.sensitivity(model, [sentences(2)], "hessian", (2,), loss=loss, probes=1)
    assert {str(warning.message) for warning in found} == {"from the loss"}


def test_what_was_found_for_other_functions_is_not_taken(tmp_path: Path) -> None:
    model, tokens = trained(), sentences(4)

    def agree(metric: str, **functions: Any) -> None:
        cached = sv.sensitivity(model, [tokens], metric, (2,), probes=2, cache=tmp_path, **functions)
        assert np.array_equal(cached.omega, sv.sensitivity(model, [tokens], metric, (2,), probes=2, **functions).omega)

    ids = tokens.flatten()
    for scale in (1.0, 100.0, -1.0):
        agree("hessian", loss=lambda batch, scale=scale: scale * loss_of(model, batch))
        agree("kl", logits=lambda batch, scale=scale: scale * model(batch))
    agree("kl", position_weights=lambda batch: (torch.arange(batch.numel()) % 3).float())
    agree("kl", observed=lambda batch: ids)
    agree("kl", observed=lambda batch: ids.flip(0))
    assert len(list(tmp_path.iterdir())) == 9


def test_the_table_saves_loads_prints_and_draws(tmp_path: Path) -> None:
    from rich.console import Console

    model = trained()
    table = sv.sensitivity(model, [sentences(4)], rows=ROWS, by="gate")
    table.save(tmp_path / "t.json")
    loaded = SensitivityTable.load(tmp_path / "t.json")
    assert np.array_equal(loaded.omega, table.omega) and loaded.clusters == table.clusters
    assert loaded.levels == table.levels and loaded.fixed_bytes == table.fixed_bytes and loaded.bits == table.bits
    assert loaded.allocate(average_bits=2.5) == table.allocate(average_bits=2.5)
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(table)
    text = console.export_text()
    for shown in (text, str(table)):
        assert "output.weight[0:6]" in shown and "lstm.weight_hh_l0[i]" in shown
    pytest.importorskip("matplotlib")
    table.plot(tmp_path / "t.png")
    assert (tmp_path / "t.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match="cannot be written"):
        table.plot(tmp_path / "nowhere" / "t.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read the table"),
        ("[1]", "expected a sensitivity table of version 1, found None"),
        ('{"version": 2}', "version 1, found 2"),
        ('{"version": 1}', "expected a sensitivity table"),
    ],
)
def test_broken_tables_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(PlanError, match=message):
        SensitivityTable.load(tmp_path / "t.json")
    with pytest.raises(PlanError, match=r"none\.json: cannot read"):
        SensitivityTable.load(tmp_path / "none.json")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("by", ["layer", "gate"])
def test_the_predicted_size_is_that_of_the_file(by: str, tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LanguageModel(200, 24, tied)
    table = sv.sensitivity(model, [sentences(2)], by=by, rows={"output.weight": [20]}, bits=(1, 2, 3, 8))
    rng = np.random.default_rng(0)
    for trial in range(6):
        options = rng.integers(0, 4, len(table.clusters)).tolist() if trial else [1] * len(table.clusters)
        choice = table.price(options)
        twin = LanguageModel(200, 24, tied)
        twin.load_state_dict(model.state_dict())
        sv.compress(twin, choice.plan, sv.PTQ()).finish().save(tmp_path / "m.safetensors")
        size = file_sizes(tmp_path / "m.safetensors")
        bands = sum(len(cluster.parts) for cluster in table.clusters)
        joined = bands - sum(len(found) for found in choice.plan.weights.values())
        assert size.model_bytes <= choice.model_bytes <= size.model_bytes + 64 + 64 * joined
        assert choice.average_bits == pytest.approx(choice.plan.average_bits(twin))
        assert size.fp32_bytes == 4 * table.parameters
    least = table.price([0] * len(table.clusters)).model_bytes
    assert table.choose(max_bytes=least).bits == (1,) * len(table.clusters)
    plan = table.allocate(max_bytes=choice.model_bytes)
    sv.compress(twin, plan, sv.PTQ()).finish().save(tmp_path / "m.safetensors")
    assert file_sizes(tmp_path / "m.safetensors").model_bytes <= choice.model_bytes


def test_budgets_are_kept_and_what_cannot_be_kept_says_the_least_that_can() -> None:
    table = sv.sensitivity(trained(), [sentences(4)], rows=ROWS, by="gate")
    for average in (1.0, 1.7, 2.5, 8.0):
        choice = table.choose(average_bits=average)
        assert choice.average_bits <= average + 1e-9
    assert table.choose(average_bits=2.0, min_bits=2).bits == (2,) * len(table.clusters)
    assert all(bits == 8 or omega[3] >= omega.min() for bits, omega in zip(choice.bits, table.omega, strict=True))
    both = table.choose(average_bits=3.0, max_bytes=table.choose(average_bits=2.0).model_bytes)
    assert both.average_bits <= 3.0 and both.model_bytes <= table.choose(average_bits=2.0).model_bytes
    least = table.choose(max_bytes=10**9)
    assert least.omega == pytest.approx(table.omega.min(1).sum())
    with pytest.raises(PlanError, match=r"max_bytes: at least [\d,]+ are needed, with 1 bits .*; found 100"):
        table.allocate(max_bytes=100)
    with pytest.raises(PlanError, match=r"average_bits: at least 1 are needed, and no infinity; found 0\.5"):
        table.allocate(average_bits=0.5)
    with pytest.raises(PlanError, match="found inf"):
        table.allocate(average_bits=float("inf"))
    with pytest.raises(PlanError, match="average_bits: at least 4 are needed"):
        table.allocate(average_bits=3.9, min_bits=3)
    with pytest.raises(PlanError, match="a budget is needed"):
        table.allocate()
    with pytest.raises(PlanError, match="average_bits"):
        table.allocate(average_bits=math.nan)
    front = table.pareto("bits")
    assert front[0].average_bits == 1.0 and all(b.omega < a.omega for a, b in pairwise(front))


def test_inputs_that_do_not_fit_are_one_line() -> None:
    model, tokens = trained(steps=1), sentences(2)
    loss = lambda batch: loss_of(model, batch)  # noqa: E731
    wrong: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"metric": "trace"}, ConfigError, "metric must be one of kl, hessian"),
        ({"batches": []}, ConfigError, "wants a batch"),
        ({"bits": (0, 2)}, PlanError, "bits must be"),
        ({"bits": ()}, PlanError, "one width at least"),
        ({"metric": "hessian"}, ConfigError, "give loss="),
        ({"metric": "hessian", "loss": loss, "distribution": "cauchy"}, ConfigError, "distribution"),
        ({"metric": "hessian", "loss": lambda b: loss(b) * math.nan}, ConfigError, "one finite number, found nan"),
        ({"metric": "hessian", "loss": model}, ConfigError, "one finite number, found shape"),
        ({"logits": lambda b: (model(b),)}, ConfigError, "expected a tensor"),
        ({"logits": lambda b: model(b) * math.nan}, ConfigError, "finite numbers"),
        ({"position_weights": lambda b: torch.ones(3)}, ConfigError, "expected 26 position weights"),
        ({"levels": BandSpec(8, "uniform", "gate"), "rows": ROWS}, PlanError, "per gate want the whole weight"),
    ]
    for change, kind, message in wrong:
        arguments: dict[str, object] = {"model": model, "batches": [tokens], **change}
        with pytest.raises(kind, match=message) as error:
            sv.sensitivity(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
