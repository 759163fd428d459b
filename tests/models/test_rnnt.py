"""The network against its definition, against the packed runtime, and step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.decoding.greedy import greedy_search
from sottovoce.models import Rnnt, SteppingRnnt
from sottovoce.packed import Pcen, RnntArchitecture
from sottovoce.runtime import PackedRnnt
from sottovoce.schemes import pack_float

SMALL = RnntArchitecture(
    features=6, vocabulary=9, encoder_units=10, embedding=5, predictor_units=7, joiner_units=8, stack=4, stride=2
)
SHAPES = [
    SMALL,
    replace(SMALL, reduction_after=0),
    replace(SMALL, reduction_after=2, reduction=3),
    replace(SMALL, stack=3, stride=3, layer_norm=False, encoder_layers=3, predictor_layers=2),
    replace(SMALL, encoder_layers=1, reduction_after=1),
    replace(SMALL, pcen=Pcen(smoothing=0.1)),
]


def network(architecture: RnntArchitecture) -> Rnnt:
    torch.manual_seed(0)
    model = Rnnt(architecture, dropout=0.2).eval()
    model.encoder.mean.normal_()
    model.encoder.istd.uniform_(0.5, 2.0)
    return model


@pytest.mark.parametrize("architecture", SHAPES)
def test_the_packed_runtime_computes_the_same(architecture: RnntArchitecture) -> None:
    model = network(architecture)
    packed = PackedRnnt(replace(pack_float(model), architecture=architecture.to_dict()))
    features, lengths = torch.randn(3, 41, 6), torch.tensor([41, 17, 30])
    with torch.no_grad():
        frames, frame_lengths = model.encoder(features, lengths)
    runtime_frames, runtime_lengths = packed.encode(features.numpy(), lengths.numpy())
    assert runtime_lengths.tolist() == frame_lengths.tolist()
    for i, n in enumerate(frame_lengths.tolist()):
        assert np.allclose(runtime_frames[i, :n], frames[i, :n].numpy(), atol=2e-5)
    stepping = SteppingRnnt(model)
    found = [
        [x.best.tokens for x in greedy_search(m, f, n)]
        for m, f, n in ((stepping, frames.numpy(), frame_lengths.numpy()), (packed, runtime_frames, runtime_lengths))
    ]
    assert found[0] == found[1] and any(found[0])


@pytest.mark.parametrize("architecture", SHAPES)
def test_steps_give_what_the_whole_sequence_gives(architecture: RnntArchitecture) -> None:
    model, tokens = network(architecture), torch.randint(1, 9, (2, 5))
    stepping = SteppingRnnt(model)
    with torch.no_grad():
        whole = model.predictor(tokens).numpy()
    output, state = stepping.predictor_step(np.full(2, -1), stepping.predictor_start(2))
    assert np.allclose(output, whole[:, 0], atol=1e-6)
    for u in range(5):
        output, state = stepping.predictor_step(tokens[:, u].numpy(), state)
        assert np.allclose(output, whole[:, u + 1], atol=1e-6)
    log_probs = stepping.joiner(np.ones((2, 8), np.float32), output)
    assert np.allclose(np.exp(log_probs).sum(1), 1, atol=1e-5) and stepping.vocabulary == 9


@settings(max_examples=40)
@given(st.integers(6, 50), st.integers(0, 20), st.sampled_from(SHAPES))
def test_padding_changes_nothing_and_lengths_follow_the_subsampling(
    frames: int, padding: int, shape: RnntArchitecture
) -> None:
    model = network(shape)
    x = torch.randn(1, frames, 6, generator=torch.Generator().manual_seed(frames))
    with torch.no_grad():
        alone, n = model.encoder(x, torch.tensor([frames]))
        padded, m = model.encoder(torch.cat([x, torch.full((1, padding, 6), 7.0)], 1), torch.tensor([frames]))
    assert int(n) == int(m) == frames // shape.subsampling == shape.output_frames(frames) == alone.shape[1]
    assert torch.allclose(alone, padded[:, : int(n)], atol=1e-5)


def test_stacking_sees_exactly_the_frames_of_its_definition() -> None:
    encoder = network(replace(SMALL, features=1, stack=5, stride=2)).encoder
    x = torch.arange(1.0, 8.0)[None, :, None]
    assert encoder.stack(x).tolist() == [[[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 5, 6]]]
    assert encoder.stack(x[:, :1]).shape == (1, 0, 5)


def test_no_history_is_a_zero_vector_and_not_the_blanks_row() -> None:
    predictor = network(SMALL).predictor
    vectors = predictor.embed(torch.tensor([[-1, 0]]))
    assert vectors[0, 0].abs().sum() == 0 and torch.equal(vectors[0, 1], predictor.embedding.weight[0])


def test_the_papers_sizes_can_be_built() -> None:
    # S8BQAT, section 3: 5 encoder and 2 predictor LSTMs of 1024, 2500 word pieces, 61.0 M parameters in all. With 64
    # log-mel bins in stacks of 3 and a joiner of 512 ours has the same within two percent.
    paper = RnntArchitecture(
        features=64, vocabulary=2501, stack=3, stride=3, encoder_layers=5, encoder_units=1024, layer_norm=False,
        reduction_after=0, embedding=1024, predictor_layers=2, predictor_units=1024, joiner_units=512,
    )  # fmt: skip
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Rnnt(paper).parameters())
    assert parameters == pytest.approx(61.0e6, rel=0.02)
