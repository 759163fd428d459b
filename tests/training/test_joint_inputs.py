"""Scores of lists that a joint search asks for, against the models' own definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sottovoce.losses import twice_differentiable_rnnt_loss
from sottovoce.models import Rnnt, make_lm
from sottovoce.packed import RnntArchitecture, lm_architecture
from sottovoce.training import joint
from sottovoce.training.joint import acoustic_scores, sentence_scores

SIZES = {"features": 4, "encoder_units": 6, "embedding": 3, "predictor_units": 5, "joiner_units": 6, "stack": 2}


def test_acoustic_scores_are_those_of_each_text_over_all_alignments(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Rnnt(RnntArchitecture(vocabulary=7, **SIZES)).eval()  # type: ignore[arg-type]
    frames = [40, 24, 60]
    features = [torch.randn(1, n, 4) for n in frames]
    tokens = [[[1, 2, 3], [4], []], [[5, 6]], [[1], [2, 2, 2, 2]]]
    expected = [
        -twice_differentiable_rnnt_loss(logits.double(), torch.tensor([entry], dtype=torch.int64), *lengths).item()
        for x, entries in zip(features, tokens, strict=True)
        for entry in entries
        for logits, _, spoken in [model(x, torch.tensor([x.shape[1]]), torch.tensor([entry], dtype=torch.int64))]
        for lengths in [(spoken, torch.tensor([len(entry)]))]
    ]
    padded = torch.nn.utils.rnn.pad_sequence([x[0] for x in features[:2]], batch_first=True)
    batches = [
        {"features": padded, "feature_lengths": torch.tensor(frames[:2])},
        {"features": features[2], "feature_lengths": torch.tensor(frames[2:])},
    ]
    found = acoustic_scores(model, batches, tokens)
    assert found.dtype == np.float64 and np.allclose(found, expected, rtol=1e-5)
    monkeypatch.setattr(joint, "_ELEMENTS", 1)  # an entry at a time
    assert np.allclose(acoustic_scores(model, batches, tokens), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "described",
    [
        {"type": "lstm-lm", "embedding": 6, "units": 5, "vocabulary": 9},
        {
            "type": "transformer-lm", "width": 8, "layers": 1, "heads": 2, "feed_forward": 8, "context": 4,
            "vocabulary": 9,
        },
    ],
)  # fmt: skip
def test_sentence_scores_are_those_of_each_sentence_alone(
    described: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = make_lm(lm_architecture(described)).eval()
    sentences = [[3, 4, 5], [], [8], [2, 7], [6, 5, 4, 3, 2, 6, 7, 8, 2]]
    expected = []
    for sentence in sentences:
        row = [0, *sentence, 0]
        step = 4 if described["type"] == "transformer-lm" else len(row)  # a Transformer's context
        total = 0.0
        for start in range(0, len(row) - 1, step):
            piece = torch.tensor(row[start : start + step + 1])
            log_probs = model(piece[None, :-1])[0][0].double().log_softmax(-1)
            total += float(log_probs[torch.arange(len(piece) - 1), piece[1:]].sum())
        expected.append(total)
    assert np.allclose(sentence_scores(model, sentences), expected, rtol=1e-5)
    monkeypatch.setattr(joint, "_TOKENS", 1)
    assert np.allclose(sentence_scores(model, sentences), expected, rtol=1e-5)
