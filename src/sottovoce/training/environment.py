"""What a run was made with: versions of the libraries that its numbers go through, and the machine's kind."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from sottovoce.version import __version__

_LIBRARIES = ("torch", "lightning", "lhotse", "numpy", "safetensors", "sentencepiece", "kaldi-native-fbank")


def environment() -> dict[str, Any]:
    """Versions by name, None for a library that is not there; Python, system, processor, and the widest vectors that
    PyTorch computes with there (AVX2, AVX512, ...)."""
    return {
        "sottovoce": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
        "system": platform.system(),
        "machine": platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
