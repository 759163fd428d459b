"""Per-channel energy normalization: blocks against the frame-by-frame definition, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.models.pcen import pcen
from sottovoce.packed import Pcen
from sottovoce.runtime.pcen import pcen as defined
from sottovoce.runtime.pcen import pcen_start


def log_mel(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-5, 3, (2, frames, 4)).astype(np.float32)


@pytest.mark.parametrize("frames", [0, 1, 255, 256, 257, 1000])
@pytest.mark.parametrize("choice", [Pcen(), Pcen(smoothing=1.0), Pcen(smoothing=0.3, gain=1.0, bias=0.0)])
def test_blocks_give_what_the_definition_gives(frames: int, choice: Pcen) -> None:
    x = log_mel(frames)
    expected, _ = defined(x, pcen_start(2, 4), choice)
    np.testing.assert_allclose(pcen(torch.from_numpy(x), choice).numpy(), expected, rtol=2e-4, atol=2e-5)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_any_chunks_give_the_same_bits(chunks: list[int]) -> None:
    x = log_mel(sum(chunks))
    whole, last = defined(x, pcen_start(2, 4), Pcen())
    mean, parts, at = pcen_start(2, 4), [], 0
    for count in chunks:
        part, mean = defined(x[:, at : at + count], mean, Pcen())
        parts.append(part)
        at += count
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    np.testing.assert_array_equal(mean, last)


@pytest.mark.parametrize(("gain", "left"), [(0.5, 0.7), (0.8, 0.25), (0.98, 0.03), (1.0, 1e-4)])
def test_another_microphone_is_taken_away(gain: float, left: float) -> None:
    x = torch.from_numpy(log_mel(2000))
    other = x + torch.tensor([2.0, -1.0, 0.5, 1.5])  # nats: what another response adds to each bin; no PCEN: 1.57
    before, after = (pcen(one, Pcen(gain=gain))[:, 500:] for one in (x, other))
    assert (after - before).abs().mean() < left * before.abs().mean()


def test_under_autocast_it_stays_in_float32() -> None:
    x = torch.from_numpy(log_mel(300))
    with torch.autocast("cpu", torch.bfloat16):
        found = pcen(x, Pcen())
    assert found.dtype == torch.float32 and torch.equal(found, pcen(x, Pcen()))
