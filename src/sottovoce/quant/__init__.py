"""Codebooks and their makers, bit plans, and what counts as a weight."""

from sottovoce.quant.codebook import Codebook
from sottovoce.quant.loading import load
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.plan import BitPlan
from sottovoce.quant.sorted_rows import sort_rows
from sottovoce.quant.spec import BandSpec
from sottovoce.quant.weights import Weight, find_weights

__all__ = ["BandSpec", "BitPlan", "Codebook", "Weight", "find_weights", "load", "make_codebook", "sort_rows"]
