"""PyTorch's dynamic int8: every LSTM and linear layer through ``torch.ao.quantization.quantize_dynamic``."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao import quantization

from sottovoce.decoding.protocol import Floats, Integers, State
from sottovoce.models.rnnt import Rnnt
from sottovoce.packed import PackedModel, RnntArchitecture
from sottovoce.runtime.pcen import pcen
from sottovoce.runtime.rnnt import encoder_start


class TorchInt8:
    """int8 weights, activations quantized on the way in, by PyTorch's own kernels; the rest of the network in floats.

    One stream. num_threads is PyTorch's, and that of the whole process.
    """

    def __init__(self, model: PackedModel, *, num_threads: int = 1) -> None:
        torch.set_num_threads(num_threads)
        self.architecture = RnntArchitecture.from_dict(model.architecture)
        floats = Rnnt(self.architecture)
        names = (*model.tensors, *model.aliases)
        floats.load_state_dict({name: torch.from_numpy(model.decode(name).copy()) for name in names})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the move to another package
            quantize: Any = quantization.quantize_dynamic
            network = quantize(floats.eval(), {nn.LSTM, nn.Linear}, dtype=torch.qint8)
        self._encoder, self._predictor, self._joiner = network.encoder, network.predictor, network.joiner

    @property
    def description(self) -> str:
        engine = torch.backends.quantized.engine
        return f"PyTorch {torch.__version__}, quantize_dynamic of LSTM and Linear, engine {engine}"

    @property
    def vocabulary(self) -> int:
        return self.architecture.vocabulary

    def encoder_start(self, n: int) -> State:
        mean, history, waiting, *lstm = encoder_start(self.architecture, n)
        return (mean, history, waiting, *(array[None] for array in lstm))

    @torch.inference_mode()
    def encoder_step(self, features: Floats, state: State) -> tuple[Floats, State]:
        """features float32 (1, subsampling, F): one encoder frame (1, 1, J)."""
        a, encoder = self.architecture, self._encoder
        mean, history, waiting, *lstm = state
        if a.pcen is not None:
            features, mean = pcen(features, mean, a.pcen)
        normalized = (torch.from_numpy(features) - encoder.mean) * encoder.istd
        joined = torch.cat([torch.from_numpy(history), normalized], 1)
        x = joined.unfold(1, a.stack, a.stride).transpose(2, 3).flatten(2)
        after = []
        for i, layer in enumerate(encoder.layers):
            x, (h, c) = layer(x, (torch.from_numpy(lstm[2 * i]), torch.from_numpy(lstm[2 * i + 1])))
            after += [h.numpy(), c.numpy()]
            if a.layer_norm:
                x = encoder.norms[i](x)
            if i + 1 == a.reduction_after:
                x = x.reshape(1, 1, -1)
        frames: Tensor = encoder.projection(x)
        return frames.numpy(), (mean, joined[:, a.subsampling :].numpy(), waiting, *after)

    def predictor_start(self, n: int) -> State:
        a = self.architecture
        zeros = torch.zeros(a.predictor_layers, n, a.predictor_units)
        return zeros.numpy(), zeros.clone().numpy()

    @torch.inference_mode()
    def predictor_step(self, tokens: Integers, state: State) -> tuple[Floats, State]:
        predictor = self._predictor
        h, c = (torch.from_numpy(array) for array in state)
        x, (h, c) = predictor.lstm(predictor.embed(torch.from_numpy(tokens)[:, None]), (h, c))
        return predictor.projection(x[:, 0]).numpy(), (h.numpy(), c.numpy())

    @torch.inference_mode()
    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        logits: Tensor = self._joiner(torch.from_numpy(encoder), torch.from_numpy(predictor))
        return logits.log_softmax(-1).numpy()
