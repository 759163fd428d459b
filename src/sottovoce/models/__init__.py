"""Networks: the streaming RNN-T and its step() face; LSTM and Transformer language models."""

from sottovoce.models.lm import LanguageModel, make_lm
from sottovoce.models.lstm_lm import LstmLm
from sottovoce.models.network import network_of
from sottovoce.models.rnnt import Rnnt
from sottovoce.models.stepping import SteppingRnnt
from sottovoce.models.transformer_lm import TransformerLm

__all__ = ["LanguageModel", "LstmLm", "Rnnt", "SteppingRnnt", "TransformerLm", "make_lm", "network_of"]
