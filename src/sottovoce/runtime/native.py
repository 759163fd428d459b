"""A packed RNN-T on the compiled kernels: the same protocol and the same bits as the NumPy definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.errors import ConfigError, FormatError
from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.packed.architecture import RnntArchitecture
from sottovoce.packed.mapping import release_pages
from sottovoce.runtime.arithmetic import check_columns
from sottovoce.runtime.kernels import check_threads, compiled_path
from sottovoce.runtime.rnnt import encoder_start, predictor_start
from sottovoce.runtime.rules import Arithmetic, rules_of
from sottovoce.runtime.tensors import TensorReader

Band = tuple[int, NDArray[np.int8], Floats, NDArray[np.uint8]]


class NotPackedError(FormatError):
    """A weight is stored as floats, which the kernels do not multiply: NumPy runs such a file."""


@dataclass(frozen=True)
class StreamedBytes:
    """Bytes of weights that are read for one encoder frame (decoded alone), one predictor step, one joiner."""

    encoder: int
    predictor: int
    joiner: int


class NativeRnnt:
    """Runs a packed RNN-T on the kernels; exactly ``PackedRnnt``'s protocol, states and results.

    Weights are tiled once, here, straight from the mapped file, whose pages are dropped again. Products are split
    among num_threads threads. kernel names a path, by default the one in use. Raises FormatError as PackedRnnt does,
    NotPackedError for weights stored as floats, ConfigError for a number of threads outside 1 to 256, a path that
    cannot be run here, or float arithmetic.
    """

    def __init__(
        self, model: PackedModel, *, num_threads: int = 1, kernel: str = "", arithmetic: Arithmetic = "int8"
    ) -> None:
        check_threads(num_threads)
        if rules_of(arithmetic).round is None:
            raise ConfigError(f"arithmetic: the kernels multiply integers, which {arithmetic!r} has none of")
        module, path = compiled_path(kernel)
        self.architecture = RnntArchitecture.from_dict(model.architecture)
        reader = PackedReader(TensorReader(model))
        try:
            self._native = module.Rnnt(self.architecture, reader, path, module.Threads(num_threads), arithmetic)
        except ValueError as error:
            raise FormatError(str(error)) from error

    @property
    def kernel(self) -> str:
        """The path in use."""
        return str(self._native.kernel)

    @property
    def streamed_bytes(self) -> StreamedBytes:
        return StreamedBytes(*self._native.streamed_bytes)

    @property
    def vocabulary(self) -> int:
        return self.architecture.vocabulary

    def encoder_start(self, n: int) -> State:
        return encoder_start(self.architecture, n)

    def encoder_step(self, features: Floats, state: State) -> tuple[Floats, State]:
        """features float32 (N, T, F) -> frames float32 (N, T', J): all that are complete now."""
        frames, after = self._native.encoder_step(_floats(features), _contiguous(state))
        return frames, after

    def encode(self, features: Floats, lengths: Integers) -> tuple[Floats, Integers]:
        """Whole utterances: features (N, T, F) padded at the end, lengths (N,) -> frames (N, T', J), lengths (N,)."""
        frames, _ = self.encoder_step(features, self.encoder_start(len(features)))
        return frames, lengths // self.architecture.subsampling

    def predictor_start(self, n: int) -> State:
        return predictor_start(self.architecture, n)

    def predictor_step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        """tokens int64 (N,), -1 for "no history" -> output float32 (N, J) and the new state."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int64)
        output, after = self._native.predictor_step(tokens, _contiguous(state))
        return output, after

    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        """encoder (N, J), predictor (N, J) -> log-probabilities float32 (N, V)."""
        log_probabilities: Floats = self._native.joiner(_floats(encoder), _floats(predictor))
        return log_probabilities


class PackedReader:
    """What native networks and layers ask for their tensors; whatever is wrong with one raises as it does for NumPy."""

    def __init__(self, read: TensorReader) -> None:
        self._read = read

    def matrix(self, name: str, rows: int, columns: int) -> list[Band]:
        tensor = self._read.tensor(name, rows, columns)
        if not isinstance(tensor, PackedMatrix):
            raise NotPackedError(f"{name}: expected a packed matrix, found {tensor.dtype}")
        check_columns(columns, name)
        return [(band.bits, _whole(band.levels), band.row_scale(), _whole(band.codes)) for band in tensor.bands]

    def floats(self, name: str, count: int) -> Floats:
        return self._read.floats(name, count)

    def finished(self, name: str) -> None:
        tensor = self._read.model.tensor(name)
        if isinstance(tensor, PackedMatrix):
            for band in tensor.bands:
                release_pages(band.codes)


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array)


def _floats(array: Floats) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float32)


def _contiguous(state: State) -> State:
    return tuple(_floats(array) for array in state)
