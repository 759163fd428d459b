"""What the memory of this machine can deliver."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sottovoce.runtime.kernels import compiled_path

_READ_BYTES = 256 << 20  # beyond any cache
_READS = 5


def read_bandwidth(num_threads: int = 1, kernel: str = "") -> float:
    """Bytes a second that the kernels read from memory, the best of several passes, each thread its own part.

    Raises ConfigError without the compiled kernels, or for a path that cannot be run here.
    """
    native, path = compiled_path(kernel)
    parts = np.array_split(np.ones(_READ_BYTES // 8, np.int64), num_threads)
    best = float("inf")
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(_READS):
            start = time.perf_counter()
            list(pool.map(lambda part: native.read(part, path), parts))
            best = min(best, time.perf_counter() - start)
    return _READ_BYTES / best
