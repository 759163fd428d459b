"""Layers of packed networks on the compiled kernels, one by one: the calls and the bits of ``runtime.layers``.

The recognizer's network is compiled as a whole (``runtime.native``); language models are written once, in Python, over
layers of either kind, since nearly all of their time goes into products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.runtime.arithmetic import Floats, log_softmax, log_softmax_at
from sottovoce.runtime.kernels import NUMPY, check_threads, choose_kernel, compiled_path, native_module, warn_once
from sottovoce.runtime.layers import Dense
from sottovoce.runtime.native import NotPackedError, PackedReader
from sottovoce.runtime.rules import Arithmetic, rules_of
from sottovoce.runtime.tensors import TensorReader

_LOGITS = 1 << 20  # that NumPy works on at once: bounds memory, changes no result

Layer = Callable[[Floats], Floats]
Rows = Callable[[NDArray[np.int64]], Floats]


class Lstm(Protocol):
    """A layer of ``units``: project (M, K) -> (M, 4H), then step (N, 4H), h, c (N, H) -> h, c, a frame at a time."""

    @property
    def units(self) -> int: ...
    def project(self, x: Floats) -> Floats: ...
    def step(self, projected: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]: ...


class Output(Protocol):
    """A dense layer and its log-softmax: x float32 (M, K)."""

    def __call__(self, x: Floats) -> Floats:
        """Log-probabilities of every token, (M, V)."""

    def at(self, x: Floats, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> Floats:
        """Of ``targets`` (K,) after ``rows`` (K,) of x, which rise; never all M x V at once."""


class LayerSource(Protocol):
    """What a network makes its layers from. All raise FormatError naming a tensor that is missing or misshapen."""

    @property
    def kernel(self) -> str: ...
    def floats(self, name: str, *shape: int) -> Floats: ...
    def dense(self, prefix: str, rows: int, columns: int) -> Layer: ...
    def embedding(self, prefix: str, rows: int, columns: int) -> Rows: ...
    def layer_norm(self, prefix: str, width: int) -> Layer: ...
    def lstm(self, prefix: str, layer: int, columns: int, units: int) -> Lstm: ...
    def output(self, prefix: str, rows: int, columns: int) -> Output: ...
    def tanh(self, x: Floats) -> Floats: ...


def layer_source(model: PackedModel, *, arithmetic: Arithmetic = "int8", num_threads: int = 1) -> LayerSource:
    """The model's layers: compiled, where the kernels are there and activations are integers; else
    NumPy's, with the same bits. One RuntimeWarning a process where the kernels are missing and would have run.

    Raises ConfigError for num_threads outside 1 to 256, an unknown arithmetic or a SOTTOVOCE_KERNEL that cannot be
    used.
    """
    check_threads(num_threads)
    integers = rules_of(arithmetic).round is not None
    choice = choose_kernel()
    if choice.name != NUMPY and integers:
        return NativeLayers(model, num_threads=num_threads, kernel=choice.name, arithmetic=arithmetic)
    _, missing = native_module()
    packed = any(isinstance(tensor, PackedMatrix) for tensor in model.tensors.values())
    if missing and not choice.forced and integers and packed:
        warn_once(missing)
    return NumpyLayers(model, rules_of(arithmetic))


@dataclass(frozen=True)
class NumpyLayers(TensorReader):
    """The definition."""

    @property
    def kernel(self) -> str:
        return NUMPY

    def output(self, prefix: str, rows: int, columns: int) -> Output:
        return NumpyOutput(self.dense(prefix, rows, columns))

    def tanh(self, x: Floats) -> Floats:
        return self.rules.tanh(x)


@dataclass(frozen=True)
class NumpyOutput:
    """The definition of an ``Output``."""

    dense: Dense

    def __call__(self, x: Floats) -> Floats:
        return log_softmax(self.dense(x))

    def at(self, x: Floats, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> Floats:
        step = max(1, _LOGITS // len(self.dense.bias))
        edges = np.searchsorted(rows, np.arange(0, len(x) + step, step))
        found = np.empty(len(targets), np.float32)
        for start, (first, last) in zip(range(0, len(x), step), pairwise(edges), strict=False):
            now = slice(first, last)
            found[now] = log_softmax_at(self.dense(x[start : start + step]), rows[now] - start, targets[now])
        return found


class NativeLayers:
    """Layers on one path of the kernels; what is stored as floats runs on NumPy. Each matrix is tiled once, so that
    tied weights share their tiles."""

    def __init__(
        self, model: PackedModel, *, num_threads: int = 1, kernel: str = "", arithmetic: Arithmetic = "int8"
    ) -> None:
        check_threads(num_threads)
        self._arithmetic = arithmetic
        self._module, self.kernel = compiled_path(kernel)
        self._threads = self._module.Threads(num_threads)
        self._numpy = TensorReader(model, rules_of(arithmetic))
        self._packed = PackedReader(self._numpy)
        self._matrices: dict[str, Any] = {}

    def floats(self, name: str, *shape: int) -> Floats:
        return self._numpy.floats(name, *shape)

    def dense(self, prefix: str, rows: int, columns: int) -> Layer:
        try:
            return _Shaped(self._dense(prefix, rows, columns), rows)
        except NotPackedError:
            return self._numpy.dense(prefix, rows, columns)

    def output(self, prefix: str, rows: int, columns: int) -> Output:
        try:
            return _NativeOutput(self._dense(prefix, rows, columns), self._module, self.kernel)
        except NotPackedError:
            return NumpyOutput(self._numpy.dense(prefix, rows, columns))

    def _dense(self, prefix: str, rows: int, columns: int) -> Any:
        weight = self._matrix(f"{prefix}.weight", rows, columns)
        return self._module.Dense(weight, self.floats(f"{prefix}.bias", rows), self._arithmetic)

    def embedding(self, prefix: str, rows: int, columns: int) -> Rows:
        try:
            bands = self._packed.matrix(f"{prefix}.weight", rows, columns)
        except NotPackedError:
            return self._numpy.embedding(prefix, rows, columns)
        return _Lookup(self._module.EmbeddingRows(columns, bands))

    def layer_norm(self, prefix: str, width: int) -> Layer:
        weight, bias = self.floats(f"{prefix}.weight", width), self.floats(f"{prefix}.bias", width)
        return _Shaped(lambda x: self._module.layer_norm(x, weight, bias, kernel=self.kernel), width)

    def lstm(self, prefix: str, layer: int, columns: int, units: int) -> Lstm:
        try:
            weights = [
                self._matrix(f"{prefix}.weight_{part}_l{layer}", 4 * units, width)
                for part, width in (("ih", columns), ("hh", units))
            ]
        except NotPackedError:
            return self._numpy.lstm(prefix, layer, columns, units)
        bias = self.floats(f"{prefix}.bias_ih_l{layer}", 4 * units) + self.floats(
            f"{prefix}.bias_hh_l{layer}", 4 * units
        )
        return _NativeLstm(self._module.LstmLayer(*weights, bias, self._arithmetic))

    def tanh(self, x: Floats) -> Floats:
        return self._module.tanh(np.ascontiguousarray(x).reshape(-1), self.kernel, self._arithmetic).reshape(x.shape)  # type: ignore[no-any-return]

    def _matrix(self, name: str, rows: int, columns: int) -> Any:
        stored = self._numpy.model.aliases.get(name, name)
        if stored not in self._matrices:
            bands = self._packed.matrix(name, rows, columns)
            try:
                self._matrices[stored] = self._module.Matrix(columns, bands, self.kernel, self._threads)
            except ValueError as error:
                raise FormatError(f"{name}: {error}") from error
            self._packed.finished(name)
        else:
            self._numpy.tensor(name, rows, columns)
        return self._matrices[stored]


@dataclass(frozen=True)
class _Shaped:
    """A compiled function of (M, K) as one of (..., K)."""

    run: Callable[[Floats], Floats]
    rows: int

    def __call__(self, x: Floats) -> Floats:
        flat = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
        return self.run(flat).reshape(*x.shape[:-1], self.rows)


@dataclass(frozen=True)
class _NativeOutput:
    dense: Any
    module: Any
    kernel: str

    def __call__(self, x: Floats) -> Floats:
        return self.module.log_softmax(self.dense(np.ascontiguousarray(x)), self.kernel)  # type: ignore[no-any-return]

    def at(self, x: Floats, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> Floats:
        return self.dense.log_softmax_at(np.ascontiguousarray(x), rows, targets)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Lookup:
    run: Callable[[NDArray[np.int64]], Floats]

    def __call__(self, tokens: NDArray[np.int64]) -> Floats:
        return self.run(np.ascontiguousarray(tokens, dtype=np.int64))


@dataclass(frozen=True)
class _NativeLstm:
    layer: Any
    units: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", int(self.layer.units))

    def project(self, x: Floats) -> Floats:
        return self.layer.project(np.ascontiguousarray(x))  # type: ignore[no-any-return]

    def step(self, projected: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
        after: tuple[Floats, Floats] = self.layer.step(*(np.ascontiguousarray(a) for a in (projected, h, c)))
        return after
