"""A packed file back into a module, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sottovoce as sv
from sottovoce.errors import FormatError
from sottovoce.quant import BitPlan


def saved(tmp_path: Path, model: nn.Module) -> Path:
    path = tmp_path / "model.safetensors"
    sv.compress(model, BitPlan.uniform(model, bits=4), sv.PTQ()).finish().save(path)
    return path


def test_decoded_weights_fill_the_module(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    path = saved(tmp_path, model)
    twin = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).bfloat16().float()
    sv.load(path, into=twin)
    for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Sequential(nn.Linear(5, 4)), r"the module lacks tensor '1\."),
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), r"the file lacks tensor '2\."),
        (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), r"'0\.weight': expected shape \(4, 6\), found \(4, 5\)"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_unchanged(tmp_path: Path, other: nn.Module, message: str) -> None:
    path = saved(tmp_path, nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(FormatError, match=message):
        sv.load(path, into=other)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
