"""A decoder-only Transformer language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sottovoce.packed import TransformerLmArchitecture


class Block(nn.Module):
    """Causal attention, then a feed-forward layer with GELU, each with its residual and norm."""

    def __init__(self, architecture: TransformerLmArchitecture, dropout: float) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.query, self.key, self.value, self.attended = (nn.Linear(a.width, a.width) for _ in range(4))
        self.expand, self.contract = nn.Linear(a.width, a.feed_forward), nn.Linear(a.feed_forward, a.width)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(a.width), nn.LayerNorm(a.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, T, D)."""
        if self.architecture.norm == "pre":
            x = x + self.dropout(self.attend(self.attention_norm(x)))
            summed: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
            return summed
        x = self.attention_norm(x + self.dropout(self.attend(x)))
        normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normed

    def attend(self, x: Tensor) -> Tensor:
        """Each position over itself and those before it, (N, T, D)."""
        heads = self.architecture.heads
        query, key, value = (
            layer(x).unflatten(-1, (heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )  # (N, H, T, C)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended: Tensor = self.attended(mixed.transpose(1, 2).flatten(2))
        return attended

    def feed_forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, T, D)."""
        contracted: Tensor = self.contract(self.dropout(F.gelu(self.expand(x), approximate="tanh")))
        return contracted


class TransformerLm(nn.Module):
    """``TransformerLmArchitecture``; dropout after the embedding and on each sublayer."""

    positions: Tensor

    def __init__(self, architecture: TransformerLmArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.embedding = nn.Embedding(a.vocabulary, a.width)
        if a.positions == "learned":
            self.positions = nn.Parameter(torch.empty(a.context, a.width))
        else:
            self.register_buffer("positions", sinusoids(a.context, a.width), persistent=False)
        self.layers = nn.ModuleList(Block(a, dropout) for _ in range(a.layers))
        if a.norm == "pre":
            self.norm = nn.LayerNorm(a.width)
        self.output = nn.Linear(a.width, a.vocabulary)
        self.dropout = nn.Dropout(dropout)
        self._initialize()

    def _initialize(self) -> None:
        """Layers as PyTorch has them. Tokens start wider than positions: with GPT-2's 0.02 for both, and with PyTorch's
        1, an epoch of dialogue ended some points of perplexity higher on dev. Tied ones start as an output does."""
        nn.init.normal_(self.embedding.weight, std=self.architecture.width**-0.5 if self.architecture.tied else 0.3)
        if isinstance(self.positions, nn.Parameter):
            nn.init.normal_(self.positions, std=0.02)
        if self.architecture.tied:
            self.output.weight = self.embedding.weight

    def hidden(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        """tokens int64 (N, T), T at most ``context`` -> what the output reads (N, T, D); there is no state to carry."""
        x = self.dropout(self.embedding(tokens) + self.positions[: tokens.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return (self.norm(x) if self.architecture.norm == "pre" else x), None

    def forward(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        """As ``hidden``, to logits (N, T, V)."""
        return self.output(self.hidden(tokens)[0]), None


def sinusoids(context: int, width: int) -> Tensor:
    """Positions of Vaswani et al. 2017, section 3.5: (context, width), the even columns sines, the odd ones cosines."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(context)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(context, width).float()
