"""The packed file: how matrices, arrays and the tokenizer of a model become the tensors of one safetensors file.

Band k of matrix W is ``W.k.codes`` (U8), ``W.k.levels`` (I8) and ``W.k.scale`` (F16 or F32); other arrays keep their
name; the tokenizer's bytes are ``__tokenizer__`` (U8). The container adds the checksums.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed.bits import MAX_BITS
from sottovoce.packed.container import (
    MAX_DIMENSION,
    Container,
    check_name,
    container_bytes,
    integers,
    read_container,
    write_container,
)
from sottovoce.packed.matrix import Band, Grouping, PackedMatrix
from sottovoce.packed.strict_json import short

VERSION = 1
TOKENIZER = "__tokenizer__"
_PARTS = ("codes", "levels", "scale")
_BAND_PART = re.compile(r"(.+)\.[0-9]+\.(?:codes|levels|scale)", re.DOTALL)
_OBJECTS = ("architecture", "input", "aliases", "provenance", "matrices")
_BAND_KEYS = {"rows", "bits", "kind", "grouping"}

Tensor = PackedMatrix | NDArray[Any]


def write_file(
    path: Path, tensors: Mapping[str, Tensor], tokenizer: bytes | None, fields: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write tensors and the objects architecture, input, aliases and provenance, whole or not at all.

    Raises FormatError, naming file and tensor, for anything that ``read_file`` would refuse.
    """
    with _blaming(path, "written"):
        matrices = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, PackedMatrix)}
        arrays = {name: tensor for name, tensor in tensors.items() if not isinstance(tensor, PackedMatrix)}
        for name, matrix in matrices.items():
            matrix.validate(f"tensor {name}")
        _check_arrays(arrays, matrices)
        _check_aliases(fields["aliases"], tensors)
        stored, declared = _stored(tensors, None if tokenizer is None else np.frombuffer(tokenizer, np.uint8))
        write_container(path, stored, {**fields, "version": VERSION, "matrices": declared})


def stored_bytes(
    tensors: Mapping[str, Tensor], fields: Mapping[str, Mapping[str, Any]], tokenizer_bytes: int | None = None
) -> int:
    """Bytes of the file that ``write_file`` would make, whatever the values of tensors and tokenizer."""
    blank = None if tokenizer_bytes is None else np.broadcast_to(np.zeros((), np.uint8), (tokenizer_bytes,))
    stored, declared = _stored(tensors, blank)
    return container_bytes(stored, {**fields, "version": VERSION, "matrices": declared})


def _stored(
    tensors: Mapping[str, Tensor], tokenizer: NDArray[np.uint8] | None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays that lie in the file, and what the metadata says of the matrices."""
    stored = {name: tensor for name, tensor in tensors.items() if not isinstance(tensor, PackedMatrix)}
    declared = {}
    for name, matrix in tensors.items():
        if isinstance(matrix, PackedMatrix):
            declared[name] = _declare(matrix)
            for k, band in enumerate(matrix.bands):
                stored |= {f"{name}.{k}.{part}": getattr(band, part) for part in _PARTS}
    if tokenizer is not None:
        stored[TOKENIZER] = tokenizer
    return stored, declared


def read_file(path: Path) -> tuple[dict[str, Tensor], bytes | None, dict[str, Any]]:
    """Tensors (views of the mapped file), tokenizer, and the objects that ``write_file`` was given.

    Whatever is declared is checked first: version, shapes, offsets, counts; then the checksums; then levels, scales
    and codes. Raises FormatError: one line with the file and the tensor.
    """
    with _blaming(path, "read"):
        container = read_container(path)
        _check_fields(container.fields)
        matrices = {name: _matrix(container, name, entry) for name, entry in container.fields["matrices"].items()}
        parts = {f"{name}.{k}.{part}" for name in matrices for k in range(len(matrices[name].bands)) for part in _PARTS}
        arrays = {name: container.array(name) for name in container.entries if name not in parts}
        tokenizer = _tokenizer(arrays.pop(TOKENIZER, None))
        tensors: dict[str, Tensor] = {**matrices, **arrays}
        fields = {key: value for key, value in container.fields.items() if key not in ("version", "matrices")}
        _check_aliases(fields["aliases"], tensors)
        container.check_sums()
        _check_arrays(arrays, matrices)
        for name, matrix in matrices.items():
            matrix.validate(f"tensor {name}")
        return tensors, None if tokenizer is None else tokenizer.tobytes(), fields


@contextmanager
def _blaming(path: Path, verb: str) -> Iterator[None]:
    """Put the file's name before an error's line."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be {verb}: {error.strerror or error}") from error


