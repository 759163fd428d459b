"""The Triton kernel of ``codebook_linear``; imported only where it runs."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _GROUPS = 16, 32  # of one step of a program: 16 rows by 32 groups of eight codes


def launch(x: Tensor, codes: Tensor, levels: Tensor, scale: Tensor, bits: int) -> Tensor:
    """See ``codebook_linear``; x (N, C) is contiguous."""
    count, columns = x.shape
    rows = codes.shape[0]
    y = torch.empty(count, rows, dtype=x.dtype, device=x.device)
    vectors = triton.next_power_of_2(count)
    with torch.cuda.device_of(x):  # Triton launches on the current device, which need not be x's
        _kernel[(triton.cdiv(rows, _ROWS),)](
            x, codes, levels, scale, y, count, columns, rows, codes.shape[1], bits, vectors, _ROWS, _GROUPS
        )
    return y


@triton.jit
def _kernel(
    x,
    codes,
    levels,
    scale,
    y,
    count,
    columns,
    rows,
    stride,
    BITS: tl.constexpr,
    VECTORS: tl.constexpr,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    vector = tl.arange(0, VECTORS)
    in_rows = row < rows
    total = tl.zeros((VECTORS, ROWS), tl.float32)
    groups = stride // BITS
    for first in range(0, groups, GROUPS):
        group = first + tl.arange(0, GROUPS)
        here = in_rows[:, None] & (group < groups)[None, :]
        start = codes + row.to(tl.int64)[:, None] * stride + group[None, :] * BITS
        for k in tl.static_range(8):
            at: tl.constexpr = k * BITS // 8
            shift: tl.constexpr = k * BITS % 8
            code = tl.load(start + at, mask=here, other=0).to(tl.int32) >> shift
            if shift + BITS > 8:
                code = code | (tl.load(start + at + 1, mask=here, other=0).to(tl.int32) << (8 - shift))
            weight = tl.load(levels + (code & ((1 << BITS) - 1))).to(tl.float32)  # (ROWS, GROUPS)
            column = group * 8 + k
            wanted = (vector < count)[:, None] & (column < columns)[None, :]
            value = tl.load(x + vector[:, None] * columns + column[None, :], mask=wanted, other=0.0).to(tl.float32)
            total += tl.sum(value[:, None, :] * weight[None, :, :], 2)
    total *= tl.load(scale + row, mask=in_rows, other=0.0).to(tl.float32)[None, :]
    place = y + vector[:, None] * rows + row[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=(vector < count)[:, None] & in_rows[None, :])
