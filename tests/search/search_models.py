"""Small models of the kinds that are searched: an LSTM language model with a frequent head, and attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LanguageModel(nn.Module):
    """Embedding, LSTM and output layer over a vocabulary that is sorted by frequency."""

    def __init__(self, vocabulary: int = 30, width: int = 12, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.output = nn.Linear(width, vocabulary)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.output(self.lstm(self.embedding(tokens))[0])
        return scores


class Block(nn.Module):
    """A Transformer block with its own query, key, value and output, and a feed-forward net."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value", "output")})
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        a = self.attention
        x = x + a["output"](F.scaled_dot_product_attention(a["query"](x), a["key"](x), a["value"](x), is_causal=True))
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """An embedding, two blocks, an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.output = nn.Linear(8, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.output(x)
        return scores


def sentences(count: int, length: int = 12, vocabulary: int = 30, seed: int = 0) -> Tensor:
    """Tokens (N, T) of a Markov chain whose words have Zipf's frequencies: each word prefers a few others."""
    generator = torch.Generator().manual_seed(99)  # the language is one, whatever the sentences
    zipf = 1.0 / (torch.arange(vocabulary) + 1.0)
    following = zipf * torch.exp(2.0 * torch.randn(vocabulary, vocabulary, generator=generator))
    draws = torch.Generator().manual_seed(seed)
    tokens = torch.multinomial(zipf, count, replacement=True, generator=draws)[:, None]
    for _ in range(length):
        step = torch.multinomial(following[tokens[:, -1]], 1, generator=draws)
        tokens = torch.cat([tokens, step], 1)
    return tokens


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of the next word."""
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def trained(vocabulary: int = 30, width: int = 12, steps: int = 150, seed: int = 0) -> LanguageModel:
    """A language model that has learnt something."""
    torch.manual_seed(seed)
    model = LanguageModel(vocabulary, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, sentences(32, vocabulary=vocabulary, seed=1000 + step)).backward()
        optimizer.step()
    return model
