"""Refusing a joint tensor that would not fit, before it is allocated."""

import os
from pathlib import Path

import torch

from sottovoce.errors import ConfigError

_COPIES = 2  # the logits and their gradient
_SMALL = 64 << 20  # bytes; below this the system is not asked, so that the check costs nothing in a training loop
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def check_joint_memory(
    n: int,
    t: int,
    u: int,
    v: int,
    dtype: torch.dtype,
    limit_bytes: int | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Refuse a joint (n, t, u + 1, v) that does not fit in memory together with its gradient.

    Args:
        n, t, u, v: utterances, encoder frames, labels of the longest utterance, vocabulary with blank.
        dtype: of the joiner's output.
        limit_bytes: the most that it may take; by default what is free on ``device``.
        device: where it will be allocated.

    Raises:
        ConfigError: it does not fit; names the sizes and the way out.
    """
    needed = _COPIES * n * t * (u + 1) * v * dtype.itemsize
    if limit_bytes is None:
        if needed < _SMALL:
            return
        limit_bytes = available_bytes(torch.device(device))
    if needed > limit_bytes:
        name = str(dtype).removeprefix("torch.")
        raise ConfigError(
            f"joint of {n} utterances x {t} frames x {u + 1} label positions x {v} tokens ({name}) "
            f"with its gradient needs {_gibibytes(needed)}, expected at most {_gibibytes(limit_bytes)}: "
            "use a smaller batch, more subsampling or shorter utterances"
        )


def available_bytes(device: torch.device) -> int:
    """Bytes that a new allocation on this device can have; the cgroup's limit counts on the CPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch's allocator keeps and does not use serves the next allocation too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_system_bytes(), _cgroup_bytes(_CGROUP))


def _system_bytes() -> int:
    """MemAvailable where the kernel tells it (free pages alone leave out the page cache), else all physical memory."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_bytes(folder: Path) -> int:
    """What the container's limit leaves (cgroup version 2), or a number larger than any memory where there is none."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        cache = _inactive_file_bytes((folder / "memory.stat").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1 << 62
    return max(0, limit - used + cache)


def _inactive_file_bytes(stat: str) -> int:
    """Page cache that the kernel gives back under pressure, though it counts as used."""
    for line in stat.splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"
