"""What a run was made with: versions of the libraries that its numbers go through, and the machine's kind."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sottovoce.version import __version__

_LIBRARIES = ("torch", "lightning", "lhotse", "numpy", "safetensors", "sentencepiece", "kaldi-native-fbank")


def environment() -> dict[str, Any]:
    """Versions by name, None for a library that is not there; Python, system and processor."""
    return {
        "sottovoce": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
        "system": platform.system(),
        "machine": platform.machine(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
