"""Sottovoce: speech recognition under eight bits.

The names below are imported when first used, so that the device side never loads PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.packed import PackedModel
    from sottovoce.quant import BandSpec, BitPlan, load
    from sottovoce.schemes import GQ, PTQ, S8BQAT, Session, StraightThrough, compress, linear_qat
    from sottovoce.training import CompressionCallback

__version__ = "0.1.0"

_HOMES = {
    "PackedModel": "packed",
    "BandSpec": "quant",
    "BitPlan": "quant",
    "load": "quant",
    "GQ": "schemes",
    "PTQ": "schemes",
    "S8BQAT": "schemes",
    "Session": "schemes",
    "StraightThrough": "schemes",
    "compress": "schemes",
    "linear_qat": "schemes",
    "CompressionCallback": "training",
}

__all__ = [
    "GQ",
    "PTQ",
    "S8BQAT",
    "BandSpec",
    "BitPlan",
    "CompressionCallback",
    "PackedModel",
    "Session",
    "StraightThrough",
    "compress",
    "linear_qat",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    return getattr(import_module(f"sottovoce.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
