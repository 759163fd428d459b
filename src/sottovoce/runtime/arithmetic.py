"""The arithmetic of packed models, down to the bit: every other implementation must give the same float32 numbers.

Each function is a fixed sequence of IEEE float32 (or, where said, float64) operations, rounded one by one to nearest,
ties to even: no fused multiply-add, no library exp or tanh, no sum whose order depends on the shape of a batch. NumPy's
elementwise operations keep to that, so a vector gives the same bits alone, in a batch, or strided. Polynomials are in
Horner form; their coefficients were fitted by ourselves for the least largest error and are exact as written here.
Inputs must be finite, except that sigmoid, tanh and exp take infinities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError

Floats = NDArray[np.float32]

MAX_COLUMNS = 65_536  # 65,536 * 127 * 128 < 2**31: an int32 accumulator cannot overflow
_BLOCK = 1024  # 1,024 * 127 * 128 < 2**24: float32 adds such integers exactly, in any order
_LIMIT = np.float32(127)
_ONE, _HALF, _TWO = np.float32(1), np.float32(0.5), np.float32(2)

_EXP_MIN, _EXP_MAX = np.float32(-87), np.float32(88)  # inside these, 2**k and the result are normal numbers
_LOG2_E = np.float32(1.442695)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444e-4)  # k * high is exact for |k| < 2**15
_EXP = [np.float32(c) for c in (0.49999994, 0.1666652, 0.041668393, 0.008368781, 0.0013814465)]
_TANH_MAX = np.float32(9)  # 1 - tanh(9) is 3e-8; here the quotient below passes 1, so saturation is exact
_TANH_P = [np.float32(c) for c in (1.0, 0.1337972, 0.003494037, 2.0583519e-05, 1.331912e-08)]
_TANH_Q = [np.float32(c) for c in (1.0, 0.46713036, 0.025871083, 0.0003283097, 7.76204e-07)]
_GELU_CUBE, _GELU_SCALE = np.float32(0.044715), np.float32(0.7978846)  # sqrt(2 / pi)
_SQRT_HALF = np.float32(0.70710677)
_LOG = [
    np.float32(c)
    for c in (0.33333328, -0.25001067, 0.20001648, -0.16616283, 0.14189126, -0.13209331, 0.1286178, -0.07636008)
]


def round_activations(x: Floats) -> tuple[Floats, Floats]:
    """As quantize_activations, but the integers stay in float32, which is what the exact product below reads."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / _LIMIT
    scale[scale == 0] = _ONE  # all zeros, or so small that the scale itself vanishes
    q = np.rint(x / scale)
    np.clip(q, -_LIMIT, _LIMIT, out=q)  # a subnormal scale is coarse enough for x / scale to pass 127
    return q, scale


