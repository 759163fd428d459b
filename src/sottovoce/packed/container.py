"""A safetensors file that vouches for each of its bytes.

Any safetensors reader opens it. Two entries of ``__metadata__`` are ours: ``crc32``, at a fixed place at the very start
of the header, is the CRC-32 of the eight length bytes and the whole header with its own eight digits as zeros;
``sottovoce`` is a JSON object whose key ``crc32`` holds the CRC-32 of each tensor's bytes. Tensors lie without gaps,
wider types first, so that every one is aligned. The same content gives the same bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed.mapping import release_pages
from sottovoce.packed.replacing import replacing
from sottovoce.packed.strict_json import dump_json, load_object, short

DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

MAX_HEADER = 64 << 20
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 31
MAX_ELEMENTS = 1 << 40
MAX_NAME = 512

_HEAD = b'{"__metadata__":{"crc32":"'
_ZEROS = b"0" * 8
_DIGITS = slice(8 + len(_HEAD), 8 + len(_HEAD) + len(_ZEROS))


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: ``begin`` to ``end`` are bytes of the file's data part."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Container:
    """An open file: tensor entries, our JSON object without its checksums, and the mapped bytes; nothing is copied."""

    entries: Mapping[str, TensorEntry]
    fields: Mapping[str, Any]
    checksums: Mapping[str, str]
    raw: NDArray[np.uint8]  # (file bytes,)
    data_start: int

    def array(self, name: str) -> NDArray[Any]:
        """The tensor as a read-only view of the mapped file."""
        entry = self.entries[name]
        return self._slice(entry).view(entry.dtype).reshape(entry.shape)

    def check_sums(self) -> None:
        """Raises FormatError naming the first tensor whose bytes differ from its CRC-32."""
        for name, entry in self.entries.items():
            data = self._slice(entry)
            if f"{zlib.crc32(data.data):08x}" != self.checksums[name]:
                raise FormatError(f"tensor {name} does not match its checksum: the file is damaged")
            release_pages(data)

    def _slice(self, entry: TensorEntry) -> NDArray[np.uint8]:
        return self.raw[self.data_start + entry.begin : self.data_start + entry.end]


def write_container(path: Path, arrays: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]) -> None:
    """Write arrays and a JSON object (any key but ``crc32``) to ``path``, whole or not at all.

    Raises FormatError for a dtype outside the allow-list or fields that are not JSON; OSError as ``open`` does.
    """
    ordered = {name: _storable(name, arrays[name]) for name in sorted(arrays)}
    names = sorted(ordered, key=lambda name: (-ordered[name].itemsize, name))
    sums = {name: f"{zlib.crc32(_bytes(array).data):08x}" for name, array in ordered.items()}
    header = _header({name: ordered[name] for name in names}, sums, fields)
    with replacing(path) as stream:
        stream.write(header)
        for name in names:
            stream.write(_bytes(ordered[name]).data)


def container_bytes(arrays: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]) -> int:
    """Bytes that ``write_container`` would write, whatever the arrays' values: they may be views of a single zero."""
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    sums = dict.fromkeys(sorted(arrays), _ZEROS.decode())
    header = _header({name: arrays[name] for name in names}, sums, fields)
    return len(header) + sum(array.nbytes for array in arrays.values())


def read_container(path: Path) -> Container:
    """Map a file and check its header, layout and limits; ``check_sums`` then checks the data.

    Raises FormatError, one line, for whatever is not exactly the format above; OSError as ``open`` does.
    """
    size = path.stat().st_size
    if size < 8:
        raise FormatError(f"expected a model file of at least 8 bytes, found {size}")
    raw = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    head = _checked_head(raw)
    header = load_object(head.tobytes(), "header")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {"crc32", "sottovoce"}:
        raise FormatError(f"header: expected metadata entries crc32 and sottovoce, found {short(metadata)}")
    if not isinstance(metadata["sottovoce"], str):
        raise FormatError(f"header: expected metadata sottovoce to be text, found {short(metadata)}")
    data_start = 8 + len(head)
    entries = _entries(header, len(raw) - data_start)
    fields = load_object(metadata["sottovoce"].encode("utf-8", "surrogatepass"), "metadata")
    checksums = fields.pop("crc32", None)
    _check_names(entries, checksums)
    return Container(entries, fields, checksums, raw, data_start)


