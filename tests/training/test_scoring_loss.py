"""The loss a token of a packed file: what its utterances give one by one, however they are batched and padded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blank_model import blank_model

from sottovoce.data import datamodule
from sottovoce.data.utterances import split_utterances
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.losses import rnnt_loss_from_logits
from sottovoce.models import Rnnt
from sottovoce.packed import RnntArchitecture, load_model
from sottovoce.quant import BitPlan
from sottovoce.quant.loading import load
from sottovoce.runtime import ModelInput
from sottovoce.schemes import PTQ, compress
from sottovoce.training import scoring
from sottovoce.training.scoring import loss_per_token


@pytest.fixture(scope="module")
def model(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blank_model(tones, tmp_path_factory.mktemp("loss") / "model.safetensors")


@torch.no_grad()
def utterance_losses(model: Path, data: Path, split: str) -> tuple[list[float], list[int]]:
    """Nats and tokens of each utterance, alone in its batch and in double precision."""
    packed = load_model(model)
    tokenizer = Tokenizer(packed.tokenizer or b"")
    network = Rnnt(RnntArchitecture.from_dict(packed.architecture))
    load(model, into=network)
    network.eval().double()
    losses, counts = [], []
    for utterance in split_utterances(data, split, ModelInput.from_dict(packed.input)):
        features = torch.from_numpy(utterance.features).double()[None]
        tokens = torch.tensor([tokenizer.encode(utterance.text)])
        logits, _, lengths = network(features, torch.tensor([features.shape[1]]), tokens)
        count = torch.tensor([tokens.shape[1]])
        losses.append(float(rnnt_loss_from_logits(logits, tokens, lengths, count)))
        counts.append(tokens.shape[1])
    return losses, counts


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("max_duration", [30.0, 1.0])
def test_the_loss_is_that_of_the_utterances_one_by_one(
    model: Path, tones: Path, monkeypatch: pytest.MonkeyPatch, split: str, max_duration: float
) -> None:
    limited = datamodule.DataConfig(max_duration=max_duration)  # one batch, and batches of unequal sizes
    monkeypatch.setattr(scoring, "DataConfig", lambda **_: limited)
    losses, counts = utterance_losses(model, tones, split)
    assert len(set(counts)) > 1  # so that a mean over utterances is another figure
    assert loss_per_token(model, tones, split) == pytest.approx(sum(losses) / sum(counts), rel=1e-5)


def test_a_compressed_file_is_scored_with_the_weights_that_it_holds(model: Path, tones: Path, tmp_path: Path) -> None:
    packed, file = load_model(model), tmp_path / "coarse.safetensors"
    network = Rnnt(RnntArchitecture.from_dict(packed.architecture))
    load(model, into=network)
    coarse = compress(network, BitPlan.uniform(network, bits=1), PTQ()).finish()
    replace(coarse, architecture=packed.architecture, input=packed.input, tokenizer=packed.tokenizer).save(file)
    losses, counts = utterance_losses(file, tones, "dev")
    found = loss_per_token(file, tones, "dev")
    assert found == pytest.approx(sum(losses) / sum(counts), rel=1e-5)
    assert found != pytest.approx(loss_per_token(model, tones, "dev"), rel=1e-3)