def quantize_activations(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """int8 activations with one scale a vector: x float32 (..., K), K > 0 -> q int8 (..., K), s float32 (..., 1).

    s = max|x| / 127, or 1 where that is 0; q = rint(x / s), half to even, always in [-127, 127]. x is about q * s.
    """
    q, scale = round_activations(x)
    return q.astype(np.int8), scale


def check_columns(columns: int, name: str = "matrix") -> None:
    """Raises FormatError, naming the matrix, where an int32 accumulator could overflow."""
    if columns > MAX_COLUMNS:
        raise FormatError(f"{name}: at most {MAX_COLUMNS} columns can be summed in int32, found {columns}")


def exact_product(q: Floats, levels: Floats) -> Floats:
    """Integers held in float32, q (N, K) in [-127, 127], levels (R, K) in [-128, 127] -> float32(q @ levels.T) (N, R).

    The sum is exact, then rounded once, as float32(int32) is. BLAS does the work: inside a block of 1,024 columns no
    partial sum passes 2**24, so its order of additions does not matter.
    """
    columns = q.shape[1]
    if columns <= _BLOCK:
        product: Floats = np.matmul(q, levels.T)
        return product
    total = np.zeros((q.shape[0], levels.shape[0]))
    for start in range(0, columns, _BLOCK):
        total += np.matmul(q[:, start : start + _BLOCK], levels[:, start : start + _BLOCK].T)
    return total.astype(np.float32)


def int_matmul(q: NDArray[np.int8], levels: NDArray[np.int8]) -> NDArray[np.int32]:
    """Exact integer product: q int8 (N, K) without -128, levels int8 (R, K) -> int32 (N, R); K <= 65,536."""
    check_columns(q.shape[1])
    total = np.zeros((q.shape[0], levels.shape[0]), np.int32)
    for start in range(0, q.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        total += np.matmul(q[:, block].astype(np.float32), levels[:, block].astype(np.float32).T).astype(np.int32)
    return total


def _horner(coefficients: Sequence[np.float32], x: Floats) -> Floats:
    y = x * coefficients[-1]
    y += coefficients[-2]
    for c in reversed(coefficients[:-2]):
        y *= x
        y += c
    return y


def tanh(x: Floats) -> Floats:
    """x * P(x^2) / Q(x^2) on [-9, 9], clipped to [-1, 1]; odd; within 4e-7 of tanh; exactly 1 from 9 on. Any shape."""
    x = np.clip(x, -_TANH_MAX, _TANH_MAX)
    square = x * x
    y = _horner(_TANH_P, square)
    y *= x
    y /= _horner(_TANH_Q, square)
    return np.clip(y, -_ONE, _ONE, out=y)


def sigmoid(x: Floats) -> Floats:
    """0.5 * tanh(0.5 * x) + 0.5; within 3e-7; sigmoid(-x) + sigmoid(x) is 1 up to one rounding. Any shape."""
    y = tanh(x * _HALF)
    y *= _HALF
    y += _HALF
    return y


def lstm_cell(gates: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Gates i, f, g, o before their functions, float32 (N, 4H), c float32 (N, H) -> new h and c: c' = f * c + i * g;
    h' = o * tanh(c')."""
    units = c.shape[1]
    opened = sigmoid(gates[:, : 2 * units])  # input and forget gates
    c = opened[:, units:] * c
    c += opened[:, :units] * tanh(gates[:, 2 * units : 3 * units])
    h = tanh(c)
    h *= sigmoid(gates[:, 3 * units :])
    return h, c


def gelu(x: Floats, tanh: Callable[[Floats], Floats] = tanh) -> Floats:
    """0.5 x (1 + tanh(0.7978846 (x + 0.044715 x^3))), the tanh form of Hendrycks and Gimpel (arXiv 1606.08415).

    In this order: x * x, * 0.044715, + 1, * x, * 0.7978846, tanh, + 1, * x, * 0.5. Any shape;
    ``tanh`` may be another implementation of the one above.
    """
    inner = x * x
    inner *= _GELU_CUBE
    inner += _ONE
    inner *= x
    inner *= _GELU_SCALE
    y = tanh(inner)
    y += _ONE
    y *= x
    y *= _HALF
    return y


def exp(x: Floats) -> Floats:
    """2^k * (1 + r + r^2 P(r)), k = rint(x log2 e), r = (x - k * high) - k * low; relative error under 1.5e-7.

    Below -87 the result is 0; above 88 it stays at exp(88). Any shape.
    """
    inside = np.clip(x, _EXP_MIN, _EXP_MAX)
    k = np.rint(inside * _LOG2_E)
    r = inside - k * _LN2_HIGH
    r -= k * _LN2_LOW
    y = _horner(_EXP, r)
    y *= r * r
    y += r
    y += _ONE
    power = ((k.astype(np.int32) + 127) << 23).view(np.float32)
    y *= power
    return np.where(x < _EXP_MIN, np.float32(0), y)


def log(x: Floats) -> Floats:
    """Natural logarithm of positive normal numbers: x = m * 2^k, f = m - 1, m in [0.707, 1.414). Any shape.

    In this order: f^3 P(f), + k * low, - f^2 / 2, + f, + k * high. Relative error under 2e-7.
    """
    mantissa: Floats
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    f = np.where(low, mantissa * _TWO, mantissa) - _ONE
    k = (exponent - low).astype(np.float32)
    square = f * f
    y = _horner(_LOG, f)
    y *= f * square
    y += k * _LN2_LOW
    y -= square * _HALF
    y += f
    y += k * _LN2_HIGH
    return y


def ordered_sum(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis strictly in index order: (..., K) -> (..., 1). NumPy's own sum adds by pairs."""
    running: NDArray[np.float64] = np.add.accumulate(x, axis=-1)
    return running[..., -1:]


def log_softmax(x: Floats) -> Floats:
    """(x - m) - log(float32(sum exp(x - m))), the sum in float64 in index order, m the maximum. x float32 (..., V)."""
    peak: Floats = x.max(axis=-1, keepdims=True)
    shifted = x - peak
    total = ordered_sum(exp(shifted).astype(np.float64)).astype(np.float32)
    return shifted - log(total)


def log_softmax_at(x: Floats, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> Floats:
    """Some entries of ``log_softmax(x)``, x float32 (M, V): those at rows (K,) and targets (K,), float32 (K,)."""
    peak: Floats = x.max(axis=-1, keepdims=True)
    total = ordered_sum(exp(x - peak).astype(np.float64)).astype(np.float32)
    found: Floats = (x[rows, targets] - peak[rows, 0]) - log(total)[rows, 0]
    return found


def layer_norm(x: Floats, weight: Floats, bias: Floats, eps: float = 1e-5) -> Floats:
    """Layer norm over the last axis: x float32 (..., K), weight and bias float32 (K,).

    Mean and variance are float64 sums in index order, divided by K; (x - mean) / sqrt(variance + eps) is float64,
    then rounded to float32, times weight, plus bias.
    """
    wide = x.astype(np.float64)
    wide -= ordered_sum(wide) / x.shape[-1]
    variance = ordered_sum(wide * wide) / x.shape[-1]
    wide /= np.sqrt(variance + eps)
    y = wide.astype(np.float32)
    y *= weight
    y += bias
    return y
