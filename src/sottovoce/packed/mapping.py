"""Pages of a mapped file: they are read once, for a checksum or for a kernel's tiles, and need not stay in memory."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def release_pages(array: NDArray[Any]) -> None:
    """Say that an array is not needed for now; if it is a view of a mapped file, its pages leave this process.

    The array stays valid: what is read again comes from the system's cache, or from the disk.
    """
    mapped = _mapped(array)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED") or not array.nbytes:
        return
    start = array.__array_interface__["data"][0] - mapped.__array_interface__["data"][0]
    first = start - start % mmap.PAGESIZE
    with contextlib.suppress(OSError, ValueError):  # advice only
        mapped.base.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)  # type: ignore[union-attr]


def _mapped(array: NDArray[Any]) -> NDArray[Any] | None:
    """The array that spans the whole read-only mapping which this one is a view of."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner.base, mmap.mmap):
            whole = isinstance(owner, np.memmap) and owner.mode == "r" and owner.offset == 0
            return owner if whole else None
        owner = owner.base
    return None
