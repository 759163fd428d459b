"""Fixed point against plain integers: what an accelerator with shifters, adders and multipliers would compute."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_rnnt import SMALL, random_matrix, random_model

from sottovoce.runtime import PackedRnnt
from sottovoce.runtime.accelerator import lstm_cell, round_activations, sigmoid, tanh
from sottovoce.runtime.layers import LstmLayer, as_weight
from sottovoce.runtime.rules import rules_of

finite = st.floats(-(2.0**120), 2.0**120, width=32)
near = st.floats(-40, 40, width=32)
LINES = [(249, 0), (203, 254), (150, 787), (102, 1474), (65, 2163), (33, 2919), (10, 3632), (0, 4081)]


def toward_zero(value: float, fraction: int, limit: int) -> int:
    """The integer of a fixed-point number with so many bits after the point."""
    most = limit * 2**fraction - 1
    return max(-most, min(most, math.trunc(value * 2**fraction)))


def shifted(value: int, places: int) -> int:
    """Divided by 2**places, toward zero."""
    return int(math.copysign(abs(value) >> places, value))


def line_table(x: int, fraction: int) -> int:
    """tanh of x / 2**fraction, in units of 2**-(fraction + 8)."""
    magnitude = abs(x)
    return min(slope * magnitude + (offset << (fraction + 8 - 12)) for slope, offset in LINES) * (-1 if x < 0 else 1)


def integer_tanh(x: int, fraction: int) -> int:
    """Q1.7."""
    return shifted(line_table(x, fraction), fraction + 1)


def integer_sigmoid(x: int) -> int:
    """x in Q4.12 -> 8 bits without a sign: x / 2 has 13 bits after the point, its tanh 21, half of one plus that 22."""
    return (line_table(x, 13) + (1 << 21)) >> 14


@settings(max_examples=300)
@given(near)
def test_gates_are_integer_arithmetic(x: float) -> None:
    q = toward_zero(x, 12, 8)
    assert tanh(np.float32([x]))[0] == integer_tanh(q, 12) / 128
    assert sigmoid(np.float32([x]))[0] == integer_sigmoid(q) / 256


@settings(max_examples=300)
@given(st.lists(near, min_size=4, max_size=4), st.integers(-32767, 32767))
def test_the_cell_is_integer_arithmetic(gates: list[float], state: int) -> None:
    i, f, g, o = (toward_zero(x, 12, 8) for x in gates)
    kept = (integer_sigmoid(f) * state) + (integer_sigmoid(i) * integer_tanh(g, 12) << 4)  # 19 bits after the point
    c = max(-32767, min(32767, shifted(kept, 8)))
    clipped = max(-(8 * 2048) + 1, min(8 * 2048 - 1, c))  # what the table's input of Q4.12 holds; one bit finer
    clipped = toward_zero(c / 2048, 12, 8) if abs(c) >= 8 * 2048 else clipped << 1
    h = shifted(integer_sigmoid(o) * integer_tanh(clipped, 12), 8)
    found_h, found_c = lstm_cell(np.float32([gates]), np.float32([[state / 2048]]))
    assert found_c[0, 0] * 2048 == c
    assert found_h[0, 0] * 128 == h


def test_tables_are_near_the_curves_monotonic_and_within_eight_bits() -> None:
    x = np.linspace(-12, 12, 200_001).astype(np.float32)
    for found, curve, steps, error in (
        (tanh(x), np.tanh(x.astype(np.float64)), 128, 0.012),
        (sigmoid(x), 1 / (1 + np.exp(-x.astype(np.float64))), 256, 0.006),
    ):
        assert np.abs(found - curve).max() < error
        assert np.all(np.diff(found) >= 0)
        np.testing.assert_array_equal(found * steps, np.rint(found * steps))
        assert np.all(np.abs(found) <= (steps - 1) / steps)
    np.testing.assert_array_equal(tanh(-x), -tanh(x))


@settings(max_examples=300)
@given(st.lists(finite, min_size=1, max_size=20))
def test_activations_are_the_smallest_power_of_two_toward_zero(values: list[float]) -> None:
    x = np.float32(values)
    q, scale = round_activations(x[None])
    largest = float(np.abs(x).max())
    power = next((p for p in (1, 2, 4, 8, 16) if largest < p), 16)
    assert scale[0, 0] == power / 128
    expected = [max(-127, min(127, math.trunc(float(v) * 128 / power))) for v in x]
    np.testing.assert_array_equal(q[0], expected)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_hidden_states_are_static_q1_7(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = rules_of("accelerator")
    weights = [as_weight(random_matrix(rng, 24, k), "weight", rules) for k in (5, 6)]
    layer = LstmLayer(*weights, rng.normal(0, 3, 24).astype(np.float32), rules.lstm_cell)
    outputs, _, c = layer(rng.normal(0, 5, (2, 30, 5)).astype(np.float32), *np.zeros((2, 2, 6), np.float32))
    q, scale = round_activations(outputs)
    assert np.all(scale == np.float32(1 / 128))
    np.testing.assert_array_equal(q * scale, outputs)  # nothing is lost on the way to the next product
    np.testing.assert_array_equal(c * 2048, np.rint(c * 2048))
    assert np.abs(c).max() < 16


def test_a_network_stays_near_its_int8_self() -> None:
    model = random_model(SMALL, 4)
    features = np.random.default_rng(0).normal(0, 1, (4, 60, SMALL.features)).astype(np.float32)
    frames = [
        PackedRnnt(model, arithmetic=name).encode(features, np.full(4, 60))[0]
        for name in ("float", "int8", "accelerator")
    ]
    deviation = frames[0].std()
    assert 0 < np.abs(frames[1] - frames[0]).std() < np.abs(frames[2] - frames[0]).std() < 0.1 * deviation
