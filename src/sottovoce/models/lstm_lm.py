"""An LSTM language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sottovoce.packed import LstmLmArchitecture

LstmState = tuple[Tensor, Tensor]


class LstmLm(nn.Module):
    """``LstmLmArchitecture``; dropout on the embedding, between layers and before the output."""

    def __init__(self, architecture: LstmLmArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.embedding = nn.Embedding(a.vocabulary, a.embedding)
        between = dropout if a.layers > 1 else 0.0
        self.lstm = nn.LSTM(a.embedding, a.units, a.layers, batch_first=True, dropout=between)
        self.output = nn.Linear(a.units, a.vocabulary)
        self.dropout = nn.Dropout(dropout)
        self._initialize()

    def _initialize(self) -> None:
        """Small uniform embeddings, as Zaremba et al. (arXiv 1409.2329), and forget gates that begin open."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)
        units = self.architecture.units
        with torch.no_grad():
            for i in range(self.architecture.layers):
                getattr(self.lstm, f"bias_ih_l{i}")[units : 2 * units] += 1.0
        if self.architecture.tied:
            self.output.weight = self.embedding.weight

    def hidden(self, tokens: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """tokens int64 (N, T), state h and c (layers, N, H) or None for zeros -> what the output reads (N, T, H), the
        new state."""
        x, after = self.lstm(self.dropout(self.embedding(tokens)), state)
        return self.dropout(x), after

    def forward(self, tokens: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """As ``hidden``, to logits (N, T, V)."""
        x, after = self.hidden(tokens, state)
        return self.output(x), after
