"""Packed matrices for the tests of the kernels, and their product by the NumPy definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sottovoce.packed import Band, PackedMatrix, make_band

Floats = NDArray[np.float32]


def make_matrix(rng: np.random.Generator, columns: int, *bands: tuple[int, int], full: bool = False) -> PackedMatrix:
    """Bands of (bits, rows) with random levels and scales a row.

    Levels are any, or (every other time) +-x of few magnitudes; if ``full``, all 2**bits of them, -128 among them.
    """
    made: list[Band] = []
    for bits, rows in bands:
        at = made[-1].stop if made else 0
        count = 1 << bits if full else int(rng.integers(1, (1 << bits) + 1))
        if rng.random() < 0.5:
            magnitudes = rng.permutation(128)[: max(count // 2, 1)] + 1
            levels = np.sort(np.append(magnitudes[magnitudes < 128], -magnitudes))[:count].astype(np.int8)
            count = len(levels)
        else:
            levels = np.sort(rng.permutation(256)[:count] - 128).astype(np.int8)
        if full:
            levels[0] = -128
        codes = rng.integers(0, count, (rows, columns)).astype(np.uint8)
        scale = rng.uniform(1e-3, 1e-1, rows).astype(np.float32)
        made.append(make_band(codes, levels, scale, bits, "test", "row", at))
    return PackedMatrix((made[-1].stop, columns), tuple(made))


def native_bands(matrix: PackedMatrix) -> list[tuple[int, NDArray[np.int8], Floats, NDArray[np.uint8]]]:
    """The bands as sottovoce._native takes them."""
    return [(band.bits, band.levels, band.row_scale(), band.codes) for band in matrix.bands]


def same_bits(a: Floats, b: Floats) -> bool:
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and bytes(a.data) == bytes(b.data)
