"""Mu-law levels against the formula written out, and the fitted mu and range against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sottovoce.errors import PlanError
from sottovoce.quant import BandSpec, make_codebook
from sottovoce.quant.makers import level_count
from sottovoce.quant.mu_law import MUS, fit_mu_law, mu_law_levels, power_of_two_ranges


def formula(count: int, mu: int) -> list[int]:
    """rint(128 z) clipped to +-127; from the inside out, each magnitude at least one above the one before it, and as
    far below 127 as those outside it need."""
    t = np.array([1 - 2 * i / (count - 1) for i in range(count // 2)])[::-1]  # positive ones, inside out
    wanted = np.clip(np.rint(128 * ((1 + mu) ** t - 1) / mu), 1, 127)
    positive: list[int] = []
    for k in wanted.astype(int).tolist():
        positive.append(max(k, positive[-1] + 1 if positive else 1))
    positive = [min(k, 127 - (len(positive) - 1 - i)) for i, k in enumerate(positive)]
    return [-k for k in positive[::-1]] + [0] * (count % 2) + positive


@pytest.mark.parametrize("mu", MUS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_are_the_formula(bits: int, mu: int) -> None:
    for zero in (False, True):
        count = 2**bits - zero
        if 2 <= count <= 255:
            levels = mu_law_levels(count, mu)
            assert levels.dtype == torch.int8 and levels.tolist() == formula(count, mu)


def test_levels_by_hand() -> None:
    # mu = 8, five levels: t = 1/2 gives (9**0.5 - 1) / 8 = 1/4, 32 steps of 1 / 128.
    assert mu_law_levels(5, 8).tolist() == [-127, -32, 0, 32, 127]
    assert mu_law_levels(2, 8).tolist() == [-127, 127]
    # The ends are +-1 whatever mu is; over 1 + mu, as printed, they would be 8 / 9.
    assert {int(mu_law_levels(16, mu)[-1]) for mu in MUS} == {127}
    # Magnitudes that round to 0 become 1, and pairs that fall together move outward: no level is lost.
    assert mu_law_levels(128, 128)[64:68].tolist() == [1, 2, 3, 4]
    assert mu_law_levels(255, 64).tolist() == list(range(-127, 128))
    for count in (1, 256):
        with pytest.raises(ValueError, match=f"2 to 255 numbers, found {count}"):
            mu_law_levels(count, 8)


def hard_error(weight: Tensor, levels: Tensor, width: float) -> float:
    grid = levels.double() * (width / 128)
    return float((weight.double().flatten()[:, None] - grid).square().min(1).values.sum())


def weights(seed: int, spread: float, tail: float, size: int = 400) -> Tensor:
    w = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return (w * w.abs() ** tail * spread).reshape(4, -1)


@settings(max_examples=60)
@given(st.integers(1, 8), st.booleans(), st.integers(0, 10**6), st.floats(1e-3, 5.0), st.floats(0.0, 1.5))
def test_codebooks_are_distinct_symmetric_and_within_bits(
    bits: int, zero: bool, seed: int, spread: float, tail: float
) -> None:
    for kind in ("mu-law", "mu-law-scaled"):
        spec = BandSpec(bits, kind, zero=(zero and bits > 1) or bits == 8)
        book = make_codebook(weights(seed, spread, tail), spec)
        levels = book.levels.long()
        assert len(levels) == level_count(spec) and (levels.diff() > 0).all()
        assert torch.equal(levels, -levels.flip(0)) and int(levels[-1]) == 127
        assert (0 in levels.tolist()) == spec.has_zero
        assert kind == "mu-law-scaled" or book.scale.tolist() == [1 / 128]
        assert np.log2(float(book.scale)).is_integer()


@settings(max_examples=40)
@given(st.integers(2, 33), st.integers(0, 10**6), st.floats(2e-3, 3.0), st.floats(0.0, 1.0))
def test_mu_and_range_are_those_of_least_error(count: int, seed: int, spread: float, tail: float) -> None:
    weight = weights(seed, spread, tail)
    tables = {mu: mu_law_levels(count, mu) for mu in MUS}
    for ranges in ([1.0], power_of_two_ranges(weight)):
        levels, width = fit_mu_law(weight, count, ranges)
        assert width in ranges
        least = min(hard_error(weight, table, r) for table in tables.values() for r in ranges)
        assert hard_error(weight, levels, width) == pytest.approx(least, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(st.integers(2, 17), st.integers(0, 10**6), st.floats(2e-3, 3.0), st.floats(0.0, 2.0))
def test_no_range_outside_those_tried_is_better(count: int, seed: int, spread: float, tail: float) -> None:
    weight = weights(seed, spread, tail, size=80)
    ranges = power_of_two_ranges(weight)
    assert ranges == sorted(ranges, reverse=True) and 127.5 / 128 * ranges[0] >= float(weight.abs().max())
    wider = [ranges[0] * 2, *ranges, ranges[-1] / 2, ranges[-1] / 4]
    narrow = fit_mu_law(weight, count, wider)[1]
    assert narrow >= ranges[-1]  # too narrow never wins; wider ones may, by an accident of the grid


def test_a_range_of_its_own_serves_narrow_kernels() -> None:
    narrow = weights(0, 0.04, 0.0, size=20_000)
    for bits in range(1, 8):
        fixed, scaled = (make_codebook(narrow, BandSpec(bits, kind)) for kind in ("mu-law", "mu-law-scaled"))
        errors = [float((book.snap_(narrow.clone()) - narrow).square().mean()) for book in (fixed, scaled)]
        assert errors[1] < 0.5 * errors[0]
    ordinary = weights(0, 0.3, 0.0, size=20_000)
    fixed, scaled = (make_codebook(ordinary, BandSpec(5, kind)) for kind in ("mu-law", "mu-law-scaled"))
    assert torch.equal(fixed.levels, scaled.levels) and float(scaled.scale) == 1 / 128


def test_weights_that_are_all_zero_or_beyond_the_range() -> None:
    for kind in ("mu-law", "mu-law-scaled"):
        assert len(make_codebook(torch.zeros(3, 5), BandSpec(4, kind)).levels) == 16
    book = make_codebook(torch.tensor([[5.0, -5.0], [0.1, -0.2]]), BandSpec(3, "mu-law"))
    assert book.snap_(torch.tensor([[5.0, -7.0]])).tolist() == [[127 / 128, -127 / 128]]
    spike = torch.full((100, 100), 1e-6)
    spike[0, 0] = 4.0
    assert len(power_of_two_ranges(spike)) <= 14  # one outlier does not make the histogram huge


@pytest.mark.parametrize("kind", ["mu-law", "mu-law-scaled"])
def test_specs_of_the_kinds(kind: str) -> None:
    assert [BandSpec(bits, kind).has_zero for bits in range(1, 9)] == [False] * 7 + [True]
    assert level_count(BandSpec(4, kind)) == 16 and level_count(BandSpec(4, kind, zero=True)) == 15
    with pytest.raises(PlanError, match="one scale"):
        BandSpec(4, kind, "row")
    with pytest.raises(PlanError, match="one bit"):
        BandSpec(1, kind, zero=True)
    with pytest.raises(PlanError, match=f"at 8 bits the {kind} levels"):
        BandSpec(8, kind, zero=False)
