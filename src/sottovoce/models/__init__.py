"""Networks: the streaming RNN-T and its step() face."""

from sottovoce.models.rnnt import Rnnt
from sottovoce.models.stepping import SteppingRnnt

__all__ = ["Rnnt", "SteppingRnnt"]
