"""What the search is for: at equal bytes, bits chosen by sensitivity lose less than the same bits everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from search_models import LanguageModel, loss_of, sentences, trained
from torch.nn import functional as F

import sottovoce as sv
from sottovoce.packed import file_sizes
from sottovoce.quant import BitPlan

pytestmark = pytest.mark.slow
VOCABULARY, WIDTH = 1000, 48


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """A language model over a vocabulary whose first words are most of the text."""
    return trained(VOCABULARY, WIDTH, steps=200)


def loss_and_bytes(model: LanguageModel, plan: BitPlan, path: Path) -> tuple[float, int]:
    """Loss on unseen text, and bytes, of the packed file."""
    twin = LanguageModel(VOCABULARY, WIDTH)
    twin.load_state_dict(model.state_dict())
    sv.compress(twin, plan, sv.PTQ()).finish().save(path)
    loaded = LanguageModel(VOCABULARY, WIDTH)
    sv.load(path, into=loaded)
    with torch.no_grad():
        return float(loss_of(loaded, sentences(400, vocabulary=VOCABULARY, seed=7))), file_sizes(path).model_bytes


@pytest.mark.parametrize("metric", ["kl", "hessian"])
def test_allocated_bits_beat_uniform_ones_at_equal_bytes(model: LanguageModel, metric: str, tmp_path: Path) -> None:
    batch = sentences(32, vocabulary=VOCABULARY, seed=3)
    table = sv.sensitivity(
        model, [batch], metric, by="tensor", rows={"output.weight": [100], "embedding.weight": [100]},
        loss=lambda tokens: loss_of(model, tokens), logits=lambda tokens: model(tokens[:, :-1]), probes=8,
    )  # fmt: skip
    uniform = BitPlan.uniform(model, bits=2, kind="uniform", grouping="row")
    loss, size = loss_and_bytes(model, uniform, tmp_path / "u.safetensors")
    chosen, chosen_size = loss_and_bytes(model, table.allocate(max_bytes=size), tmp_path / "c.safetensors")
    with torch.no_grad():
        full = float(loss_of(model, sentences(400, vocabulary=VOCABULARY, seed=7)))
    assert chosen_size <= size
    assert full < chosen < loss and chosen - full < 0.8 * (loss - full)


def test_single_cluster_divergences_add_up(model: LanguageModel, tmp_path: Path) -> None:
    batch = sentences(64, vocabulary=VOCABULARY, seed=3)
    table = sv.sensitivity(model, [batch], bits=(3,), by="tensor")
    plan = BitPlan.uniform(model, bits=3, kind="uniform", grouping="row")
    twin = LanguageModel(VOCABULARY, WIDTH)
    twin.load_state_dict(model.state_dict())
    sv.compress(twin, plan, sv.PTQ()).finish()
    with torch.no_grad():
        log_p, log_q = model(batch).log_softmax(-1), twin(batch).log_softmax(-1)
    together = float(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean())
    assert float(table.omega.sum()) == pytest.approx(together, rel=0.35)  # to first order
