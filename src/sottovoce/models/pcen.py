"""Per-channel energy normalization of whole utterances, without a step for each frame."""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.packed import Pcen

_BLOCK = 256  # frames smoothed by one product


def pcen(features: Tensor, settings: Pcen) -> Tensor:
    """Log-mel features (N, T, F) to normalized energies (N, T, F); see ``packed.Pcen``.

    In float32 under autocast too; nothing is learnt in it, and no gradient goes through.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        energy = features.float().exp()
        gain = torch.exp(-settings.gain * torch.log(smoothed(energy, settings) + Pcen.FLOOR))
        normalized: Tensor = torch.sqrt(energy * gain + settings.bias) - settings.bias**0.5
        return normalized


def smoothed(energy: Tensor, settings: Pcen) -> Tensor:
    """The running mean M of ``energy`` (N, T, F), each frame taking part in its own: (N, T, F).

    Inside a block, M_t = keep^(t + 1) M_before + smoothing * sum over k <= t of keep^(t - k) E_k: one triangular
    product.
    """
    keep = 1 - settings.smoothing
    frames = energy.shape[1]
    steps = torch.arange(min(frames, _BLOCK), device=energy.device)
    ages = steps[:, None] - steps  # (B, B)
    weights = torch.where(ages >= 0, settings.smoothing * keep ** ages.clamp(min=0), 0.0)
    before = energy.new_full((energy.shape[0], 1, energy.shape[2]), Pcen.START)
    parts = []
    for start in range(0, frames, _BLOCK):
        block = energy[:, start : start + _BLOCK]
        count = block.shape[1]
        decay = keep ** (steps[:count, None] + 1)
        mean = torch.matmul(weights[:count, :count], block) + decay * before
        parts.append(mean)
        before = mean[:, -1:]
    return torch.cat(parts, dim=1) if parts else energy
