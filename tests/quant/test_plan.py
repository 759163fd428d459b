"""Plans: patterns, bands, JSON, and the model they are laid on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sottovoce.errors import PlanError
from sottovoce.quant import BandSpec, BitPlan, find_weights
from sottovoce.quant.spec import GROUPINGS, KINDS


def net() -> nn.Module:
    tied = nn.Linear(6, 10, bias=False)
    embedding = nn.Embedding(10, 6)
    tied.weight = embedding.weight
    return nn.ModuleDict({"embedding": embedding, "lstm": nn.LSTM(6, 5), "head": nn.Linear(5, 6), "tied": tied})


def test_every_kind_of_module_is_found() -> None:
    model = nn.ModuleDict(
        {
            "lstm": nn.LSTM(4, 8, 2, bidirectional=True, proj_size=3),
            "gru": nn.GRU(4, 6),
            "rnn": nn.RNN(4, 6),
            "lstm_cell": nn.LSTMCell(4, 6),
            "gru_cell": nn.GRUCell(4, 6),
            "rnn_cell": nn.RNNCell(4, 6),
            "linear": nn.Linear(4, 6),
            "embedding": nn.Embedding(4, 6),
            "conv1": nn.Conv1d(4, 6, 3),
            "conv2": nn.Conv2d(4, 6, 3),
            "attention": nn.MultiheadAttention(8, 2),
            "mixed": nn.MultiheadAttention(8, 2, kdim=4, vdim=5),
            "norm": nn.LayerNorm(4),
        }
    )
    gates = {w.name: w.gates for w in find_weights(model)}
    assert sum(n.startswith("lstm.") for n in gates) == 12
    assert gates["lstm.weight_hr_l1_reverse"] == 1 and gates["lstm.weight_ih_l0_reverse"] == 4
    assert gates["gru.weight_hh_l0"] == 3 and gates["rnn.weight_hh_l0"] == 1
    assert gates["lstm_cell.weight_ih"] == 4 and gates["gru_cell.weight_hh"] == 3 and gates["rnn_cell.weight_hh"] == 1
    assert gates["attention.in_proj_weight"] == 3 and gates["mixed.k_proj_weight"] == 1
    assert gates["attention.out_proj.weight"] == 1
    assert {"conv1.weight", "conv2.weight", "linear.weight", "embedding.weight"} <= set(gates)
    assert not any("norm" in n or "bias" in n for n in gates)
    shapes = {w.name: (w.rows, w.columns) for w in find_weights(model)}
    assert shapes["conv2.weight"] == (6, 36)


def test_subclasses_count_and_other_modules_do_not() -> None:
    class Mine(nn.Linear):
        pass

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(nn.Linear(3, 3).weight.detach())

    assert [w.name for w in find_weights(Mine(2, 2))] == ["weight"]
    assert find_weights(Bare()) == []
    with pytest.raises(PlanError, match="no weight"):
        BitPlan.uniform(Bare(), bits=4)


def test_uniform_overrides_and_skips() -> None:
    model = net()
    plan = BitPlan.uniform(model, bits=5, overrides={"lstm.*": 8, "lstm.weight_hh_*": 4}, exclude=("head.*",))
    bits = {name: spec.bits for name, (spec,) in plan.weights.items()}
    assert bits == {"embedding.weight": 5, "lstm.weight_ih_l0": 8, "lstm.weight_hh_l0": 4}
    assert plan.weights["lstm.weight_ih_l0"][0].kind == "uniform"  # at 8 bits, evenly spaced levels cost nothing
    assert plan.weights["embedding.weight"][0].kind == "lloyd-max"
    assert plan.average_bits(model) == pytest.approx((60 * 5 + 120 * 8 + 100 * 4) / 280)


def test_patterns_that_match_nothing_are_errors_with_a_hint() -> None:
    with pytest.raises(PlanError, match=r"pattern 'hea\.weight' matches no weight; did you mean 'head\.weight'"):
        BitPlan.uniform(net(), bits=5, exclude=("hea.weight",))
    with pytest.raises(PlanError, match="matches no weight"):
        BitPlan.uniform(net(), bits=5, overrides={"zzz": 4})


def test_names_must_be_the_models_and_tied_weights_named_once() -> None:
    model = net()
    with pytest.raises(PlanError, match=r"no weight of this model; did you mean 'head\.weight'"):
        BitPlan({"head.weigth": (BandSpec(4),)}).resolve(model)
    both = BitPlan({"embedding.weight": (BandSpec(4),), "tied.weight": (BandSpec(4),)})
    with pytest.raises(PlanError, match=r"tied to 'embedding\.weight'"):
        both.resolve(model)
    assert BitPlan({"tied.weight": (BandSpec(4),)}).resolve(model)[0].weight.name == "embedding.weight"


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((BandSpec(4, stop=4),), "all 10 rows, found 4"),
        ((BandSpec(4, start=2),), "found 2 to 10 after row 0"),
        ((BandSpec(4, stop=6), BandSpec(2, start=5)), "found 5 to 10 after row 6"),
        ((BandSpec(4, stop=11),), "found 0 to 11"),
        ((BandSpec(4, stop=5, grouping="gate"), BandSpec(2, start=5)), "whole weight in one band"),
    ],
)
def test_bands_must_tile_the_rows(bands: tuple[BandSpec, ...], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        BitPlan({"embedding.weight": bands}).resolve(net())


def test_split_rows() -> None:
    plan = BitPlan.uniform(net(), bits=2).split_rows("embedding.weight", 4, (8, 1))
    assert [(b.start, b.stop, b.spec.bits) for b in plan.resolve(net())][:2] == [(0, 4, 8), (4, 10, 1)]
    with pytest.raises(PlanError, match="one band"):
        plan.split_rows("embedding.weight", 2, (4, 4))
    with pytest.raises(PlanError, match="one band"):
        plan.split_rows("nothing", 2, (4, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 0}, "1 to 8"),
        ({"bits": 9}, "1 to 8"),
        ({"bits": True}, "1 to 8"),
        ({"bits": 4, "kind": "magic"}, "kind"),
        ({"bits": 4, "grouping": "column"}, "grouping"),
        ({"bits": 4, "scale_dtype": "float64"}, "scale_dtype"),
        ({"bits": 4, "start": 3, "stop": 3}, "rows"),
        ({"bits": 4, "start": -1}, "rows"),
        ({"bits": 4, "kind": "regions", "grouping": "row"}, "one scale"),
        ({"bits": 4, "kind": "linear", "zero": False}, "always has a zero"),
        ({"bits": 1, "zero": True}, "one bit"),
        ({"bits": 1, "kind": "linear"}, "one bit"),
        ({"bits": 8, "kind": "uniform", "zero": False}, "7 bits"),
    ],
)
def test_specs_that_do_not_go_together_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        BandSpec(**change)  # type: ignore[arg-type]


@st.composite
def specs(draw: st.DrawFn) -> BandSpec:
    values = {
        "bits": draw(st.integers(1, 8)),
        "kind": draw(st.sampled_from(KINDS)),
        "grouping": draw(st.sampled_from(GROUPINGS)),
        "zero": draw(st.sampled_from([None, True, False])),
        "scale_dtype": draw(st.sampled_from(["float16", "float32"])),
        "start": draw(st.integers(0, 5)),
        "stop": draw(st.sampled_from([None, 9])),
    }
    try:
        return BandSpec(**values)  # type: ignore[arg-type]
    except PlanError:
        return BandSpec(4)


@given(
    st.dictionaries(st.text(min_size=1, max_size=12), st.lists(specs(), min_size=1, max_size=3).map(tuple), max_size=4)
)
def test_json_round_trip(weights: dict[str, tuple[BandSpec, ...]]) -> None:
    plan = BitPlan(weights)
    assert BitPlan.from_json(plan.to_json()).weights == plan.weights


def test_files_round_trip_and_bad_ones_name_themselves(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan = BitPlan.uniform(net(), bits=5)
    plan.save(path)
    assert BitPlan.load(path).weights == plan.weights
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    with pytest.raises(PlanError, match=r"none\.json: cannot read"):
        BitPlan.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        ('{"version": 1}', "expected a JSON object"),
        ('{"version": 1, "weights": {"a": 3}}', "expected a JSON object"),
        ('{"version": 2, "weights": {}}', "expected plan version 1, found 2"),
        ('{"version": 1, "weights": {"a": [{"bits": 4, "colour": 1}]}}', "p: a: .*colour"),
        ('{"version": 1, "weights": {"a": [{"bits": 99}]}}', "p: a: bits must be"),
    ],
)
def test_broken_plans_are_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        BitPlan.from_json(text, "p")
