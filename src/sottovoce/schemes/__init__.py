"""What drives training to the codebook: the session, S8BQAT, ADMM, GQ and the arms that it is compared with."""

from sottovoce.schemes.admm import ADMM
from sottovoce.schemes.baselines import PTQ, StraightThrough, linear_qat
from sottovoce.schemes.gq import GQ
from sottovoce.schemes.packing import pack_float
from sottovoce.schemes.s8bqat import S8BQAT
from sottovoce.schemes.scheme import Scheme
from sottovoce.schemes.session import Session, compress

__all__ = [
    "ADMM",
    "GQ",
    "PTQ",
    "S8BQAT",
    "Scheme",
    "Session",
    "StraightThrough",
    "compress",
    "linear_qat",
    "pack_float",
]
