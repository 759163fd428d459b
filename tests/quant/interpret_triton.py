"""Run as a script, with TRITON_INTERPRET=1: the Triton kernel, without a GPU, beside the decoded product."""

import numpy as np
import torch

from sottovoce.packed import PackedMatrix, make_band
from sottovoce.quant.packed_modules import PackedBand
from sottovoce.quant.triton_linear import launch

for bits in range(1, 9):
    for rows, columns, count in ((5, 3, 1), (33, 300, 3)):
        rng = np.random.default_rng(bits)
        used = max(1, (1 << bits) - 1)  # a table that is not full
        levels = np.sort(rng.permutation(np.arange(-128, 128))[:used]).astype(np.int8)
        codes = rng.integers(0, used, (rows, columns), dtype=np.uint8)
        scale = rng.uniform(0.01, 0.1, rows).astype(np.float32)
        band = make_band(codes, levels, scale, bits, "any", "row")
        weight = PackedMatrix((rows, columns), (band,)).decode()
        packed = PackedBand(band, columns)
        x = torch.randn(count, columns, generator=torch.Generator().manual_seed(bits))
        found = launch(x, packed.codes, packed.levels, packed.scale, bits).numpy()
        expected = x.double().numpy() @ weight.astype(np.float64).T
        assert found.shape == expected.shape
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()), (bits, rows, columns)
        half = launch(x.half(), packed.codes, packed.levels, packed.scale, bits)
        assert half.dtype is torch.float16
        assert np.allclose(half.float().numpy(), expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())
