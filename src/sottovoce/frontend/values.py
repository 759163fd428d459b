"""What comes in from outside, checked once: anything array-like, as contiguous float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import DataError

Floats = NDArray[np.float32]

LARGEST = 1e10
"""The largest value taken: far beyond any sound or feature, and no power of it leaves float32."""


def checked_samples(samples: ArrayLike) -> Floats:
    """Samples float32 (S,) of floats in [-1, 1], or of int16, whose full scale 32768 becomes 1.

    Raises DataError for other types, for more than one channel, and for values that are not finite or beyond 1e10.
    """
    array = _array(samples, "samples")
    if array.dtype == np.int16:
        array = array.astype(np.float32) / np.float32(32_768)
    if array.dtype.kind != "f":
        raise DataError(f"samples: expected floats in [-1, 1] or int16, found {array.dtype}")
    if array.ndim != 1:
        raise DataError(f"samples: expected one channel, shape (S,), found shape {array.shape}")
    return _finite(array, "samples")


def checked_features(features: ArrayLike, dim: int) -> Floats:
    """Features float32 (T, dim). Raises DataError for another shape, no numbers, and for values that are not finite or
    beyond 1e10."""
    array = _array(features, "features")
    if array.dtype.kind not in "fiu":
        raise DataError(f"features: expected numbers, found {array.dtype}")
    if array.ndim != 2 or array.shape[1] != dim:
        raise DataError(f"features: expected shape (T, {dim}), found {array.shape}")
    return _finite(array, "features")


def _array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name}: not an array of numbers ({' '.join(str(error).split())})") from None


def _finite(array: NDArray[Any], name: str) -> Floats:
    peak = float(np.abs(array).max(initial=0))
    if not peak <= LARGEST:
        if np.isfinite(peak):
            raise DataError(f"{name}: expected numbers of at most {LARGEST:g}, found {peak:g}")
        raise DataError(f"{name}: expected finite numbers, found NaN or infinity")
    return np.ascontiguousarray(array, np.float32)
