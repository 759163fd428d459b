"""benchmarks/rescoring_speed.py: its lists, PyTorch's ways of scoring them, and ratios from made-up figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
import rescoring_speed
from rescoring_speed import ALONE, ENTRIES, SHARED, PyTorch

from sottovoce.decoding.vocabulary import WordList
from sottovoce.errors import DataError
from sottovoce.models.lstm_lm import LstmLm
from sottovoce.packed import LstmLmArchitecture

WORDS = WordList(["</s>", "<unk>", *(f"w{i}" for i in range(60))])
SENTENCES = [[f"w{(7 * i + k) % 60}" for k in range(1 + i % 6)] for i in range(60)]


def test_lists_are_of_different_rows_that_differ_in_at_most_three_words() -> None:
    lists = rescoring_speed.make_lists(SENTENCES, WORDS, 12, seed=1)
    assert len(lists) == 12 and lists[0][0].tolist() == WORDS.encode("w0") and len(lists[-1][0]) == len(SENTENCES[-1])
    for entries in lists:
        assert len({row.tobytes() for row in entries}) == len(entries) == ENTRIES
        assert all(0 < np.count_nonzero(row != entries[0]) <= 3 for row in entries[1:])
    again = rescoring_speed.make_lists(SENTENCES, WORDS, 12, seed=1)
    assert all(np.array_equal(a, b) for x, y in zip(lists, again, strict=True) for a, b in zip(x, y, strict=True))
    with pytest.raises(DataError, match="lists: expected 61 utterances, found 60"):
        rescoring_speed.make_lists(SENTENCES, WORDS, 61, seed=1)


@pytest.mark.parametrize("batch", [7, 1000])
def test_pytorchs_ways_are_one_definition(batch: int) -> None:
    torch.manual_seed(0)
    model = LstmLm(LstmLmArchitecture(WORDS.size, embedding=8, units=12, layers=1)).eval()
    rows = [row for entries in rescoring_speed.make_lists(SENTENCES, WORDS, 5, seed=2) for row in entries]
    theirs = PyTorch(model, rows)
    ways = [theirs.padded(batch), theirs.packed(batch), theirs.shared(batch)]
    for i, row in enumerate(rows):
        stream = torch.tensor([[0, *row, 0]])
        wanted = model(stream[:, :-1])[0].log_softmax(-1)[0].gather(1, stream[0, 1:, None])[:, 0].detach().numpy()
        for found in ways:
            np.testing.assert_allclose(found[i], wanted, atol=1e-5)


def test_ratios_compare_like_with_like() -> None:
    seconds = {
        f"packed, {ALONE}": [1.0, 2.0, 9.0],
        f"packed, {SHARED}": [1.0, 1.0, 1.0],
        f"PyTorch padded, {ALONE}": [6.0, 5.0, 7.0],
        f"PyTorch, {SHARED}": [4.0, 4.0, 3.0],
    }
    row: dict[str, Any] = {"figures": {"seconds": seconds}}
    assert rescoring_speed.ratios(row) == {f"packed, {ALONE}": 3.0, f"packed, {SHARED}": 4.0}
