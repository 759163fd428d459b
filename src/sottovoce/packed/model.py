"""A model as it is shipped: packed matrices, plain arrays, tokenizer and settings, in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed.file import read_file, write_file
from sottovoce.packed.matrix import PackedMatrix


@dataclass(frozen=True, eq=False)
class PackedModel:
    """Parameter names to packed matrices or plain arrays (float16, float32, integers), and what is needed to run them.

    ``architecture`` describes the network, ``input`` what goes in (waveform settings or features), ``tokenizer`` is the
    tokenizer's own bytes, ``aliases`` maps the name of a tied weight to the name it is stored under, ``provenance``
    says how the model came about. The mappings hold what JSON can hold.
    """

    tensors: Mapping[str, PackedMatrix | NDArray[Any]]
    architecture: Mapping[str, Any] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: bytes | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the file of docs/design.md section 6, whole or not at all; the same model gives the same bytes.

        Raises FormatError, naming file and tensor, for a model that could not be loaded again.
        """
        fields = {
            "architecture": dict(self.architecture),
            "input": dict(self.input),
            "aliases": dict(self.aliases),
            "provenance": dict(self.provenance),
        }
        write_file(Path(path), self.tensors, self.tokenizer, fields)

    def tensor(self, name: str) -> PackedMatrix | NDArray[Any]:
        """The stored tensor, an alias followed. Raises FormatError for an unknown name."""
        stored = self.aliases.get(name, name)
        if stored not in self.tensors:
            raise FormatError(f"tensor {name}: the model has none of that name")
        return self.tensors[stored]

    def decode(self, name: str) -> NDArray[np.float32]:
        """The float32 values of a matrix or of a plain array, aliases followed. Raises FormatError if unknown."""
        tensor = self.tensor(name)
        return tensor.decode() if isinstance(tensor, PackedMatrix) else np.asarray(tensor, np.float32)

    @property
    def parameters(self) -> int:
        """Weights in matrices and entries of float arrays; tied weights count once, integer arrays do not count."""
        return sum(_count(tensor) for tensor in self.tensors.values())

    @property
    def fp32_bytes(self) -> int:
        """Bytes that the parameters would take as float32."""
        return 4 * self.parameters

    @property
    def average_bits(self) -> float:
        """Bits of a packed weight on average, levels and scales not counted; 32 where nothing is packed."""
        matrices = [tensor for tensor in self.tensors.values() if isinstance(tensor, PackedMatrix)]
        bands = [(band.rows * matrix.columns, band.bits) for matrix in matrices for band in matrix.bands]
        return sum(n * bits for n, bits in bands) / sum(n for n, _ in bands) if bands else 32.0

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, without tokenizer and metadata."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def _count(tensor: PackedMatrix | NDArray[Any]) -> int:
    if isinstance(tensor, PackedMatrix):
        return tensor.rows * tensor.columns
    return tensor.size if tensor.dtype.kind == "f" else 0


def load_model(path: str | Path) -> PackedModel:
    """Open a packed file; its tensors are read-only views of the mapped file, copied only when decoded.

    Raises FormatError, one line with file and tensor, for a file that is damaged, of another version or inconsistent.
    """
    tensors, tokenizer, fields = read_file(Path(path))
    return PackedModel(tensors=tensors, tokenizer=tokenizer, **fields)


def trained_hash(path: str | Path) -> str:
    """Sixteen hex digits of a model's file as training left it: a blank penalty that it holds does not count, for it is
    chosen afterwards, and what began from the file goes on. Raises FormatError as ``load_model`` does."""
    model = load_model(path)
    if "blank_penalty" not in model.architecture:
        return _file_digest(Path(path))
    architecture = {key: value for key, value in model.architecture.items() if key != "blank_penalty"}
    with TemporaryDirectory() as folder:
        before = Path(folder) / "model.safetensors"
        replace(model, architecture=architecture).save(before)
        return _file_digest(before)


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class FileSizes:
    """Bytes on disk: the whole file, the file less its tokenizer, and the same parameters as float32."""

    file_bytes: int
    model_bytes: int
    fp32_bytes: int


def file_sizes(path: str | Path) -> FileSizes:
    """Sizes of a saved model. Raises FormatError as ``load_model`` does."""
    model = load_model(path)
    file_bytes = Path(path).stat().st_size
    return FileSizes(file_bytes, file_bytes - len(model.tokenizer or b""), model.fp32_bytes)
