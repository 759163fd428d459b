"""The peers by name, and whether they compute the same network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

import numpy as np

from sottovoce.errors import ConfigError, did_you_mean
from sottovoce.evaluation.turns import SteppedNetwork, Steps
from sottovoce.packed import PackedModel
from sottovoce.runtime import PackedRnnt

INT8_PEERS = ("torch-int8", "onnxruntime-int8")
PEERS = (*INT8_PEERS, "onnxruntime-fp32")
_LIBRARIES = {
    "torch-int8": ("torch",),
    "onnxruntime-int8": ("onnx", "onnxruntime"),
    "onnxruntime-fp32": ("onnx", "onnxruntime"),
}


class Peer(SteppedNetwork, Protocol):
    """The same network in another engine."""

    @property
    def description(self) -> str:
        """The engine's version and the operators that really run, in one line."""


def check_peers(names: Sequence[str]) -> None:
    """Raises ConfigError for a name that is unknown, or a peer whose library is not installed."""
    for name in names:
        if name not in PEERS:
            raise ConfigError(f"peer: expected some of {', '.join(PEERS)}, found {name!r}{did_you_mean(name, PEERS)}")
        for library in _LIBRARIES[name]:
            try:
                import_module(library)
            except ImportError as error:
                raise ConfigError(
                    f"{name} needs {library}, which cannot be imported; install it with: pip install 'sottovoce[bench]'"
                ) from error


def make_peer(name: str, model: PackedModel, *, num_threads: int = 1) -> Peer:
    """The model's network in the peer of that name, its weights decoded to float32 and quantized as the peer does.

    Raises ConfigError as ``check_peers`` does, FormatError for a model that is no RNN-T.
    """
    check_peers([name])
    if name == "torch-int8":
        from sottovoce.peers.torch_int8 import TorchInt8

        return TorchInt8(model, num_threads=num_threads)
    from sottovoce.peers.onnx_runtime import OnnxRuntime

    return OnnxRuntime(model, int8=name.endswith("int8"), num_threads=num_threads)


def signal_to_noise(network: SteppedNetwork, model: PackedModel, *, steps: int = 8) -> float:
    """How near a network's encoder frames and log-probabilities come to the model's in floats, in dB, both joined.

    Mean squares, the log-probabilities' own mean taken off. Infinite where all are equal.
    """
    found, expected = (Steps(one) for one in (network, PackedRnnt(model, arithmetic="float")))
    signal = noise = 0.0
    for _ in range(steps):
        for ours, theirs in zip(found(), expected(), strict=True):
            power = float(np.var(theirs))
            signal += 1.0
            noise += float(np.mean(np.square(ours - theirs))) / power
    return float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))
