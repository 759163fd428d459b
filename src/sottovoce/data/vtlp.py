"""Vocal tract length perturbation of features: a random stretch of the frequency axis for each utterance.

Jaitly and Hinton 2013, "Vocal Tract Length Perturbation (VTLP) improves speech recognition"; here on the mel axis of
features that exist already, with no bend towards the upper edge.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def warp_matrices(factors: Tensor, bins: int) -> Tensor:
    """(N, bins, bins) in the type of ``factors`` (N,): output bin k is the input at k / factor.

    Linear between bins, about bin 0; beyond the last bin its value is repeated. A factor above 1 moves peaks up.
    """
    bin = torch.arange(bins, dtype=factors.dtype)
    place = (bin / factors[:, None]).clamp(max=bins - 1)  # (N, bins)
    # The two neighbours of a place share a weight of 1; all others are further than 1 away.
    return (1 - (place[:, :, None] - bin).abs()).clamp(min=0)


def warp_filterbanks(features: Tensor, factors: Tensor) -> Tensor:
    """Log filterbanks (N, T, F) with the frequency axis of utterance n stretched by ``factors[n]``."""
    matrices = warp_matrices(factors.double(), features.shape[2])
    return features @ matrices.to(features.dtype).transpose(1, 2)


def warp_cepstra(features: Tensor, factors: Tensor, filters: int) -> Tensor:
    """Cepstra (N, T, F), the cosine transform of ``filters`` >= F log filterbanks, with their frequency axis stretched.

    To the filters, stretched, and back, in one matrix an utterance. What was cut off beyond coefficient F counts as
    zero. The transform may bear one factor for all coefficients, but no other scaling and no lifter.
    """
    transform, inverse = cosine_transforms(features.shape[2], filters)
    matrices = transform @ warp_matrices(factors.double(), filters) @ inverse  # (N, F, F)
    return features @ matrices.to(features.dtype).transpose(1, 2)


def cosine_transforms(size: int, filters: int) -> tuple[Tensor, Tensor]:
    """The DCT-II (size, filters) without normalization, and its inverse (filters, size), float64.

    c_k = sum over m of L_m cos(pi k (m + 1/2) / M), and L_m = (c_0 + 2 * sum over k > 0 of c_k cos(...)) / M.
    """
    order = torch.arange(size, dtype=torch.float64)[:, None]
    angle = math.pi * order * (torch.arange(filters) + 0.5) / filters  # (size, filters)
    transform = angle.cos()
    weight = torch.where(order == 0, 1.0, 2.0) / filters
    return transform, (weight * transform).T
