"""Scales by least squares: against brute force over scales, and the alternation that refines them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sottovoce.quant import BandSpec, make_codebook
from sottovoce.quant.scaling import alternate, least_squares_scale, squared_error


def table(bits: int, zero: bool) -> Tensor:
    """The published alpha {0, +-1, ..}, or mid-rise levels at odd multiples."""
    top = 2 ** (bits - 1) - 1
    return torch.arange(-top, top + 1) if zero else torch.arange(-(2**bits - 1), 2**bits, 2)


def draw(kind: str, shape: tuple[int, int], seed: int) -> Tensor:
    torch.manual_seed(seed)
    if kind == "uniform":
        return torch.rand(shape) * 2 - 1
    if kind == "heavy":
        return torch.distributions.StudentT(3.0).sample(shape)
    return torch.randn(shape) if kind == "gauss" else torch.distributions.Laplace(0.0, 1.0).sample(shape)


def brute_force(weight: Tensor, levels: Tensor, count: int) -> Tensor:
    """The least squared error of each row over ``count`` scales up to one and a half times the covering one."""
    cover = weight.abs().amax(1) / levels.abs().max()
    tried = [squared_error(weight, levels, cover * (1.5 * (i + 1) / count)) for i in range(count)]
    return torch.stack(tried).min(0).values


@pytest.mark.parametrize("kind", ["gauss", "laplace", "uniform", "heavy"])
@pytest.mark.parametrize(
    ("bits", "zero"), [(1, False), (2, True), (2, False), (3, True), (3, False), (4, True), (4, False), (8, True)]
)
def test_the_fit_is_as_good_as_brute_force_over_scales(kind: str, bits: int, zero: bool) -> None:
    weight, levels = draw(kind, (32, 512), bits), table(bits, zero)
    fitted = squared_error(weight, levels, least_squares_scale(weight, levels, 32))
    best = brute_force(weight, levels, 400)
    # Up to three bits the search ends in the best of all minima; beyond, they lie ever closer to each other.
    worst, mean = {4: (1.03, 1.002), 8: (1.12, 1.02)}.get(bits, (1.0005, 1.0001))
    assert float((fitted / best).max()) < worst and float(fitted.sum() / best.sum()) < mean


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.booleans(), st.integers(0, 10**6), st.floats(0.05, 20.0), st.sampled_from([1, 3, 12]))
def test_the_alternation_never_raises_the_error(bits: int, zero: bool, seed: int, off: float, groups: int) -> None:
    zero = (zero and bits > 1) or bits == 8
    weight = draw("laplace", (12, 40), seed).double().float()
    levels = table(bits, zero)
    scale = off * weight.reshape(groups, -1).abs().amax(1) / levels.abs().max()
    error = squared_error(weight, levels, scale)
    for rounds in (1, 2, 5, 20):
        after = squared_error(weight, levels, alternate(weight, levels, scale, rounds))
        assert bool((after <= error * (1 + 1e-5)).all())
        error = after


def test_binary_and_ternary_by_hand() -> None:
    weight = torch.tensor([[0.5, -1.5, 1.0, -1.0], [0.1, -0.1, 2.0, -2.0]])
    # One bit: the mean magnitude. Ternary keeps the second row's outliers and drops the rest.
    assert torch.allclose(least_squares_scale(weight, table(1, False), 2), torch.tensor([1.0, 1.05]))
    assert torch.allclose(least_squares_scale(weight[1:], table(2, True), 1), torch.tensor([2.0]))


def test_zeros_have_a_scale_above_zero() -> None:
    for bits in (1, 4, 8):
        book = make_codebook(torch.zeros(2, 8), BandSpec(bits, "uniform", "row"))
        assert bool((book.scale > 0).all())


def test_lloyd_max_is_no_worse_than_evenly_spaced_levels() -> None:
    for kind in ("gauss", "laplace", "heavy"):
        weight = draw(kind, (64, 256), 1) * 0.1
        for bits in (2, 3, 4):
            errors = []
            for table_kind in ("lloyd-max", "uniform"):
                book = make_codebook(weight, BandSpec(bits, table_kind))
                errors.append(float((weight - book.snap_(weight.clone())).square().sum()))
            assert errors[0] < 1.02 * errors[1]  # the integer grid costs a little
