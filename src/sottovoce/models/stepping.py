"""A PyTorch RNN-T behind decoding's step() protocol, so that one search serves it and the packed model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sottovoce.models.rnnt import Rnnt

State = tuple[np.ndarray, ...]


class SteppingRnnt:
    """Predictor and joiner one step at a time; state is (h, c), each float32 (N, L, P)."""

    def __init__(self, model: Rnnt) -> None:
        self.model = model.eval()
        self.vocabulary = model.architecture.vocabulary

    def predictor_start(self, n: int) -> State:
        """Zero state of n hypotheses."""
        a = self.model.architecture
        zeros = np.zeros((n, a.predictor_layers, a.predictor_units), np.float32)
        return zeros, zeros.copy()

    @torch.no_grad()
    def predictor_step(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """tokens int64 (N,), -1 for no history, to outputs (N, J) and the next state."""
        predictor = self.model.predictor
        h, c = (self._tensor(x).transpose(0, 1).contiguous() for x in state)
        x, (h, c) = predictor.lstm(predictor.embed(self._tensor(tokens)[:, None]), (h, c))
        return _array(predictor.projection(x[:, 0])), (_array(h.transpose(0, 1)), _array(c.transpose(0, 1)))

    @torch.no_grad()
    def joiner(self, encoder: np.ndarray, predictor: np.ndarray) -> np.ndarray:
        """Log-probabilities (N, V) of encoder frames (N, J) and predictor outputs (N, J)."""
        logits = self.model.joiner(self._tensor(encoder), self._tensor(predictor))
        return _array(logits.float().log_softmax(-1))

    @torch.no_grad()
    def encode(self, features: Tensor, lengths: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Whole utterances (N, T, F) to encoder frames (N, T', J) and lengths (N,)."""
        frames, frame_lengths = self.model.encoder(features.to(self._device), lengths.to(self._device))
        return _array(frames), frame_lengths.cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return self.model.joiner.output.weight.device

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
