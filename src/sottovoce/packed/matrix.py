"""The one form of a compressed weight: ``scale[group] * levels[code]``, in bands of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed.bits import (
    MAX_BITS,
    largest_code,
    pack_codes,
    padding_is_zero,
    row_blocks,
    row_bytes,
    unpack_codes,
)
from sottovoce.packed.mapping import release_pages

Grouping = Literal["tensor", "gate", "row"]
GROUPINGS: tuple[str, ...] = get_args(Grouping)
MAX_KIND = 64
Scale = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Band:
    """Rows ``start`` to ``stop - 1`` of a matrix, with levels and bits of their own.

    ``levels`` int8 (K,), strictly increasing, K <= 2**bits; ``scale`` float16 or float32 (G,), finite and above zero,
    row r of the band uses entry ``r // (rows / G)``; ``codes`` uint8 (rows, row_bytes), see ``packed.bits``.
    ``kind`` names the table that made the levels; it is information only.
    """

    start: int
    stop: int
    bits: int
    kind: str
    grouping: Grouping
    levels: NDArray[np.int8]
    scale: Scale
    codes: NDArray[np.uint8]

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def nbytes(self) -> int:
        """Bytes of codes, levels and scale."""
        return self.codes.nbytes + self.levels.nbytes + self.scale.nbytes

    def row_scale(self) -> NDArray[np.float32]:
        """The scale of each row of the band, float32 (rows,)."""
        return np.repeat(self.scale.astype(np.float32), self.rows // len(self.scale))


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A weight of ``shape`` (R, ...), seen as R rows of prod(shape[1:]) columns; its bands tile the rows in order."""

    shape: tuple[int, ...]
    bands: tuple[Band, ...]

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def columns(self) -> int:
        return prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of codes, levels and scales."""
        return sum(band.nbytes for band in self.bands)

    @property
    def bits_per_weight(self) -> float:
        """All bytes of the matrix, levels and scales included, in bits for each weight."""
        return 8 * self.nbytes / (self.rows * self.columns)

    def decode(self) -> NDArray[np.float32]:
        """The weights, float32 of ``shape``: float32(scale) * float32(level), as training finished."""
        weights = np.empty((self.rows, self.columns), np.float32)
        for band, block, codes in self._blocks():
            rows = slice(band.start + block.start, band.start + block.stop)
            values = band.levels.astype(np.float32)[codes]
            np.multiply(values, band.row_scale()[block, None], out=weights[rows])
        return weights.reshape(self.shape)

    def level_matrix(self) -> NDArray[np.int8]:
        """The level of each weight, int8 (R, C): what an integer kernel multiplies."""
        levels = np.empty((self.rows, self.columns), np.int8)
        for band, block, codes in self._blocks():
            levels[band.start + block.start : band.start + block.stop] = band.levels[codes]
        return levels

    def row_scale(self) -> NDArray[np.float32]:
        """The scale of each row, float32 (R,)."""
        return np.concatenate([band.row_scale() for band in self.bands])

    def check_layout(self, name: str) -> None:
        """Raises FormatError, naming the tensor, unless shapes, dtypes and counts agree; reads no value."""
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise FormatError(f"{name}: expected a shape of two or more dimensions, none empty, found {self.shape}")
        at = 0
        for k, band in enumerate(self.bands):
            if band.start != at or band.stop <= at:
                raise FormatError(f"{name}.{k}: expected rows from {at} on, found rows {band.start} to {band.stop}")
            at = band.stop
            _check_layout(f"{name}.{k}", band, self.columns)
        if at != self.rows:
            raise FormatError(f"{name}: expected bands over all {self.rows} rows, found them over {at}")

    def validate(self, name: str) -> None:
        """Raises FormatError, naming the tensor, unless layout, levels, scales and codes all agree."""
        self.check_layout(name)
        for k, band in enumerate(self.bands):
            _check_values(f"{name}.{k}", band, self.columns)
            release_pages(band.codes)

    def _blocks(self) -> Iterator[tuple[Band, slice, NDArray[np.uint8]]]:
        for band in self.bands:
            for block in row_blocks(band.rows, self.columns):
                yield band, block, unpack_codes(band.codes[block], self.columns, band.bits)


def make_band(
    codes: NDArray[np.uint8],
    levels: NDArray[np.int8],
    scale: Scale,
    bits: int,
    kind: str,
    grouping: str,
    start: int = 0,
) -> Band:
    """A band from unpacked codes, uint8 (rows, C), levels int8 (K,) and scale float16 or float32 (G,).

    Raises FormatError where they do not agree.
    """
    packed = pack_codes(codes, bits)
    band = Band(start, start + len(codes), bits, kind, cast(Grouping, grouping), levels, scale, packed)
    _check_layout("band", band, codes.shape[1])
    _check_values("band", band, codes.shape[1])
    return band


def _check_layout(name: str, band: Band, columns: int) -> None:
    if not 1 <= band.bits <= MAX_BITS:
        raise FormatError(f"{name}: expected 1 to {MAX_BITS} bits, found {band.bits}")
    if not band.kind.isprintable() or len(band.kind) > MAX_KIND:
        raise FormatError(f"{name}: expected a kind of at most {MAX_KIND} printable characters")
    expected = (band.rows, row_bytes(columns, band.bits))
    _expect(f"{name}.codes", band.codes, "uint8", band.codes.shape == expected, f"{expected}")
    most = 1 << band.bits
    fits = band.levels.ndim == 1 and 1 <= len(band.levels) <= most
    _expect(f"{name}.levels", band.levels, "int8", fits, f"1 to {most} levels")
    _expect(f"{name}.scale", band.scale, "float16 float32", band.scale.ndim == 1, "one dimension")
    _check_groups(name, band)


def _expect(name: str, array: NDArray[Any], dtypes: str, fits: bool, shape: str) -> None:
    if str(array.dtype) not in dtypes.split() or not fits:
        kinds = dtypes.replace(" ", " or ")
        raise FormatError(f"{name}: expected {kinds} of {shape}, found {array.dtype} {array.shape}")


def _check_groups(name: str, band: Band) -> None:
    if band.grouping not in GROUPINGS:
        raise FormatError(f"{name}: expected grouping {' or '.join(GROUPINGS)}, found {band.grouping!r}")
    groups = len(band.scale)
    if groups != {"tensor": 1, "row": band.rows}.get(band.grouping, groups) or groups < 1 or band.rows % groups:
        raise FormatError(f"{name}.scale: {groups} entries do not fit grouping {band.grouping} over {band.rows} rows")


def _check_values(name: str, band: Band, columns: int) -> None:
    if np.any(np.diff(band.levels.astype(np.int16)) <= 0):
        raise FormatError(f"{name}.levels: expected strictly increasing levels, found {band.levels.tolist()[:16]}")
    wrong = ~(np.isfinite(band.scale) & (band.scale > 0))
    if np.any(wrong):
        at = int(np.argmax(wrong))
        raise FormatError(f"{name}.scale: expected finite values above zero, found {float(band.scale[at])} at {at}")
    if not padding_is_zero(band.codes, columns, band.bits):
        raise FormatError(f"{name}.codes: expected zero bits after the last code of a row, found others")
    count = len(band.levels)
    # Where every code has a level there is nothing to look for.
    if count < 1 << band.bits and (largest := largest_code(band.codes, columns, band.bits)) >= count:
        raise FormatError(f"{name}.codes: expected codes below the {count} levels, found {largest}")
