"""Which arithmetic a network computes in: how activations are rounded, and what its gates do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sottovoce.errors import ConfigError
from sottovoce.runtime import accelerator, arithmetic
from sottovoce.runtime.arithmetic import Floats

Arithmetic = Literal["int8", "float", "accelerator"]
"""int8: a scale for each vector, float32 gates. float: decoded weights, nothing else quantized. accelerator: Q1.7 times
a power of two, and gates from a table of lines (``runtime.accelerator``)."""

Round = Callable[[Floats], tuple[Floats, Floats]]
Cell = Callable[[Floats, Floats], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Rules:
    """round: vectors (..., K) to integers held in float32 and their scales (..., 1), or None where products stay in
    floats; lstm_cell: gates (N, 4H) and c (N, H) to h and c; packed_only: refuse weights that are stored as floats."""

    round: Round | None
    tanh: Callable[[Floats], Floats]
    lstm_cell: Cell
    packed_only: bool = False


_RULES: dict[str, Rules] = {
    "int8": Rules(arithmetic.round_activations, arithmetic.tanh, arithmetic.lstm_cell),
    "float": Rules(None, arithmetic.tanh, arithmetic.lstm_cell),
    "accelerator": Rules(accelerator.round_activations, accelerator.tanh, accelerator.lstm_cell, packed_only=True),
}


def rules_of(name: Arithmetic) -> Rules:
    """The rules of that name. Raises ConfigError for another name."""
    if name not in _RULES:
        raise ConfigError(f"arithmetic: expected one of {', '.join(get_args(Arithmetic))}, found {name!r}")
    return _RULES[name]