def _declare(matrix: PackedMatrix) -> dict[str, Any]:
    bands = [
        {"rows": [band.start, band.stop], "bits": band.bits, "kind": band.kind, "grouping": band.grouping}
        for band in matrix.bands
    ]
    return {"shape": list(matrix.shape), "bands": bands}


def _check_fields(fields: Mapping[str, Any]) -> None:
    if type(fields.get("version")) is not int or fields["version"] != VERSION:
        raise FormatError(f"metadata: expected format version {VERSION}, found {short(fields.get('version'))}")
    for key in sorted(set(fields) ^ {"version", *_OBJECTS}):
        raise FormatError(f"metadata: {'unknown' if key in fields else 'missing'} key {short(key)}")
    for key in _OBJECTS:
        if not isinstance(fields[key], dict):
            raise FormatError(f"metadata: expected {key} to be an object, found {short(fields[key])}")


def _check_aliases(aliases: Mapping[str, Any], tensors: Collection[str]) -> None:
    for alias, target in aliases.items():
        if alias in tensors or not isinstance(target, str) or target not in tensors:
            raise FormatError(f"aliases: expected {short(alias)} to name another tensor, found {short(target)}")


def _check_arrays(arrays: Mapping[str, NDArray[Any]], matrices: Collection[str]) -> None:
    for name, array in arrays.items():
        check_name(name)
        part = _BAND_PART.fullmatch(name)
        if name.startswith("__") or name in matrices or (part and part[1] in matrices):
            raise FormatError(f"tensor {name}: unknown, or its name is taken")
        # min() is NaN where any entry is, and needs no array of its own.
        if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
            raise FormatError(f"tensor {name}: expected numbers, found NaN")


def _tokenizer(array: NDArray[Any] | None) -> NDArray[Any] | None:
    if array is not None and (array.dtype != np.uint8 or array.ndim != 1):
        raise FormatError(f"tensor {TOKENIZER}: expected uint8 bytes, found {array.dtype} {array.shape}")
    return array


def _matrix(container: Container, name: str, entry: Any) -> PackedMatrix:
    """A matrix over views of the file, its declared sizes checked against the tensors' own; no value is read yet."""
    check_name(name)
    if not isinstance(entry, dict) or set(entry) != {"shape", "bands"} or not isinstance(entry["bands"], list):
        raise FormatError(f"matrix {name}: expected a shape and a list of bands, found {short(entry)}")
    shape = integers(f"matrix {name}", "shape", entry["shape"], MAX_DIMENSION)
    bands = tuple(_band(container, f"{name}.{k}", band) for k, band in enumerate(entry["bands"]))
    matrix = PackedMatrix(shape, bands)
    matrix.check_layout(f"tensor {name}")
    return matrix


def _band(container: Container, name: str, entry: Any) -> Band:
    where = f"band {name}"
    if not isinstance(entry, dict) or set(entry) != _BAND_KEYS:
        raise FormatError(f"{where}: expected {', '.join(sorted(_BAND_KEYS))}, found {short(entry)}")
    rows = integers(where, "rows", entry["rows"], MAX_DIMENSION)
    (bits,) = integers(where, "bits", [entry["bits"]], MAX_BITS)
    kind, grouping = entry["kind"], entry["grouping"]
    if len(rows) != 2 or not isinstance(kind, str) or not isinstance(grouping, str):
        raise FormatError(f"{where}: expected two rows, kind and grouping as text, found {short(entry)}")
    codes, levels, scale = (_part(container, f"{name}.{part}") for part in _PARTS)
    return Band(rows[0], rows[1], bits, kind, cast(Grouping, grouping), levels, scale, codes)


def _part(container: Container, name: str) -> NDArray[Any]:
    if name not in container.entries:
        raise FormatError(f"tensor {name}: declared in the metadata, missing in the file")
    return container.array(name)
