"""Codebook makers: from a weight and its specification to levels and scales. The kinds that a plan may name are
listed here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sottovoce.quant.codebook import Codebook
from sottovoce.quant.lloyd_max import GRID, lloyd_max, power_of_two_scale, snap_to_grid
from sottovoce.quant.mu_law import fit_mu_law, power_of_two_ranges
from sottovoce.quant.regions import region_levels
from sottovoce.quant.scaling import group_count, least_squares_scale, storable
from sottovoce.quant.spec import BandSpec


@torch.no_grad()
def make_codebook(weight: Tensor, spec: BandSpec, gates: int = 1) -> Codebook:
    """Levels and scales for an (R, C) weight; ``gates`` is how many stacked gates its rows hold.

    The scale is already rounded to what the file stores, so training finishes on the numbers that are shipped.
    """
    groups = group_count(spec.grouping, weight.shape[0], gates)
    levels, scale = _MAKERS[spec.kind](weight.float(), spec, groups)
    scale = storable(scale) if spec.scale_dtype == "float16" else scale.float()
    device = weight.device
    return Codebook(levels.to(device), scale.to(device), spec.bits, spec.kind, spec.grouping)


def level_count(spec: BandSpec) -> int:
    """2**bits, or one fewer where zero is a level of a symmetric set."""
    return int(2**spec.bits) - int(spec.has_zero)


def _lloyd_max(weight: Tensor, spec: BandSpec, groups: int) -> tuple[Tensor, Tensor]:
    """Lloyd-Max centroids on the int8 grid; a power-of-two scale, or with several groups each group's RMS refitted."""
    if groups == 1:
        levels = lloyd_max(weight, level_count(spec), symmetric=spec.mirrored)
        power = power_of_two_scale(levels)
        return snap_to_grid(levels, power, symmetric=spec.mirrored), torch.tensor([power / GRID])
    spread = weight.reshape(groups, -1).square().mean(1).sqrt().clamp_min(1e-12)
    normalized = weight.reshape(groups, -1) / spread[:, None]
    levels = lloyd_max(normalized, level_count(spec), symmetric=spec.mirrored)
    power = power_of_two_scale(levels)
    points = snap_to_grid(levels, power, symmetric=spec.mirrored)
    return points, _refit(weight, points, spread * (power / GRID))


def _refit(weight: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """One least-squares step on each group's scale, codes held."""
    values = Codebook(levels.to(weight.device), scale, 8, "", "").assign(weight)
    units = levels.to(weight.device).float()[values.long()].reshape(len(scale), -1)
    w = weight.reshape(len(scale), -1)
    fitted = (w * units).sum(1) / units.square().sum(1).clamp_min(1e-12)
    return torch.where(fitted > 0, fitted, scale)


def _regions(weight: Tensor, spec: BandSpec, groups: int) -> tuple[Tensor, Tensor]:
    """The paper's regions of uniform spacing, per kernel (S8BQAT, section 2.2)."""
    power = power_of_two_scale(lloyd_max(weight, level_count(spec), symmetric=True))
    return region_levels(weight, spec.bits, power), torch.tensor([power / GRID])


def _uniform(weight: Tensor, spec: BandSpec, groups: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced levels with a least-squares scale: with a zero, or mid-rise at odd multiples."""
    top = 2 ** (spec.bits - 1) - 1
    if spec.has_zero:
        levels = torch.arange(-top, top + 1)
    else:
        levels = torch.arange(-(2**spec.bits - 1), 2**spec.bits, 2)
    return levels.to(torch.int8), least_squares_scale(weight, levels, groups)


def _linear(weight: Tensor, spec: BandSpec, groups: int) -> tuple[Tensor, Tensor]:
    """The published linear grid: multiples of 2**(1 - bits) below one, whatever the weights (ACosR; S8BQAT, section
    3)."""
    top = 2 ** (spec.bits - 1) - 1
    return (torch.arange(-top, top + 1) * 2 ** (8 - spec.bits)).to(torch.int8), torch.tensor([1.0 / GRID])


def _mu_law(weight: Tensor, spec: BandSpec, groups: int) -> tuple[Tensor, Tensor]:
    """GQ's levels over a fixed range of +-1, mu fitted to the kernel."""
    levels, width = fit_mu_law(weight, level_count(spec))
    return levels, torch.tensor([width / GRID])


def _mu_law_scaled(weight: Tensor, spec: BandSpec, groups: int) -> tuple[Tensor, Tensor]:
    """GQ's levels with a range of the kernel's own, a power of two fitted together with mu (our extension)."""
    levels, width = fit_mu_law(weight, level_count(spec), power_of_two_ranges(weight))
    return levels, torch.tensor([width / GRID])


_MAKERS: dict[str, Callable[[Tensor, BandSpec, int], tuple[Tensor, Tensor]]] = {
    "lloyd-max": _lloyd_max,
    "regions": _regions,
    "uniform": _uniform,
    "linear": _linear,
    "mu-law": _mu_law,
    "mu-law-scaled": _mu_law_scaled,
}
