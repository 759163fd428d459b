"""The one representation of a compressed weight, and the one file that holds a model."""

from sottovoce.packed.architecture import Pcen, RnntArchitecture
from sottovoce.packed.bits import pack_codes, row_bytes, unpack_codes
from sottovoce.packed.language_model import (
    LmArchitecture,
    LstmLmArchitecture,
    TransformerLmArchitecture,
    is_language_model,
    lm_architecture,
)
from sottovoce.packed.matrix import GROUPINGS, Band, PackedMatrix, make_band
from sottovoce.packed.model import FileSizes, PackedModel, file_sizes, load_model, trained_hash

__all__ = [
    "GROUPINGS",
    "Band",
    "FileSizes",
    "LmArchitecture",
    "LstmLmArchitecture",
    "PackedMatrix",
    "PackedModel",
    "Pcen",
    "RnntArchitecture",
    "TransformerLmArchitecture",
    "file_sizes",
    "is_language_model",
    "lm_architecture",
    "load_model",
    "make_band",
    "pack_codes",
    "row_bytes",
    "trained_hash",
    "unpack_codes",
]
