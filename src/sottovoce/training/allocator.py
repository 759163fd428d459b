"""glibc's allocator, set for training from inside the process.

By default glibc maps every large tensor anew and gives it back at once, so that each step pays for page faults; keeping
freed memory made CPU training 1.5 to 2 times faster on small recognizers.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make malloc keep and reuse large blocks. Returns whether that took; without glibc nothing is changed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    large = bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) or bool(mallopt(_MMAP_MAX, 0))  # older glibc caps the threshold
    return large and bool(mallopt(_TRIM_THRESHOLD, _LARGEST)) and bool(mallopt(_TOP_PAD, 256 << 20))
