"""The arithmetic of an 8-bit accelerator, down to the bit: fixed-point activations, and gates from a table of lines.

After Shakiah et al., "Accelerator-aware training for transducer-based speech recognition" (arXiv 2305.07778): hidden
states are Q1.7, other inputs Q1.7 times a power of two from 1 to 16, activations are rounded toward zero, sigmoid and
tanh are piecewise linear with 8 bits of result. What that leaves open is settled here:

- A vector's power of two is the smallest above its largest magnitude. Hidden states lie inside (-1, 1), so theirs is
  always 1: one rule gives static Q1.7 where the source has it, and nothing needs to be calibrated.
- Integers are in [-127, 127]; what passes the largest power saturates.
- Products are exact integers, rescaled and added to biases in float32, which stands for the accelerator's wide
  fixed-point accumulators; layer norm and log-softmax are float32 too. The sum before a gate is then Q4.12 (16 bits,
  inside (-8, 8)), the cell state Q5.11 (16 bits, inside (-16, 16)).
- tanh is the least of eight lines, mirrored at zero, slopes in 8 bits; its result is Q1.7. sigmoid is the same table,
  (1 + tanh(x / 2)) / 2, with an unsigned result of 8 bits, k / 256.

Every number but a rescaled sum is a small multiple of a power of two: float32 computes on it without rounding, exactly
as integers of 8 to 24 bits would, in any order.
"""

from __future__ import annotations

import numpy as np

from sottovoce.runtime.arithmetic import Floats

_LARGEST_POWER = 4  # 2**4 = 16
_LIMIT = np.float32(127)
_HALF = np.float32(0.5)
_SLOPES = [np.float32(k / 256) for k in (249, 203, 150, 102, 65, 33, 10, 0)]
_OFFSETS = [np.float32(k / 4096) for k in (0, 254, 787, 1474, 2163, 2919, 3632, 4081)]


def _fixed(x: Floats, fraction: int, limit: int = 1) -> Floats:
    """x rounded toward zero to multiples of 2**-fraction, saturated one step inside (-limit, limit)."""
    steps = np.float32(2**fraction)
    most = np.float32(limit - 2.0**-fraction)
    y = np.clip(x, -most, most)
    y *= steps
    np.trunc(y, out=y)
    y /= steps
    return y


def round_activations(x: Floats) -> tuple[Floats, Floats]:
    """x float32 (..., K), K > 0 -> integers q in float32 (..., K), in [-127, 127], and s float32 (..., 1).

    s = p / 128 with the smallest p of 1, 2, 4, 8, 16 above max|x|, or 16; q = x / s, toward zero. x is about q * s.
    """
    _, exponent = np.frexp(np.abs(x).max(axis=-1, keepdims=True))
    scale: Floats = np.ldexp(np.float32(1), np.clip(exponent, 0, _LARGEST_POWER) - 7)
    most = _LIMIT * scale
    q = np.clip(x, -most, most)
    q /= scale
    return np.trunc(q, out=q), scale


def _least_line(x: Floats) -> Floats:
    """tanh(x) within 0.0037, before it is rounded: the curve is concave from zero on, so its lines need no search."""
    magnitude = np.abs(x)
    y: Floats = magnitude * _SLOPES[0]
    for slope, offset in zip(_SLOPES[1:], _OFFSETS[1:], strict=True):
        np.minimum(y, magnitude * slope + offset, out=y)
    return np.copysign(y, x, out=y)


def tanh(x: Floats) -> Floats:
    """k / 128, k in [-127, 127]: within 0.012 of tanh, and odd. Any shape."""
    return _fixed(_least_line(_fixed(x, 12, 8)), 7)


def sigmoid(x: Floats) -> Floats:
    """k / 256, k in [0, 255]: within 0.006 of sigmoid. Any shape."""
    y = _least_line(_fixed(x, 12, 8) * _HALF)
    y *= _HALF
    y += _HALF
    return _fixed(y, 8)


def lstm_cell(gates: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Gates i, f, g, o before their functions, float32 (N, 4H), c float32 (N, H) -> new h in Q1.7 and c in Q5.11."""
    units = c.shape[1]
    opened = sigmoid(gates[:, : 2 * units])
    candidate = tanh(gates[:, 2 * units : 3 * units])
    c = _fixed(opened[:, units:] * c + opened[:, :units] * candidate, 11, 16)
    return _fixed(tanh(c) * sigmoid(gates[:, 3 * units :]), 7), c
