"""The language model of an architecture."""

from __future__ import annotations

from sottovoce.models.lstm_lm import LstmLm
from sottovoce.models.transformer_lm import TransformerLm
from sottovoce.packed import LmArchitecture, LstmLmArchitecture

LanguageModel = LstmLm | TransformerLm


def make_lm(architecture: LmArchitecture, dropout: float = 0.0) -> LanguageModel:
    """A new model, its weights drawn from torch's global generator."""
    if isinstance(architecture, LstmLmArchitecture):
        return LstmLm(architecture, dropout)
    return TransformerLm(architecture, dropout)
