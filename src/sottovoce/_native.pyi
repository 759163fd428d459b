"""The compiled kernels. Arrays are C-contiguous; anything else raises ValueError, one line, as an unknown kernel does.

``kernel`` is a name of ``kernel_paths``; empty means $SOTTOVOCE_KERNEL, or else the best that this machine can run.
A band is (bits, levels int8 (L,), row_scale float32 (rows,), codes uint8 (rows, row_bytes)), as in packed.Band.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Band = tuple[int, NDArray[np.int8], Floats, NDArray[np.uint8]]

def cpu_features() -> list[tuple[str, bool]]:
    """What paths are chosen by on this architecture, and whether the processor has it."""

def kernel_paths() -> list[tuple[str, bool]]:
    """All kernel paths, the fastest first, and whether this machine can run them."""

def kernel_name() -> str:
    """The path that is used where none is named."""

class Threads:
    """1 to 256 threads that share the rows of a product."""

    def __init__(self, threads: int) -> None: ...
    @property
    def size(self) -> int: ...

class Matrix:
    """A packed matrix in tiles, made at once; the bands are not needed afterwards. One thread unless given more."""

    def __init__(
        self, columns: int, bands: Sequence[Band], kernel: str = "", threads: Threads | None = None
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def kernel(self) -> str: ...
    @property
    def tile_bytes(self) -> int: ...
    def product(self, x: Floats) -> Floats:
        """IntegerWeight.product: x (N, K), quantized here -> (N, R)."""

    def integer_product(self, q: NDArray[np.int8], scale: Floats) -> Floats:
        """The same of activations that are quantized: q (N, K) without -128, scale (N, 1)."""

class Dense:
    """layers.Dense for x (N, K)."""

    def __init__(self, weight: Matrix, bias: Floats) -> None: ...
    def __call__(self, x: Floats) -> Floats: ...

class LstmLayer:
    """layers.LstmLayer; arguments are never changed."""

    def __init__(self, input_weight: Matrix, recurrent_weight: Matrix, bias: Floats) -> None: ...
    @property
    def units(self) -> int: ...
    def project(self, x: Floats) -> Floats:
        """The input product, x (N, K) -> (N, 4H)."""

    def step(self, projected: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]: ...
    def __call__(self, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]: ...

class EmbeddingRows:
    """layers.EmbeddingRows, decoding rows when they are looked up; an id beyond the table raises IndexError."""

    def __init__(self, columns: int, bands: Sequence[Band]) -> None: ...
    def __call__(self, tokens: NDArray[np.int64]) -> Floats: ...

class Joiner:
    """log_softmax(output(tanh(encoder + predictor)))."""

    def __init__(self, output: Dense) -> None: ...
    def log_probabilities(self, encoder: Floats, predictor: Floats) -> Floats: ...
    def best(self, encoder: Floats, predictor: Floats) -> tuple[NDArray[np.int64], Floats]:
        """argmax of log_probabilities, the first of equals, and its log-probability: (N,) each."""

class TensorReader(Protocol):
    """Where Rnnt reads its tensors; what these raise goes through."""

    def matrix(self, name: str, rows: int, columns: int) -> list[Band]: ...
    def floats(self, name: str, count: int) -> Floats: ...
    def finished(self, name: str) -> None:
        """The matrix was tiled: its codes are not needed any more."""

class Rnnt:
    """rnnt.PackedRnnt; architecture is a packed.RnntArchitecture. Arguments are never changed."""

    def __init__(
        self, architecture: object, reader: TensorReader, kernel: str = "", threads: Threads | None = None
    ) -> None: ...
    @property
    def kernel(self) -> str: ...
    @property
    def streamed_bytes(self) -> tuple[int, int, int]:
        """Bytes of tiles that one encoder frame, one predictor step and one joiner read."""

    def encoder_step(self, features: Floats, state: tuple[Floats, ...]) -> tuple[Floats, tuple[Floats, ...]]: ...
    def predictor_step(
        self, tokens: NDArray[np.int64], state: tuple[Floats, ...]
    ) -> tuple[Floats, tuple[Floats, ...]]: ...
    def joiner(self, encoder: Floats, predictor: Floats) -> Floats: ...

def read(words: NDArray[np.int64], kernel: str = "") -> int:
    """Reads words (N,) as products read weights, and returns their exclusive or: for measuring bandwidth."""

def quantize_activations(x: Floats, kernel: str = "") -> tuple[NDArray[np.int8], Floats]: ...
def exp(x: Floats, kernel: str = "") -> Floats: ...
def log(x: Floats, kernel: str = "") -> Floats: ...
def tanh(x: Floats, kernel: str = "") -> Floats: ...
def sigmoid(x: Floats, kernel: str = "") -> Floats: ...
def log_softmax(x: Floats, kernel: str = "") -> Floats: ...
def layer_norm(x: Floats, weight: Floats, bias: Floats, eps: float = 1e-5, kernel: str = "") -> Floats: ...
