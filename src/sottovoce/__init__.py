"""Sottovoce: speech recognition under eight bits.

The names below are imported when first used, so that the device side never loads PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sottovoce.version import __version__ as __version__

if TYPE_CHECKING:
    from sottovoce.export import from_pretrained, push_to_hub, save_pretrained
    from sottovoce.losses import Teacher, distillation
    from sottovoce.packed import PackedModel
    from sottovoce.quant import BandSpec, BitPlan, load, sort_rows
    from sottovoce.schemes import ADMM, GQ, PTQ, S8BQAT, Session, StraightThrough, compress, linear_qat
    from sottovoce.search import NAS, SensitivityTable, clusters, describe, search_architecture, sensitivity
    from sottovoce.training import CompressionCallback
    from sottovoce.training.trainer_callback import TrainerCompressionCallback as TrainerCompressionCallback

_HOMES = {
    "from_pretrained": "export",
    "push_to_hub": "export",
    "save_pretrained": "export",
    "PackedModel": "packed",
    "BandSpec": "quant",
    "BitPlan": "quant",
    "load": "quant",
    "sort_rows": "quant",
    "Teacher": "losses",
    "distillation": "losses",
    "ADMM": "schemes",
    "GQ": "schemes",
    "PTQ": "schemes",
    "S8BQAT": "schemes",
    "Session": "schemes",
    "StraightThrough": "schemes",
    "compress": "schemes",
    "linear_qat": "schemes",
    "NAS": "search",
    "SensitivityTable": "search",
    "clusters": "search",
    "describe": "search",
    "search_architecture": "search",
    "sensitivity": "search",
    "CompressionCallback": "training",
    # Not in __all__: a star import must not want transformers.
    "TrainerCompressionCallback": "training.trainer_callback",
}

__all__ = [
    "ADMM",
    "GQ",
    "NAS",
    "PTQ",
    "S8BQAT",
    "BandSpec",
    "BitPlan",
    "CompressionCallback",
    "PackedModel",
    "SensitivityTable",
    "Session",
    "StraightThrough",
    "Teacher",
    "clusters",
    "compress",
    "describe",
    "distillation",
    "from_pretrained",
    "linear_qat",
    "load",
    "push_to_hub",
    "save_pretrained",
    "search_architecture",
    "sensitivity",
    "sort_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    return getattr(import_module(f"sottovoce.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
