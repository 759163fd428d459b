"""The product of a few vectors with a codebook weight on CUDA, decoded as it is multiplied.

At small batch a linear layer is as fast as its weights arrive: here they arrive as codes. Elsewhere, and for more
vectors, weights are decoded first and the library's product is used.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

MOST_VECTORS = 16  # beyond it, a tensor core's product over decoded weights is faster
_TRITON = find_spec("triton") is not None


def takes(x: Tensor) -> bool:
    """Whether ``codebook_linear`` is the way for vectors (N, C): on CUDA with Triton, few, and no gradient wanted."""
    return (
        x.is_cuda
        and 0 < x.shape[0] <= MOST_VECTORS
        and not (torch.is_grad_enabled() and x.requires_grad)
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and _TRITON
    )


@torch.library.custom_op("sottovoce::codebook_linear", mutates_args=())
def codebook_linear(x: Tensor, codes: Tensor, levels: Tensor, scale: Tensor, bits: int) -> Tensor:
    """``y[n, r] = scale[r] * sum_c x[n, c] * levels[code[r, c]]``, summed in float32: x (N, C) -> (N, R) of its dtype.

    codes: uint8 (R, ceil(C / 8) * bits), a little-endian bit stream a row (``packed.bits``), padded to whole groups of
    eight codes; levels: int8 (2 ** bits,); scale: float (R,).
    """
    from sottovoce.quant.triton_linear import launch  # Triton is there only where a GPU is

    return launch(x.contiguous(), codes, levels, scale, bits)


@codebook_linear.register_fake
def _shape(x: Tensor, codes: Tensor, levels: Tensor, scale: Tensor, bits: int) -> Tensor:
    return x.new_empty(x.shape[0], codes.shape[0])
