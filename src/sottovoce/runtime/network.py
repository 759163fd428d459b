"""The one place that decides what runs a model."""

from __future__ import annotations

from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.runtime.kernels import NUMPY, check_threads, choose_kernel, native_module, warn_once
from sottovoce.runtime.native import NativeRnnt, NotPackedError
from sottovoce.runtime.rnnt import PackedRnnt
from sottovoce.runtime.rules import Arithmetic, rules_of

Network = PackedRnnt | NativeRnnt


def make_network(model: PackedModel, *, arithmetic: Arithmetic = "int8", num_threads: int = 1) -> Network:
    """The model's network: compiled, where the kernels are there, every weight is packed and activations are
    integers; else NumPy's. Both give the same bits, so nothing but time and memory depends on the choice.

    num_threads is the kernels'; NumPy's products use the threads of its own BLAS. One RuntimeWarning a process where
    the kernels are missing and would have run this model. Raises FormatError as the networks do, ConfigError for
    num_threads outside 1 to 256, an unknown arithmetic or a SOTTOVOCE_KERNEL that cannot be used.
    """
    check_threads(num_threads)
    integers = rules_of(arithmetic).round is not None
    choice = choose_kernel()
    if choice.name == NUMPY or not integers:
        _, missing = native_module()
        packed = any(isinstance(tensor, PackedMatrix) for tensor in model.tensors.values())
        if missing and not choice.forced and integers and packed:
            warn_once(missing)
        return PackedRnnt(model, arithmetic=arithmetic)
    try:
        return NativeRnnt(model, num_threads=num_threads, kernel=choice.name, arithmetic=arithmetic)
    except NotPackedError:
        return PackedRnnt(model, arithmetic=arithmetic)
