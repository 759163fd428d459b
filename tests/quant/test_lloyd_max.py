"""Lloyd-Max against brute force and known solutions; the snap to the int8 grid against its definition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.quant.lloyd_max import lloyd_max, power_of_two_scale, snap_to_grid
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.spec import BandSpec


def error(values: np.ndarray, levels: np.ndarray) -> float:
    return float(((values[:, None] - levels[None]) ** 2).min(1).sum())


def optimum(values: np.ndarray, count: int) -> float:
    """Least squared error over every split of the sorted values into intervals."""
    values = np.sort(values)
    best = np.inf
    for cuts in combinations(range(1, len(values)), count - 1):
        parts = np.split(values, cuts)
        best = min(best, sum(float(((p - p.mean()) ** 2).sum()) for p in parts))
    return best


def test_two_levels_of_a_gaussian() -> None:
    # The optimal 2-level quantizer of N(0, 1) has levels +-sqrt(2 / pi) = 0.7979 (Max 1960, table I).
    normal = torch.distributions.Normal(0.0, 1.0)
    levels = lloyd_max(normal.icdf((torch.arange(100_000) + 0.5) / 100_000), 2)
    assert levels.tolist() == pytest.approx([-0.7979, 0.7979], abs=1e-3)


def test_four_levels_of_a_gaussian() -> None:
    # Max 1960, table I: 0.4528 and 1.510.
    normal = torch.distributions.Normal(0.0, 1.0)
    levels = lloyd_max(normal.icdf((torch.arange(100_000) + 0.5) / 100_000), 4)
    assert levels.tolist() == pytest.approx([-1.510, -0.4528, 0.4528, 1.510], abs=2e-3)


def test_well_separated_clusters_are_found() -> None:
    centres = torch.tensor([-3.0, -1.0, 0.5, 4.0])
    points = (centres[:, None] + torch.linspace(-0.01, 0.01, 11)).flatten()
    assert torch.allclose(lloyd_max(points, 4).float(), centres, atol=1e-6)


@settings(max_examples=40)
@given(st.lists(st.integers(-40, 40), min_size=4, max_size=11, unique=True), st.integers(2, 4))
def test_close_to_the_global_optimum_and_a_fixed_point(points: list[int], count: int) -> None:
    values = np.array(points, dtype=np.float64)
    levels = lloyd_max(torch.tensor(values), count).numpy()
    # Lloyd's alternation finds a local optimum: never better than brute force, and no worse than one cell for all.
    assert optimum(values, count) - 1e-6 <= error(values, levels) <= float(((values - values.mean()) ** 2).sum()) + 1e-6
    edges = (levels[1:] + levels[:-1]) / 2
    cells = np.searchsorted(edges, values, side="right")
    for k in set(cells.tolist()):
        assert levels[k] == pytest.approx(values[cells == k].mean(), abs=1e-3)


def test_symmetric_levels_mirror_and_hold_zero() -> None:
    w = torch.randn(5000, generator=torch.Generator().manual_seed(0)) ** 3
    odd = lloyd_max(w, 7, symmetric=True)
    assert torch.equal(odd, -odd.flip(0)) and odd[3] == 0 and len(odd) == 7
    even = lloyd_max(w, 8, symmetric=True)
    assert torch.equal(even, -even.flip(0)) and len(even) == 8 and (even != 0).all()


def test_fewer_values_than_levels_still_gives_levels() -> None:
    levels = lloyd_max(torch.tensor([0.5, 0.5, -0.25]), 8)
    assert len(levels) == 8 and {0.5, -0.25} <= {round(x, 6) for x in levels.tolist()}
    assert len(lloyd_max(torch.zeros(5), 4)) == 4


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 levels"):
        lloyd_max(torch.ones(3), 1)
    with pytest.raises(ValueError, match="0 weights"):
        lloyd_max(torch.ones(0), 4)
    with pytest.raises(ValueError, match="256 levels"):
        snap_to_grid(torch.linspace(-1, 1, 257))


@settings(max_examples=200)
@given(st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=256))
def test_snapped_levels_are_distinct_sorted_and_on_the_grid(values: list[float]) -> None:
    points = snap_to_grid(torch.tensor(values, dtype=torch.float64)).to(torch.int64)
    assert len(points) == len(values)
    assert (points.diff() >= 1).all() and points[0] >= -128 and points[-1] <= 127


def test_snap_keeps_what_is_on_the_grid_and_moves_duplicates_outward() -> None:
    on_grid = torch.tensor([-64.0, -3, 0, 5, 127]) / 128
    assert snap_to_grid(on_grid).tolist() == [-64, -3, 0, 5, 127]
    assert snap_to_grid(torch.tensor([0.1, 0.1, 0.1]) / 10).tolist() == [1, 2, 3]
    assert snap_to_grid(torch.tensor([-0.01, -0.01])).tolist() == [-2, -1]
    assert snap_to_grid(torch.tensor([0.99, 1.5, 1.7])).tolist() == [125, 126, 127]


@settings(max_examples=200)
@given(st.lists(st.floats(0, 1.5), min_size=1, max_size=127), st.booleans())
def test_symmetric_levels_snap_to_mirrored_points(above: list[float], zero: bool) -> None:
    half = torch.tensor(above, dtype=torch.float64)
    levels = torch.cat([-half.flip(0), torch.zeros(int(zero), dtype=torch.float64), half])
    points = snap_to_grid(levels, symmetric=True).to(torch.int64)
    assert len(points) == len(levels) and (points.diff() >= 1).all() and points[-1] <= 127
    assert points.tolist() == (-points.flip(0)).tolist() and (0 in points) == zero


def test_symmetric_snap_keeps_what_is_on_the_grid() -> None:
    assert snap_to_grid(torch.tensor([-64.0, -3, 3, 64]) / 128, symmetric=True).tolist() == [-64, -3, 3, 64]
    assert snap_to_grid(torch.tensor([-0.001, 0.001]), symmetric=True).tolist() == [-1, 1]
    assert snap_to_grid(torch.tensor([-1.5, 0, 1.5]), symmetric=True).tolist() == [-127, 0, 127]


@pytest.mark.parametrize("power", [1.0, 1.5, 3.0])
def test_mirrored_levels_of_symmetric_weights_lose_nothing(power: float) -> None:
    normal = torch.randn(40_000, generator=torch.Generator().manual_seed(2))
    weight = normal.sign() * normal.abs() ** power
    error = {}
    for symmetric in (False, True):
        levels = lloyd_max(weight, 32, symmetric=symmetric)
        edges = (levels[1:] + levels[:-1]) / 2
        error[symmetric] = float((weight - levels[torch.bucketize(weight.double(), edges)]).square().mean())
    assert error[True] < 1.02 * error[False]


def test_five_bits_have_sixteen_magnitudes() -> None:
    weight = torch.randn(200, 100, generator=torch.Generator().manual_seed(1)) ** 3 + 0.1
    for grouping in ("tensor", "row"):
        levels = make_codebook(weight, BandSpec(5, grouping=grouping)).levels
        assert len(levels) == 32 and levels.abs().unique().numel() == 16
        assert levels.tolist() == (-levels.flip(0)).tolist()
    assert make_codebook(weight, BandSpec(4)).levels.abs().unique().numel() > 8


@settings(max_examples=60)
@given(st.floats(1e-4, 100.0))
def test_power_of_two_scale_is_the_smallest_that_holds_the_levels(largest: float) -> None:
    scale = power_of_two_scale(torch.tensor([-largest / 2, largest], dtype=torch.float64))
    assert np.log2(scale) == int(np.log2(scale))
    assert round(largest * 128 / scale) <= 127
    assert largest * 128 / (scale / 2) > 127.4
