"""The arithmetic against float64, and its independence of shapes and strides."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sottovoce.errors import FormatError
from sottovoce.runtime import arithmetic
from sottovoce.runtime.arithmetic import (
    exact_product,
    exp,
    int_matmul,
    layer_norm,
    log,
    log_softmax,
    quantize_activations,
    round_activations,
    sigmoid,
    tanh,
)

GRID = np.concatenate(
    [np.linspace(-20, 20, 200_001), np.geomspace(1e-40, 100, 5_001), -np.geomspace(1e-40, 100, 5_001)]
).astype(np.float32)
finite = st.floats(-(2.0**100), 2.0**100, width=32)


def test_tanh_is_near_and_odd_and_saturates() -> None:
    assert np.abs(tanh(GRID) - np.tanh(GRID.astype(np.float64))).max() < 5e-7
    np.testing.assert_array_equal(tanh(-GRID), -tanh(GRID))
    np.testing.assert_array_equal(tanh(np.float32([-np.inf, -1e30, 0, 1e30, np.inf])), np.float32([-1, -1, 0, 1, 1]))


def test_sigmoid_is_near_and_symmetric_and_saturates() -> None:
    wide = GRID.astype(np.float64)
    assert np.abs(sigmoid(GRID) - 1 / (1 + np.exp(-wide))).max() < 3e-7
    assert np.abs(sigmoid(GRID).astype(np.float64) + sigmoid(-GRID) - 1).max() < 1.2e-7
    np.testing.assert_array_equal(sigmoid(np.float32([-np.inf, -40, 0, 40, np.inf])), np.float32([0, 0, 0.5, 1, 1]))


def test_exp_is_near_and_vanishes_below() -> None:
    x = GRID[np.abs(GRID) < 80]
    reference = np.exp(x.astype(np.float64))
    assert (np.abs(exp(x) - reference) / reference).max() < 1.5e-7
    np.testing.assert_array_equal(exp(np.float32([-np.inf, -1e30, -88, 0])), np.float32([0, 0, 0, 1]))
    top = exp(np.float32([88, 1e30, np.inf]))
    assert np.isfinite(top).all()
    assert (top == top[0]).all()


def test_log_is_near() -> None:
    x = np.geomspace(1e-37, 1e38, 200_001).astype(np.float32)
    reference = np.log(x.astype(np.float64))
    assert (np.abs(log(x) - reference) / np.maximum(np.abs(reference), 1e-3)).max() < 2e-7
    assert log(np.float32([1]))[0] == 0


def test_large_inputs_raise_no_warnings() -> None:
    x = np.float32([-np.inf, -3e38, -1e-45, 0, 1e-45, 3e38, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (tanh, sigmoid, exp):
            assert np.isfinite(function(x)).all()
        log_softmax(np.float32([[-3e38, 0.0, 1e30]]))
        quantize_activations(np.float32([[1e-45, 0.0], [3e38, -3e38]]))


def test_bits_of_the_functions_are_pinned() -> None:
    """Golden bits: another implementation, or a changed order of operations, must not pass unseen."""
    x = np.float32([-3.3, -0.7, -0.01, 0.3, 1.9, 6.5])
    golden = {
        tanh: ["bf7f4df0", "bf1ab7d9", "bc23d5a3", "3e9526ed", "3f74cbfb", "3f7fffb3"],
        sigmoid: ["3d11b318", "3ea9e34b", "3efeb853", "3f130eaa", "3f5eb136", "3f7f9d9e"],
        exp: ["3d1712ce", "3efe406e", "3f7d73e8", "3facc82c", "40d5f2d8", "44264911"],
    }
    for function, bits in golden.items():
        assert [f"{v:08x}" for v in function(x).view(np.uint32)] == bits, function.__name__
    positive = np.float32([1e-3, 0.3, 0.9, 1.7, 33.0, 1e5])
    expected = ["c0dd0c55", "bf9a1bc8", "bdd7c745", "3f07d741", "405fc6c8", "413834f1"]
    assert [f"{v:08x}" for v in log(positive).view(np.uint32)] == expected


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9), elements=finite))
def test_activations_are_int8_with_half_even_rounding(x: np.ndarray) -> None:
    q, s = quantize_activations(x)
    assert q.dtype == np.int8
    assert q.shape == x.shape
    assert s.shape == (*x.shape[:-1], 1)
    assert q.min() >= -127
    normal = np.abs(x).max(axis=-1) > 1e-30
    assert (np.abs(q).max(axis=-1)[normal] == 127).all()  # the largest entry uses the whole range
    assert (s > 0).all()
    near = np.abs(q.astype(np.float64) * s - x) <= 0.5001 * s
    assert near[normal].all()  # a subnormal scale is coarse: x / s may pass 127, and is clipped


def test_activations_by_hand() -> None:
    q, s = quantize_activations(np.float32([[127, 0.5, 1.5, 2.5, -0.5, -126.5], [0, 0, 0, 0, 0, 0]]))
    np.testing.assert_array_equal(q, np.int8([[127, 0, 2, 2, 0, -126], [0] * 6]))
    np.testing.assert_array_equal(s, np.float32([[1], [1]]))


def test_subnormal_activations_stay_in_range() -> None:
    q, _ = quantize_activations(np.float32([[1e-45, -1e-45], [2e-43, -2e-43], [1e-40, 3e-41]]))
    assert q.min() >= -127


@given(st.integers(1, 5), st.sampled_from([1, 7, 1023, 1024, 1025, 3000]), st.integers(1, 6), st.integers(0, 999))
def test_integer_products_are_exact(n: int, columns: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.choice(np.array([-127, 127, 3], np.int8), (n, columns))
    levels = rng.choice(np.array([-128, 127, 5], np.int8), (rows, columns))
    expected = q.astype(np.int64) @ levels.astype(np.int64).T
    got = int_matmul(q, levels)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)
    rounded = exact_product(q.astype(np.float32), levels.astype(np.float32))
    np.testing.assert_array_equal(rounded, expected.astype(np.float32))


def test_the_worst_sum_fits_int32_and_more_columns_are_refused() -> None:
    q, levels = np.full((1, 65_536), -127, np.int8), np.full((1, 65_536), -128, np.int8)
    assert int_matmul(q, levels)[0, 0] == 65_536 * 127 * 128
    assert exact_product(q.astype(np.float32), levels.astype(np.float32))[0, 0] == 65_536 * 127 * 128
    with pytest.raises(FormatError, match="65536 columns"):
        int_matmul(np.ones((1, 65_537), np.int8), np.ones((1, 65_537), np.int8))


def test_log_softmax_is_near() -> None:
    x = np.random.default_rng(0).normal(0, 8, (50, 400)).astype(np.float32)
    wide = x.astype(np.float64)
    peak = wide.max(-1, keepdims=True)
    reference = wide - peak - np.log(np.exp(wide - peak).sum(-1, keepdims=True))
    assert np.abs(log_softmax(x) - reference).max() < 1e-5
    np.testing.assert_allclose(np.exp(log_softmax(x).astype(np.float64)).sum(-1), 1, atol=1e-5)


def test_layer_norm_is_near_and_sums_in_index_order() -> None:
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(0.5, 2, shape).astype(np.float32) for shape in ((7, 300), (300,), (300,)))
    wide = x.astype(np.float64)
    reference = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) * w + b
    assert np.abs(layer_norm(x, w, b) - reference).max() < 2e-6
    # 2^53 + 1 + 1 is 2^53 in index order; any pairing gives 2^53 + 2.
    assert arithmetic.ordered_sum(np.array([[2.0**53, 1.0, 1.0]]))[0, 0] == 2.0**53


FUNCTIONS: list[Callable[[np.ndarray], np.ndarray]] = [
    tanh,
    sigmoid,
    exp,
    lambda x: log(np.abs(x) + np.float32(1e-3)),
    log_softmax,
    lambda x: layer_norm(x, np.ones(x.shape[-1], np.float32), np.zeros(x.shape[-1], np.float32)),
    lambda x: round_activations(x)[0],
    lambda x: round_activations(x)[1],
]


@pytest.mark.parametrize("function", FUNCTIONS)
@given(n=st.integers(1, 9), columns=st.integers(1, 70), seed=st.integers(0, 999))
def test_a_vector_gives_the_same_bits_alone_and_in_a_batch(
    function: Callable[[np.ndarray], np.ndarray], n: int, columns: int, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(0, 5, (n, columns)).astype(np.float32)
    whole = function(x)
    strided = np.empty((n, 2 * columns + 1), np.float32)[:, 1::2]
    strided[:] = x
    np.testing.assert_array_equal(function(strided), whole)
    np.testing.assert_array_equal(function(np.asfortranarray(x)), whole)
    for i in range(n):
        np.testing.assert_array_equal(function(x[i : i + 1]), whole[i : i + 1])
