"""Codes of 1 to 8 bits in bytes: a little-endian bit stream for each row, the row padded with zero bits to a byte.

Code c of a row occupies bits ``c * bits`` to ``c * bits + bits - 1`` of the row's stream, lowest bit first; bit i of
the stream is bit ``i % 8`` of byte ``i // 8``. The order depends on no kernel: kernels tile at load.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError

MAX_BITS = 8
_BLOCK = 1 << 21  # codes expanded at once: 16 MiB of single bits
_WINDOWS_EACH = 8  # of these blocks, in windows: what a core's cache holds


def row_bytes(columns: int, bits: int) -> int:
    """Bytes of one packed row. Raises FormatError for bits outside 1..8 or a negative column count."""
    if not 1 <= bits <= MAX_BITS:
        raise FormatError(f"bits: expected 1 to {MAX_BITS}, found {bits}")
    if columns < 0:
        raise FormatError(f"columns: expected 0 or more, found {columns}")
    return (columns * bits + 7) // 8


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows that keep the expanded bits of a block within a few megabytes (one row at the least)."""
    step = max(1, _BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def pack_codes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes, uint8 (R, C), each below 2**bits, to uint8 (R, row_bytes(C, bits)).

    Raises FormatError for another dtype or number of dimensions, or a code that does not fit.
    """
    if codes.dtype != np.uint8 or codes.ndim != 2:
        raise FormatError(f"codes: expected uint8 (R, C), found {codes.dtype} {codes.shape}")
    rows, columns = codes.shape
    packed = np.zeros((rows, row_bytes(columns, bits)), np.uint8)
    if codes.size and int(codes.max()) >> bits:
        raise FormatError(f"codes: expected values below {1 << bits} at {bits} bits, found {int(codes.max())}")
    for block in row_blocks(rows, columns):
        single = np.unpackbits(codes[block, :, None], axis=2, count=bits, bitorder="little")
        packed[block] = np.packbits(single.reshape(single.shape[0], columns * bits), axis=1, bitorder="little")
    return packed


def unpack_codes(packed: NDArray[np.uint8], columns: int, bits: int) -> NDArray[np.uint8]:
    """The codes, uint8 (R, columns), of packed rows, uint8 (R, row_bytes(columns, bits)).

    Raises FormatError when the packed array has another dtype or shape.
    """
    width = row_bytes(columns, bits)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != width:
        raise FormatError(f"codes: expected uint8 (R, {width}), found {packed.dtype} {packed.shape}")
    codes = np.empty((packed.shape[0], columns), np.uint8)
    for block in row_blocks(packed.shape[0], columns):
        single = np.unpackbits(packed[block], axis=1, count=columns * bits, bitorder="little")
        single = single.reshape(single.shape[0], columns, bits)
        codes[block] = np.packbits(single, axis=2, bitorder="little")[:, :, 0]
    return codes


def largest_code(packed: NDArray[np.uint8], columns: int, bits: int) -> int:
    """The largest code of packed rows (R, row_bytes), without unpacking them; -1 where there is none."""
    width = row_bytes(columns, bits)
    if not len(packed) or not width:
        return -1
    tables, used, largest = _window_tables(bits), columns * bits % 8, 0
    for block in row_blocks(len(packed), _WINDOWS_EACH * width):
        windows = packed[block].astype(np.uint16)
        if used:
            windows[:, -1] &= (1 << used) - 1
        windows[:, :-1] |= packed[block, 1:].astype(np.uint16) << np.uint16(8)
        for phase, table in enumerate(tables):
            found = table[windows[:, phase :: len(tables)]]
            largest = max(largest, int(found.max(initial=0)))
    return largest


@cache
def _window_tables(bits: int) -> list[NDArray[np.uint8]]:
    """By byte of a period (the fewest whole bytes that hold whole codes): the largest of the codes that begin in that
    byte, uint8 (65536,), for each value of the 16 bits that begin there and so hold those codes whole."""
    period = bits // gcd(bits, 8)
    window = np.arange(1 << 16)
    tables = [np.zeros(1 << 16, np.uint8) for _ in range(period)]
    for first in range(0, 8 * period, bits):
        codes = (window >> first % 8 & ((1 << bits) - 1)).astype(np.uint8)
        np.maximum(tables[first // 8], codes, out=tables[first // 8])
    return tables


def padding_is_zero(packed: NDArray[np.uint8], columns: int, bits: int) -> bool:
    """Whether the bits after the last code of every row (R, row_bytes) are zero."""
    used = columns * bits % 8
    return used == 0 or not bool(np.any(packed[:, -1] >> used))
