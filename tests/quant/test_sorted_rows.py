"""A vocabulary sorted by frequency inside a model that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import FormatError, PlanError
from sottovoce.packed import PackedMatrix, PackedModel


class Net(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 12, padding_idx=3)
        self.middle = nn.Linear(12, 12)
        self.output = nn.Linear(12, 30)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 (N, T) -> (N, T, 30)."""
        return self.output(torch.tanh(self.middle(self.embedding(tokens))))


TOKENS = torch.arange(30).view(2, 15)
ORDER = torch.randperm(30, generator=torch.Generator().manual_seed(5)).tolist()


def net(tied: bool = True, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(tied)


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_computes_what_it_did(tied: bool) -> None:
    model, other = net(tied), net(tied)
    name = sv.sort_rows(other, "embedding.weight", ORDER)
    assert name == "embedding.sorted_weight"
    assert torch.allclose(other(TOKENS), model(TOKENS), atol=1e-6)
    assert torch.equal(other.embedding.weight, model.embedding.weight)
    assert torch.equal(other.embedding.sorted_weight, model.embedding.weight[ORDER])
    for m in (model, other):
        F.cross_entropy(m(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    assert torch.allclose(other.embedding.sorted_weight.grad, model.embedding.weight.grad[ORDER], atol=1e-6)
    assert torch.allclose(other.output.bias.grad, model.output.bias.grad, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_bands_name_frequent_words_and_files_hold_the_models_own_order(tied: bool, tmp_path: Path) -> None:
    model = net(tied)
    name = sv.sort_rows(model, "embedding.weight", ORDER)
    plan = sv.BitPlan.uniform(model, bits=4).split_rows(name, 6, (4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = sv.compress(model, plan, sv.S8BQAT(start=0.2, period=2), optimizer=optimizer, total_steps=6)
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
        optimizer.step()
    path = tmp_path / "model.safetensors"
    session.finish().save(path)
    expected = model(TOKENS).detach()
    own = model.embedding.weight.detach()
    assert len(own[ORDER[6:]].unique()) <= 2 < len(own[ORDER[:6]].unique())

    plain = net(tied, seed=1)
    sv.load(path, into=plain)
    assert torch.equal(plain.embedding.weight, own)
    assert torch.allclose(plain(TOKENS), expected, atol=1e-6)

    looking_up = net(tied, seed=1)
    sv.load(path, into=looking_up, packed=True)
    assert not {"embedding.weight", "middle.weight"} & dict(looking_up.named_parameters()).keys()
    assert torch.equal(looking_up.embedding.weight, own)
    assert torch.allclose(looking_up(TOKENS), expected, atol=1e-6)

    sorted_too = net(tied, seed=1)
    sv.sort_rows(sorted_too, "embedding.weight", range(30))
    sv.load(path, into=sorted_too)
    F.cross_entropy(sorted_too(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    if not tied:  # padding's row has no gradient, wherever the file has put it
        assert sorted_too.embedding.sorted_weight.grad.abs().sum(1).eq(0).nonzero().item() == ORDER.index(3)
    assert torch.equal(sorted_too.embedding.weight, own)
    assert torch.equal(sorted_too(TOKENS), expected)


@pytest.mark.parametrize("options", [{"scale_grad_by_freq": True}, {"sparse": True}])
def test_gradients_are_those_that_the_embedding_asks_for(options: dict[str, bool]) -> None:
    model = nn.Sequential(nn.Embedding(30, 4, padding_idx=3, **options))
    expected = []
    for _ in range(2):
        model[0](torch.tensor([1, 1, 3, 7])).square().sum().backward()
        gradient = next(model.parameters()).grad
        expected.append(gradient.to_dense() if gradient.is_sparse else gradient)
        model.zero_grad()
        if len(expected) == 1:
            sv.sort_rows(model, "0.weight", ORDER)
    assert torch.allclose(expected[1], expected[0][ORDER])


def test_a_weight_that_another_kind_of_layer_reads_too_is_refused() -> None:
    class Scores(nn.Module):
        def __init__(self, weight: nn.Parameter) -> None:
            super().__init__()
            self.table = weight

    model = nn.Sequential(nn.Embedding(30, 4))
    model.append(Scores(model[0].weight))
    with pytest.raises(PlanError, match=r"1: expected nn\.Embedding or nn\.Linear, found Scores"):
        sv.sort_rows(model, "0.weight", ORDER)
    described = sv.describe(model, bits=2)
    assert [(tensor.name, tensor.aliases) for tensor in described.tensors] == [("0.weight", ("1.table",))]


def test_what_does_not_fit_is_refused_and_nothing_sorted(tmp_path: Path) -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(4, 4), "net": net()})
    for name, order, message in (
        ("net.embeding.weight", ORDER, "no weight of this model"),
        ("net.embedding.weight", ORDER[1:], "expected an order of its 30 rows, each once"),
        ("net.embedding.weight", [0] * 30, "expected an order of its 30 rows, each once"),
        ("lstm.weight_ih_l0", range(16), "expected nn.Embedding or nn.Linear, found LSTM"),
    ):
        with pytest.raises(PlanError, match=message):
            sv.sort_rows(model, name, order)
    assert set(model.state_dict()) == {*nn.ModuleDict({"lstm": nn.LSTM(4, 4), "net": net()}).state_dict()}


def test_a_file_with_a_broken_order_is_refused() -> None:
    model = net(False)
    sv.sort_rows(model, "embedding.weight", ORDER)
    packed = sv.compress(model, sv.BitPlan.uniform(model, bits=4), sv.PTQ()).finish()
    assert isinstance(packed.tensors["embedding.sorted_weight"], PackedMatrix)
    for place in (np.zeros(30, np.int32), np.arange(29, dtype=np.int32), np.arange(1, 31, dtype=np.int32)):
        broken = PackedModel({**packed.tensors, "embedding.place": place})
        with pytest.raises(FormatError, match=r"'embedding\.place': expected each of 30 places once"):
            sv.load(broken, into=net(False))
