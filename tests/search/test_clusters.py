"""Clusters of a model's weights, and the plans that they become."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_models import LanguageModel, Transformer
from torch import nn

from sottovoce.errors import PlanError
from sottovoce.models import Rnnt
from sottovoce.packed import RnntArchitecture
from sottovoce.quant import BandSpec, find_weights
from sottovoce.search import clusters, plan_of

MID_RISE = BandSpec(8, "uniform", "row")


def rnnt() -> Rnnt:
    sizes = {"features": 6, "vocabulary": 12, "encoder_units": 8, "encoder_layers": 2, "embedding": 4}
    return Rnnt(RnntArchitecture.from_dict({"type": "rnnt", **sizes, "predictor_units": 8, "joiner_units": 8}))


def names(model: nn.Module, by: str) -> list[str]:
    return [cluster.name for cluster in clusters(model, by)]


def test_levels_of_an_lstm_language_model() -> None:
    model = LanguageModel()
    assert names(model, "model") == ["model"]
    assert names(model, "layer") == ["embedding", "lstm.l0", "output"]
    assert names(model, "tensor") == ["embedding.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "output.weight"]
    assert names(model, "gate")[1:5] == [f"lstm.weight_ih_l0[{gate}]" for gate in "ifgo"]
    gates = {c.name: c.parts[0] for c in clusters(model, "gate")}
    assert (gates["lstm.weight_hh_l0[o]"].start, gates["lstm.weight_hh_l0[o]"].stop) == (36, 48)


def test_sublayers_of_transformer_blocks() -> None:
    ours = names(Transformer(), "layer")
    assert ours == [
        "embedding", "blocks.0.attention", "blocks.0.feed_forward", "blocks.1.attention", "blocks.1.feed_forward",
        "output",
    ]  # fmt: skip
    torchs = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    assert names(torchs, "layer") == ["layers.0.self_attn", "layers.0", "layers.1.self_attn", "layers.1"]
    assert "layers.0.self_attn.in_proj_weight[q]" in names(torchs, "gate")
    assert names(nn.GRU(4, 5), "gate")[:3] == [f"weight_ih_l0[{gate}]" for gate in "rzn"]
    assert names(nn.LSTM(4, 5, 2), "layer") == ["l0", "l1"]
    assert names(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), "layer") == ["0", "1"]


def test_an_rnnt_has_its_layers() -> None:
    assert names(rnnt(), "layer") == [
        "encoder.layers.0.l0", "encoder.layers.1.l0", "encoder.projection", "predictor.embedding", "predictor.lstm.l0",
        "predictor.projection", "joiner.output",
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["model", "layer", "tensor", "gate"])
@pytest.mark.parametrize("make", [LanguageModel, Transformer, rnnt])
def test_every_weight_is_in_one_cluster_once(by: str, make) -> None:
    model = make()
    covered = {weight.name: torch.zeros(weight.rows, dtype=torch.int) for weight in find_weights(model)}
    for cluster in clusters(model, by):
        for part in cluster.parts:
            covered[part.weight][part.start : part.stop] += 1
    assert all(bool((count == 1).all()) for count in covered.values())


def test_bands_of_rows_follow_names_and_ties() -> None:
    model = LanguageModel(tied=True)
    found = clusters(model, "tensor", {"output.weight": [10]})
    assert [c.name for c in found][:2] == ["embedding.weight[0:10]", "embedding.weight[10:30]"]
    with pytest.raises(PlanError, match="tied to"):
        clusters(model, "tensor", {"output.weight": [10], "embedding.weight": [5]})
    by_half = clusters(LanguageModel(), lambda name: "lstm" if "lstm" in name else "words", {"output.weight": [10]})
    assert [c.name for c in by_half] == ["words", "lstm", "output.weight[0:10]", "output.weight[10:30]"]


@pytest.mark.parametrize(
    ("by", "rows", "message"),
    [
        ("layers", {}, "clusters must be by"),
        ("tensor", {"outputs.weight": [3]}, "did you mean 'output.weight'"),
        ("tensor", {"output.weight": [0]}, "growing borders between 0 and 30"),
        ("tensor", {"output.weight": [30]}, "growing borders"),
        ("tensor", {"output.weight": [9, 4]}, "growing borders"),
    ],
)
def test_what_does_not_fit_is_refused(by: str, rows: dict[str, list[int]], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        clusters(LanguageModel(), by, rows)
    with pytest.raises(PlanError, match="no weight"):
        clusters(nn.LayerNorm(3))


@given(st.data())
def test_plans_say_what_was_chosen_and_join_what_is_alike(data: st.DataObject) -> None:
    model = LanguageModel()
    by = data.draw(st.sampled_from(["layer", "tensor", "gate"]))
    found = clusters(model, by, {"output.weight": [4, 10]})
    bits = data.draw(st.lists(st.integers(1, 8), min_size=len(found), max_size=len(found)))
    for levels in (MID_RISE, BandSpec(8, "lloyd-max"), BandSpec(8, "uniform", "row", zero=True)):
        plan = plan_of(found, bits, levels)
        by_row = {}
        for band in plan.resolve(model):
            for row in range(band.start, band.stop):
                by_row[band.weight.name, row] = band.spec.bits
        for cluster, width in zip(found, bits, strict=True):
            for part in cluster.parts:
                assert {by_row[part.weight, row] for row in range(part.start, part.stop)} == {width}
    joined = plan_of(found, [2] * len(found), MID_RISE)
    assert all(len(bands) == 1 for bands in joined.weights.values())
    apart = plan_of(found, [2] * len(found), BandSpec(8, "lloyd-max"))
    assert len(apart.weights["output.weight"]) == 3
