"""A streaming RNN-T: unidirectional LSTM encoder, LSTM predictor, additive joiner (Graves 2012, arXiv 1211.3711)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sottovoce.models.pcen import pcen
from sottovoce.packed import RnntArchitecture


class Encoder(nn.Module):
    """CMVN, frame stacking, LSTMs with layer norm and one optional time reduction, projection to the joiner."""

    mean: Tensor
    istd: Tensor

    def __init__(self, architecture: RnntArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.register_buffer("mean", torch.zeros(a.features))
        self.register_buffer("istd", torch.ones(a.features))
        self.layers = nn.ModuleList(nn.LSTM(width, a.encoder_units, batch_first=True) for width in a.layer_inputs())
        norms = a.encoder_layers if a.layer_norm else 0
        self.norms = nn.ModuleList(nn.LayerNorm(a.encoder_units) for _ in range(norms))
        self.projection = nn.Linear(a.encoder_width, a.joiner_units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features (N, T, F), lengths (N,) to encoder frames (N, T', J), lengths (N,)."""
        a = self.architecture
        x = self.stack(self.normalize(features, lengths))
        for i, layer in enumerate(self.layers):
            x = layer(x)[0]
            x = self.dropout(self.norms[i](x) if a.layer_norm else x)
            if i + 1 == a.reduction_after:
                x = _join(x, a.reduction)
        return self.projection(x), lengths // a.subsampling

    def normalize(self, features: Tensor, lengths: Tensor) -> Tensor:
        """PCEN if there is one, then global mean and variance; frames past the end are zeros, (N, T, F)."""
        if self.architecture.pcen is not None:
            features = pcen(features, self.architecture.pcen)
        valid = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
        return (features - self.mean) * self.istd * valid[..., None]

    def stack(self, x: Tensor) -> Tensor:
        """(N, T, F) to (N, T // stride, stack * F): each output joins ``stack`` frames and ends ``stride`` further
        on."""
        a = self.architecture
        x = F.pad(x, (0, 0, a.stack - a.stride, 0))
        if x.shape[1] < a.stack:
            return x.new_zeros(x.shape[0], 0, a.stack * a.features)
        windows = x.unfold(1, a.stack, a.stride)  # (N, T // stride, F, stack)
        return windows.transpose(2, 3).flatten(2)


class Predictor(nn.Module):
    """Embedding and LSTMs over the tokens so far; "no history" (id -1) embeds to zeros."""

    def __init__(self, architecture: RnntArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        a = architecture
        self.embedding = nn.Embedding(a.vocabulary, a.embedding)
        self.lstm = nn.LSTM(a.embedding, a.predictor_units, a.predictor_layers, batch_first=True)
        self.projection = nn.Linear(a.predictor_units, a.joiner_units)
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (N, U), -1 for "no history", to vectors (N, U, E)."""
        vectors: Tensor = self.embedding(tokens.clamp_min(0))
        return vectors * (tokens >= 0)[..., None]

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, U) to predictor outputs (N, U + 1, J), the first from no history."""
        history = F.pad(tokens, (1, 0), value=-1)
        x = self.lstm(self.dropout(self.embed(history)))[0]
        outputs: Tensor = self.projection(self.dropout(x))
        return outputs


class Joiner(nn.Module):
    """Logits over the vocabulary (blank is 0) from an encoder frame and a predictor output."""

    def __init__(self, architecture: RnntArchitecture) -> None:
        super().__init__()
        self.output = nn.Linear(architecture.joiner_units, architecture.vocabulary)

    def forward(self, encoder: Tensor, predictor: Tensor) -> Tensor:
        """Broadcasting (..., J) and (..., J) to logits (..., V)."""
        logits: Tensor = self.output(torch.tanh(encoder + predictor))
        return logits


class Rnnt(nn.Module):
    """The whole recognizer; its tensor names are those of docs/design.md, section 11."""

    def __init__(self, architecture: RnntArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = Encoder(architecture, dropout)
        self.predictor = Predictor(architecture, dropout)
        self.joiner = Joiner(architecture)

    def forward(self, features: Tensor, lengths: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """features (N, T, F), lengths (N,), tokens (N, U) to logits (N, T', U + 1, V), frames (N, T', J), frame
        lengths (N,)."""
        frames, frame_lengths = self.encoder(features, lengths)
        history = self.predictor(tokens)
        return self.joiner(frames[:, :, None], history[:, None]), frames, frame_lengths


def _join(x: Tensor, factor: int) -> Tensor:
    """Concatenate ``factor`` neighbouring frames: (N, T, C) to (N, T // factor, factor * C)."""
    n, t, c = x.shape
    kept = t // factor
    return x[:, : kept * factor].reshape(n, kept, factor * c)