def check_name(name: str) -> None:
    """Raises FormatError unless a tensor's name can stand in a line of text."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise FormatError(f"tensor {short(name)}: expected a name of 1 to {MAX_NAME} printable characters")


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    check_name(name)
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise FormatError(f"tensor {name}: expected one of {', '.join(map(str, _NAMES))}, found {array.dtype}")
    # Unlike ascontiguousarray, this keeps a scalar's shape.
    return np.asarray(array, dtype=dtype, order="C")


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _header(arrays: Mapping[str, NDArray[Any]], sums: Mapping[str, str], fields: Mapping[str, Any]) -> bytes:
    """The length and the header, its checksum in place. ``sums``: the CRC-32 of each tensor."""
    metadata = {"crc32": _ZEROS.decode(), "sottovoce": dump_json({**fields, "crc32": sums}, sort=True)}
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, array in arrays.items():
        end = at + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    body = dump_json(header, sort=False).encode("ascii")
    body += b" " * (-len(body) % 8)
    if len(body) > MAX_HEADER:
        raise FormatError(f"header: expected at most {MAX_HEADER} bytes, found {len(body)}")
    whole = bytearray(len(body).to_bytes(8, "little") + body)
    whole[_DIGITS] = f"{zlib.crc32(whole):08x}".encode()
    return bytes(whole)


def _checked_head(raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The header's bytes, (H,), once length and checksum agree; nothing of it is parsed before."""
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if length > MAX_HEADER:
        raise FormatError(f"not a Sottovoce model file: header: expected at most {MAX_HEADER} bytes, found {length}")
    if length > len(raw) - 8:
        raise FormatError(f"header: expected {length} bytes, found {len(raw) - 8}: the file is cut short")
    whole = bytearray(raw[: 8 + length].tobytes())
    if whole[8 : 8 + len(_HEAD)] != _HEAD or len(whole) < _DIGITS.stop:
        raise FormatError("not a Sottovoce model file: no checksum at the start of its header")
    stated = bytes(whole[_DIGITS])
    whole[_DIGITS] = _ZEROS
    if stated != f"{zlib.crc32(whole):08x}".encode():
        raise FormatError("header does not match its checksum: the file is damaged")
    return raw[8 : 8 + length]


def _entries(header: Mapping[str, Any], data_bytes: int) -> dict[str, TensorEntry]:
    if len(header) > MAX_TENSORS:
        raise FormatError(f"expected at most {MAX_TENSORS} tensors, found {len(header)}")
    entries = {name: _entry(name, value) for name, value in header.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise FormatError(f"tensor {name}: expected to begin at byte {at}, found {entry.begin}")
        at = entry.end
    if at != data_bytes:
        raise FormatError(f"expected {at} bytes of data, found {data_bytes}: the file is cut short or overlong")
    return entries


def _entry(name: str, value: Any) -> TensorEntry:
    check_name(name)
    where = f"tensor {name}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: expected dtype, shape and data_offsets, found {short(value)}")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise FormatError(f"{where}: expected dtype {', '.join(DTYPES)}, found {short(value['dtype'])}")
    shape = integers(where, "shape", value["shape"], MAX_DIMENSION)
    offsets = integers(where, "data_offsets", value["data_offsets"], 1 << 62)
    if len(shape) > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise FormatError(f"{where}: expected at most {MAX_DIMENSIONS} dimensions and {MAX_ELEMENTS} elements")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise FormatError(f"{where}: data_offsets {short(list(offsets))} do not fit shape {short(list(shape))}")
    return TensorEntry(dtype, shape, offsets[0], offsets[1])


def integers(where: str, key: str, value: Any, limit: int) -> tuple[int, ...]:
    """A list of integers in [0, limit] as a tuple. Raises FormatError otherwise, also for booleans."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= limit for item in value):
        raise FormatError(f"{where}: expected {key} to be integers from 0 to {limit}, found {short(value)}")
    return tuple(value)


def _check_names(entries: Mapping[str, TensorEntry], checksums: Any) -> None:
    if not isinstance(checksums, dict):
        raise FormatError(f"metadata: expected crc32 of each tensor, found {short(checksums)}")
    for name in sorted(set(entries) ^ set(checksums)):
        found = "a tensor without a checksum" if name in entries else "a checksum without its tensor"
        raise FormatError(f"tensor {short(name)}: found {found}")
