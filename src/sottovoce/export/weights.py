"""How a compressed weight is written into an ONNX graph: decoded, as its codes, as int8 levels, or in 4-bit blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import ConfigError, did_you_mean
from sottovoce.export.graph import FLOAT, INT32, Graph
from sottovoce.packed import Band, PackedMatrix, row_bytes

WeightForm = Literal["codes", "int8", "int4", "float"]
"""codes: those of the packed file, expanded to floats when the model is loaded: exact, as small as our file.
int8: the levels, a scale a row, and activations rounded as they come: exact weights, for 8-bit arithmetic.
int4: blocks of 32 weights with a scale each, rounded anew where levels are not evenly spaced, and 8-bit activations.
float: float32."""
FORMS: tuple[str, ...] = get_args(WeightForm)
BLOCK = 32
ZERO_LEVEL = np.uint8(128)
_CODES = 8  # codes that fill a whole number of bytes, whatever their width
Tensor = PackedMatrix | NDArray[Any]


def check_form(form: str) -> None:
    """Raises ConfigError for a form of another name."""
    if form not in FORMS:
        raise ConfigError(f"weights: expected one of {', '.join(FORMS)}, found {form!r}{did_you_mean(form, FORMS)}")


def matrix_of(tensor: Tensor) -> NDArray[np.float32]:
    """The decoded float32 values."""
    return tensor.decode() if isinstance(tensor, PackedMatrix) else np.asarray(tensor, np.float32)


def decoded(graph: Graph, name: str, tensor: Tensor) -> str:
    """Nodes that make a weight's float32 values (R, C) from what is stored: the codes of a packed matrix, in exactly
    its bits; a float array as it is. They read constants only, so ONNX Runtime runs them once, at load."""
    if not isinstance(tensor, PackedMatrix):
        return plain(graph, name, tensor)
    bands = [_band(graph, f"{name}.{k}", band, tensor.columns) for k, band in enumerate(tensor.bands)]
    return graph.concat(bands, axis=0)


def plain(graph: Graph, name: str, array: NDArray[Any]) -> str:
    """A float array in the type that it is stored in, as float32."""
    stored = graph.weight(name, array)
    return graph.add("Cast", stored, to=FLOAT) if array.dtype == np.float16 else stored


def _band(graph: Graph, name: str, band: Band, columns: int) -> str:
    levels = graph.add("Cast", graph.weight(f"{name}.levels", band.levels), to=FLOAT)
    values = graph.add("Gather", levels, _codes(graph, name, band, columns))
    scale = plain(graph, f"{name}.scale", band.scale)
    groups = len(band.scale)
    if groups == 1:
        return graph.add("Mul", values, scale)
    grouped = graph.reshape(values, groups, band.rows // groups, columns)
    product = graph.add("Mul", grouped, graph.reshape(scale, groups, 1, 1))
    return graph.reshape(product, band.rows, columns)


def _codes(graph: Graph, name: str, band: Band, columns: int) -> str:
    """Unpacked codes, int32 (rows, C), from little-endian bit streams: eight codes lie in ``bits`` bytes, and each of
    them in at most two neighbouring ones."""
    bits = band.bits
    if bits == _CODES:
        return graph.add("Cast", graph.weight(f"{name}.codes", band.codes), to=INT32)
    groups = -(-columns // _CODES)
    padded = np.zeros((band.rows, groups * bits), np.uint8)
    padded[:, : row_bytes(columns, bits)] = band.codes
    stored = graph.weight(f"{name}.codes", padded.reshape(-1, bits))
    first, shift = np.divmod(np.arange(_CODES) * bits, 8)
    low = graph.add("Gather", stored, graph.integers(*first.tolist()), axis=1)
    high = graph.add("Gather", stored, graph.integers(*np.minimum(first + 1, bits - 1).tolist()), axis=1)
    right, left = (_bytes(graph, x) for x in (shift, np.minimum(8 - shift, 7)))
    low = graph.add("BitShift", low, right, direction="RIGHT")
    high = graph.add("BitShift", high, left, direction="LEFT")
    # Masked, the two have no bit in common: what belongs to other codes is shifted out, and with it what a shift of 7
    # in place of 8 leaves of a byte that is not wanted.
    top = _bytes(graph, np.array([8 - bits]))
    parts = []
    for part in (low, high):
        shifted = graph.add("BitShift", part, top, direction="LEFT")
        parts.append(graph.add("Cast", graph.add("BitShift", shifted, top, direction="RIGHT"), to=INT32))
    rows = graph.reshape(graph.add("Add", *parts), band.rows, groups * _CODES)
    return rows if columns == groups * _CODES else graph.slice(rows, 0, columns, axis=1)


def _bytes(graph: Graph, values: NDArray[Any]) -> str:
    return graph.constant("bytes_" + "_".join(map(str, values.tolist())), values.astype(np.uint8))


@dataclass(frozen=True)
class Int8Weight:
    """levels int8 (R, C), row_scale float32 (R,)."""

    levels: NDArray[np.int8]
    row_scale: NDArray[np.float32]

    def unsigned(self) -> NDArray[np.uint8]:
        """The levels with their zero at ZERO_LEVEL: on x86 without a dot product of bytes (AVX2, AVX-512 without VNNI)
        ONNX Runtime's products of uint8 and int8 saturate in 16 bits; those of uint8 and uint8 are exact everywhere,
        and with a dot product the same kernels compute both."""
        return self.levels.view(np.uint8) ^ ZERO_LEVEL


def int8_weight(tensor: Tensor) -> Int8Weight:
    """The levels and scales of a packed matrix, exact; of a float array, rounded to 127 of its largest in each row."""
    if isinstance(tensor, PackedMatrix):
        return Int8Weight(tensor.level_matrix(), tensor.row_scale())
    values = np.asarray(tensor, np.float32)
    scale = np.abs(values).max(axis=1) / np.float32(127)
    scale[scale == 0] = 1
    return Int8Weight(np.rint(values / scale[:, None]).astype(np.int8), scale)


@dataclass(frozen=True)
class Int4Weight:
    """codes uint8 (R, B, BLOCK // 2), two a byte, the even column low, of the values -8 to 7 plus 8; scale float32 (R,
    B). The last block of a row is filled up with zeros."""

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    columns: int

    def decode(self) -> NDArray[np.float32]:
        """float32 (R, C)."""
        nibbles = np.stack([self.codes & 15, self.codes >> 4], axis=-1).reshape(*self.scale.shape, BLOCK)
        values = (nibbles.astype(np.float32) - 8) * self.scale[..., None]
        return values.reshape(len(values), -1)[:, : self.columns]


def int4_weight(tensor: Tensor) -> Int4Weight:
    """Blocks of 32 columns. Exact where a packed matrix has at most 4 bits and its levels are multiples of one number
    within -8 to 7 times it; else rounded, with the best of a few scales for each block."""
    values = matrix_of(tensor)
    rows, columns = values.shape
    blocks = np.zeros((rows, -(-columns // BLOCK) * BLOCK), np.float32)
    blocks[:, :columns] = values
    blocks = blocks.reshape(rows, -1, BLOCK)
    scale = _even_scale(tensor)
    if scale is None:
        scale = _best_scale(blocks)
    else:
        scale = np.repeat(scale[:, None], blocks.shape[1], axis=1)
    nibbles = (_nibbles(blocks, scale) + 8).astype(np.uint8)
    return Int4Weight(nibbles[..., 0::2] | (nibbles[..., 1::2] << np.uint8(4)), scale, columns)


def _nibbles(blocks: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    nibbles: NDArray[np.float32] = np.clip(np.rint(blocks / scale[..., None]), -8, 7)
    return nibbles


def _even_scale(tensor: Tensor) -> NDArray[np.float32] | None:
    """The step of each row, (R,), where all levels of a packed matrix are -8 to 7 steps; else None."""
    if not isinstance(tensor, PackedMatrix):
        return None
    steps = np.empty(tensor.rows, np.float32)
    for band in tensor.bands:
        levels = band.levels.astype(np.int64)
        step = max(1, int(np.gcd.reduce(levels)))
        if levels.min() < -8 * step or levels.max() > 7 * step:
            return None
        steps[band.start : band.stop] = band.row_scale() * np.float32(step)
    return steps


def _best_scale(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each block (R, B, BLOCK) the one of several scales that rounds with the least squared error, (R, B)."""
    largest: NDArray[np.float32] = np.abs(blocks).max(axis=-1)
    largest[largest == 0] = 1
    best: NDArray[np.float32]
    best, least = np.empty_like(largest), np.full(largest.shape, np.inf, np.float32)
    for divisor in np.linspace(6.0, 9.0, 13, dtype=np.float32):
        for sign in (1, -1):  # the eighth level is on one side only
            scale = sign * largest / divisor
            error = np.square(_nibbles(blocks, scale) * scale[..., None] - blocks).sum(axis=-1)
            better = error < least
            best[better], least[better] = scale[better], error[better]
    return best
