"""Mixed precision where the machine has it."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from sottovoce.training.config import Precision


def precision_here(asked: Precision) -> Precision:
    """``asked``, or float32 where it is mixed and neither a GPU nor this CPU multiplies 16-bit floats: there LSTMs fail
    in bfloat16, and other products take many times as long as in float32."""
    mixed = asked != "32-true"
    return "32-true" if mixed and not torch.cuda.is_available() and not _multiplies_bfloat16() else asked


@cache
def _multiplies_bfloat16() -> bool:
    """Found by trying, without a random number: oneDNN has no such LSTM for a CPU that cannot (x86 without AVX-512)."""
    lstm = nn.LSTM(8, 8, device="meta").to_empty(device="cpu")
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            lstm(torch.zeros(1, 1, 8))
    except RuntimeError:
        return False
    return True
