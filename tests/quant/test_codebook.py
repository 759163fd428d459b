"""A codebook's tables against plain arithmetic, over kinds, groupings and bits."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sottovoce.quant import BandSpec, Codebook, make_codebook
from sottovoce.quant.scaling import least_squares_scale, scale_dtype, storable


@st.composite
def codebooks(draw: st.DrawFn) -> tuple[Codebook, Tensor]:
    """Any levels on the int8 grid, any scales, and weights around them."""
    levels = sorted(draw(st.sets(st.integers(-128, 127), min_size=2, max_size=32)))
    groups = draw(st.sampled_from([1, 2, 6]))
    scale = torch.tensor(draw(st.lists(st.floats(2**-12, 4.0, width=16), min_size=groups, max_size=groups)))
    seed = draw(st.integers(0, 2**16))
    units = torch.empty(groups, 216 // groups).uniform_(-150, 150, generator=torch.Generator().manual_seed(seed))
    book = Codebook(torch.tensor(levels, dtype=torch.int8), scale, 8, "any", "any")
    return book, (units * scale[:, None]).view(6, 36)


def plain_nearest(book: Codebook, weight: Tensor) -> Tensor:
    units = (weight.view(len(book.scale), -1) / book.scale[:, None]).double()
    distance = (units[..., None] - book.levels.double()).abs()
    return distance.min(-1).values.view(weight.shape)


def make(levels: list[int], scale: list[float], bits: int = 8) -> Codebook:
    return Codebook(torch.tensor(levels, dtype=torch.int8), torch.tensor(scale), bits, "any", "any")


@settings(max_examples=150)
@given(codebooks())
def test_assign_finds_a_nearest_level(pair: tuple[Codebook, Tensor]) -> None:
    book, weight = pair
    codes = book.assign(weight)
    assert codes.dtype == torch.uint8 and int(codes.max()) < len(book.levels)
    units = (weight.view(len(book.scale), -1) / book.scale[:, None]).view(weight.shape).double()
    chosen = (units - book.levels.double()[codes.long()]).abs()
    assert torch.allclose(chosen, plain_nearest(book, weight), atol=1e-4)


@settings(max_examples=100)
@given(codebooks())
def test_snap_equals_decode_of_assign_and_is_idempotent(pair: tuple[Codebook, Tensor]) -> None:
    book, weight = pair
    decoded = book.decode(book.assign(weight))
    snapped = book.snap_(weight.clone())
    assert torch.equal(snapped, decoded)
    assert torch.equal(book.snap_(snapped.clone()), snapped)
    assert book.hit_rate(snapped, 0.0) == 1.0


def test_a_weight_half_way_goes_to_the_upper_level() -> None:
    book = make([-4, 0, 4], [0.5])
    assert book.assign(torch.tensor([[-1.0, 1.0, 0.999, -1.001]])).tolist() == [[1, 2, 1, 0]]


@settings(max_examples=100)
@given(codebooks())
def test_penalty_is_the_published_function_inside_and_zero_outside(pair: tuple[Codebook, Tensor]) -> None:
    book, weight = pair
    units = (weight.view(len(book.scale), -1) / book.scale[:, None]).double()
    expected = 0.0
    levels = book.levels.tolist()
    for u in units.flatten().tolist():
        for low, high in pairwise(levels):
            if low <= u < high:
                expected += 1 - abs(math.cos(math.pi * (u - low) / (high - low)))
    total, _ = book.penalty(weight)
    assert float(total) == pytest.approx(expected, rel=1e-3, abs=2e-2)


@pytest.mark.parametrize("levels", [[-8, -4, 0, 4, 8], [-100, -30, -8, -1, 0, 2, 9, 40, 127]])
def test_penalty_gradient_against_finite_differences(levels: list[int]) -> None:
    book = make(levels, [1 / 128])
    weight = torch.empty(1, 400).uniform_(-0.05, 0.05, generator=torch.Generator().manual_seed(1)).double()
    book = Codebook(book.levels, book.scale.double(), 8, "any", "any")
    _, gradient = book.penalty(weight)
    step = 1e-7
    for i in range(0, 400, 7):
        up, down = weight.clone(), weight.clone()
        up[0, i] += step
        down[0, i] -= step
        slope = (book.penalty(up)[0] - book.penalty(down)[0]) / (2 * step)
        assert float(slope) == pytest.approx(float(gradient[0, i]), rel=1e-4, abs=1e-3)


def test_penalty_on_uniform_levels_is_the_unphased_cosine() -> None:
    # R = 1, theta = 2**(b - 1): p(w) = 1 - |cos(pi theta w)| (S8BQAT, section 2.3).
    book = make_codebook(torch.zeros(1, 4), BandSpec(4, "linear"))
    weight = torch.linspace(-0.85, 0.85, 301)[None]
    published = (1 - (math.pi * 8 * weight).cos().abs()).sum()
    assert float(book.penalty(weight)[0]) == pytest.approx(float(published), rel=1e-4)


def test_pull_moves_towards_the_nearest_level_and_never_past_it() -> None:
    book = make([-8, -2, 0, 3, 8], [0.25])
    weight = torch.linspace(-1.99, 1.99, 500)[None]
    before = (weight - book.snap_(weight.clone())).abs()
    target = book.snap_(weight.clone())
    moved = book.pull_(weight.clone(), 0.1)
    assert ((moved - target).abs() <= before + 1e-6).all()
    assert torch.equal(book.snap_(moved.clone()), target)
    # At most rate * gap, reached in the middle between level and border.
    assert float((moved - weight).abs().max()) <= 0.1 * 6 * 0.25 + 1e-6


def test_pull_is_the_formula_but_for_its_sampling() -> None:
    book = make([-120, -40, 0, 40, 120], [1 / 128])
    weight = torch.linspace(-0.93, 0.93, 2001)[None]
    moved = (book.pull_(weight.clone(), 0.01) - weight) * 128
    units = weight * 128
    for u, step in zip(units[0].tolist(), moved[0].tolist(), strict=True):
        low, high = next((a, b) for a, b in pairwise(book.levels.tolist()) if a <= u < b)
        place = (u - low) / (high - low)
        formula = -0.01 * (high - low) * math.sin(math.pi * place) * (1 if place < 0.5 else -1)
        slope = 0.01 * math.pi * 2 / 16  # change of the formula within a sample
        if abs(place - 0.5) * (high - low) > 1 / 16:
            assert step == pytest.approx(formula, abs=slope)


def test_pull_clips_to_the_outer_levels_also_with_many_scales() -> None:
    book = make([-2, 2], [0.5, 0.25])
    weight = torch.tensor([[3.0, -3.0], [3.0, -3.0]])
    assert book.pull_(weight.clone(), 0.1).tolist() == [[1.0, -1.0], [0.5, -0.5]]
    assert book.clip_(weight.clone()).tolist() == [[1.0, -1.0], [0.5, -0.5]]
    assert book.clip_rate(weight) == 1.0
    assert make([-2, 2], [0.5]).clip_(weight.clone()).abs().max() == 1.0


def test_pieces_cover_tensors_larger_than_a_piece() -> None:
    weight = torch.randn(300, 700, generator=torch.Generator().manual_seed(2))
    for grouping in ("tensor", "row"):
        book = make_codebook(weight, BandSpec(3, grouping=grouping))
        assert torch.equal(book.snap_(weight.clone()), book.decode(book.assign(weight)))
        assert float((book.snap_(weight.clone()) - weight).square().mean()) < 0.1


@pytest.mark.parametrize("kind", ["lloyd-max", "uniform"])
@pytest.mark.parametrize("grouping", ["tensor", "gate", "row"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_noise_floor_falls_six_decibels_a_bit(kind: str, grouping: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    weight = (
        torch.randn(64, 256, generator=generator) * torch.tensor([0.05, 0.1, 0.2, 0.4]).repeat_interleave(16)[:, None]
    )
    book = make_codebook(weight, BandSpec(bits, kind, grouping), gates=4)
    noise = weight - book.decode(book.assign(weight))
    snr = float(10 * (weight.square().sum() / noise.square().sum()).log10())
    # Gaussian weights: Lloyd-Max reaches 6.02 b - 4.35 dB for large b; evenly spaced levels lose up to 4 dB more by 8
    # bits, the integer grid as much. One scale over this mixture of four spreads costs another 4 dB.
    assert snr > 6.02 * bits - (14.5 if grouping == "tensor" else 8.5)
    assert len(book.levels) <= 2**bits and len(book.scale) == {"tensor": 1, "gate": 4, "row": 64}[grouping]


def test_scales_are_what_the_file_stores() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(3)) * 0.03
    book = make_codebook(weight, BandSpec(4, "uniform", "row"))
    assert torch.equal(book.scale, book.scale.half().float())
    exact = make_codebook(weight, BandSpec(4, "uniform", "row", scale_dtype="float32"))
    assert not torch.equal(exact.scale, exact.scale.half().float())


def test_scales_beyond_half_precision_stay_in_single() -> None:
    tiny = torch.tensor([1e-7, 1.0])
    assert torch.equal(storable(tiny), tiny) and scale_dtype(tiny) is torch.float32
    assert scale_dtype(storable(torch.tensor([0.1234567]))) is torch.float16


def test_least_squares_scale_beats_the_maximum_and_finds_the_truth() -> None:
    generator = torch.Generator().manual_seed(4)
    levels = torch.arange(-7, 8)
    true = torch.tensor([0.013, 0.2])
    codes = torch.randint(-7, 8, (2, 500), generator=generator).float()
    fitted = least_squares_scale(codes * true[:, None], levels, 2)
    assert torch.allclose(fitted, true, rtol=1e-4)
    weight = torch.randn(1, 4000, generator=generator)
    fitted = least_squares_scale(weight, levels, 1)
    by_maximum = weight.abs().max() / 7

    def error(scale: Tensor) -> float:
        return float((weight - (weight / scale).round().clamp(-7, 7) * scale).square().sum())

    assert error(fitted) < 0.7 * error(by_maximum)


def test_regions_share_borders_and_hold_zero() -> None:
    weight = torch.distributions.Laplace(0.0, 0.1).sample((40, 100))
    for bits in range(2, 9):
        book = make_codebook(weight, BandSpec(bits, "regions"))
        levels = book.levels.long()
        assert len(levels) == 2**bits - 1 and torch.equal(levels, -levels.flip(0))
        positive = levels[levels > 0].tolist()
        previous = 0
        for level, after in zip(positive, [*positive[1:], positive[-1]], strict=True):
            step = level - previous
            assert level % step == 0  # |cos(pi theta w)| has maxima only at multiples of the spacing
            assert after - level >= step or after == level  # spacings grow outwards
            previous = level


def test_more_regions_fit_better_and_lloyd_max_fits_best() -> None:
    from sottovoce.quant.lloyd_max import power_of_two_scale
    from sottovoce.quant.regions import region_levels

    torch.manual_seed(0)
    weight = torch.distributions.Laplace(0.0, 0.1).sample((100, 100)).clamp(-0.9, 0.9)
    scale = power_of_two_scale(weight.abs().max()[None])
    errors = []
    for regions in (1, 2, 3):
        book = Codebook(region_levels(weight, 5, scale, regions), torch.tensor([scale / 128]), 5, "regions", "tensor")
        errors.append(float((weight - book.snap_(weight.clone())).square().mean()))
    best = make_codebook(weight, BandSpec(5, zero=True))
    errors.append(float((weight - best.snap_(weight.clone())).square().mean()))
    assert errors[0] >= errors[1] >= errors[2] > errors[3]


def test_half_unit_bins_give_the_exact_error_of_every_candidate() -> None:
    from sottovoce.quant.regions import _candidates, _errors

    weight = torch.randn(500, generator=torch.Generator().manual_seed(5)).mul_(0.2).clamp_(-0.99, 0.99)
    candidates = _candidates(3, 2)
    errors = _errors(weight, 1.0, candidates)
    for i in range(0, len(candidates), 97):
        levels = torch.tensor([0, *candidates[i].tolist()]).double() / 128
        plain = (weight.abs().double()[:, None] - levels).square().min(1).values.sum()
        assert errors[i] / 128**2 == pytest.approx(float(plain), rel=1e-9)


def test_every_set_of_three_levels_in_regions_is_a_candidate() -> None:
    """Spacings grow outwards, and each divides the border where it begins: nothing else limits them."""
    from sottovoce.quant.regions import _candidates

    def allowed(levels: tuple[int, int, int]) -> bool:
        steps = [levels[0], levels[1] - levels[0], levels[2] - levels[1]]
        borders = (0, *levels[:2])
        return all(steps[i] == steps[i - 1] or (steps[i] > steps[i - 1] and borders[i] % steps[i] == 0) for i in (1, 2))

    every = {(a, b, c) for a in range(1, 128) for b in range(2 * a, 128) for c in range(2 * b - a, 128)}
    assert {tuple(x) for x in _candidates(3, 3).tolist()} == set(filter(allowed, every))
    assert _candidates(1, 3).ravel().tolist() == list(range(1, 128))


@pytest.mark.parametrize(("bits", "least"), [(2, 7.0), (3, 13.0)])
def test_regions_reach_the_weights_at_few_bits(bits: int, least: float) -> None:
    """Of a Gaussian three levels can keep 7.2 dB (their spacing 1.22 deviations), seven in one region 13.5."""
    weight = torch.randn(400, 400, generator=torch.Generator().manual_seed(0)) * 0.1
    book = make_codebook(weight, BandSpec(bits, "regions"))
    error = (weight - book.snap_(weight.clone())).square().mean()
    assert 10 * math.log10(float(weight.square().mean() / error)) > least


def test_a_row_of_zeros_has_no_penalty() -> None:
    """Its scale is next to nothing, so the slope half-way between its levels would be next to infinite."""
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 0.1
    weight[1] = 0
    book = make_codebook(weight, BandSpec(4, "uniform", "row"))
    total, gradient = book.penalty(weight)
    assert total.isfinite() and gradient[1].abs().max() == 0 and gradient.abs().amax(1)[[0, 2, 3]].min() > 0
    assert gradient.abs().max() < 1e4
    weight[1] = weight[0] / 50  # small weights are weights
    _, gradient = make_codebook(weight, BandSpec(4, "lloyd-max", "row", zero=True)).penalty(weight)
    assert gradient[1].abs().max() > 0
    empty = torch.zeros(2, 3)
    assert [float(x.abs().sum()) for x in make_codebook(empty, BandSpec(4, "uniform")).penalty(empty)] == [0, 0]
