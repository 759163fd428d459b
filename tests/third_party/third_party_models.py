"""Small random instances of models that others wrote, each with inputs and a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """``make`` builds a model from random numbers, ``inputs`` are those of its forward, ``loss`` and ``output`` take
    what it returns. compressed: parameters that must be; kept: tensors that stay in float, and why; tied: names that
    must be aliases."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]
    loss: Callable[[Any], Tensor]
    output: Callable[[Any], Tensor]
    compressed: tuple[str, ...]
    kept: dict[str, str]
    tied: tuple[str, ...] = ()


def _transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs transformers")


def _logits(found: Any) -> Tensor:
    logits: Tensor = found.logits
    return logits


def _loss(found: Any) -> Tensor:
    loss: Tensor = found.loss
    return loss


def _waveform() -> Tensor:
    return torch.randn(2, 1600, generator=torch.Generator().manual_seed(1))


def _labels(count: int = 5) -> Tensor:
    return torch.randint(3, 20, (2, count), generator=torch.Generator().manual_seed(2))


WAV2VEC2 = {
    "vocab_size": 24,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16, 16),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
    "ctc_loss_reduction": "mean",
}


def wav2vec2() -> nn.Module:
    hf = _transformers()
    return hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**WAV2VEC2))


def conformer() -> nn.Module:
    hf = _transformers()
    settings = {**WAV2VEC2, "position_embeddings_type": "relative", "conv_depthwise_kernel_size": 7}
    return hf.Wav2Vec2ConformerForCTC(hf.Wav2Vec2ConformerConfig(**settings))


def whisper() -> nn.Module:
    hf = _transformers()
    return hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(
            vocab_size=40,
            num_mel_bins=8,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_source_positions=20,
            max_target_positions=12,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    )


def parakeet() -> nn.Module:
    hf = _transformers()
    encoder = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "num_mel_bins": 16,
        "subsampling_conv_channels": 8,
        "conv_kernel_size": 5,
        "layerdrop": 0.0,
    }
    return hf.ParakeetForCTC(hf.ParakeetCTCConfig(vocab_size=24, pad_token_id=23, encoder_config=encoder))


def moonshine() -> nn.Module:
    hf = _transformers()
    return hf.MoonshineForConditionalGeneration(
        hf.MoonshineConfig(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            encoder_num_hidden_layers=1,
            decoder_num_hidden_layers=1,
            encoder_num_attention_heads=2,
            decoder_num_attention_heads=2,
            pad_token_id=0,
        )
    )


def crdnn() -> nn.Module:
    try:
        from speechbrain.lobes.models.CRDNN import CRDNN
    except (ImportError, OSError) as error:  # OSError: a torchaudio that was built for another torch
        pytest.skip(f"needs speechbrain, and a torchaudio that loads beside this torch ({error})")
    return CRDNN(
        input_shape=[2, 20, 16],
        cnn_blocks=1,
        cnn_channels=(4,),
        cnn_kernelsize=(3, 3),
        rnn_layers=1,
        rnn_neurons=12,
        rnn_bidirectional=True,
        rnn_re_init=False,
        dnn_blocks=1,
        dnn_neurons=12,
    )


class Recurrent(nn.Module):
    """A GRU over a bidirectional LSTM, as older acoustic models are built."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(24, 10, batch_first=True)
        self.output = nn.Linear(10, 6)

    def forward(self, features: Tensor) -> Tensor:
        """(N, T, 8) -> (N, T, 6)."""
        return self.output(self.gru(self.lstm(features)[0])[0])


class TorchTransformer(nn.Module):
    """torch's own encoder and decoder; their attention reads weights without calling the layers that hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """(N, S, 16), (N, T, 16) -> (N, T, 16)."""
        return self.transformer(source, target)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def _square(found: Tensor) -> Tensor:
    return found.square().mean()


def _itself(found: Tensor) -> Tensor:
    return found


_POSITIONAL = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"

CASES = {
    "wav2vec2": Case(
        wav2vec2,
        lambda: {"input_values": _waveform(), "labels": _labels()},
        _loss,
        _logits,
        ("wav2vec2.feature_extractor.conv_layers.0.conv.weight", "lm_head.weight"),
        {f"wav2vec2.{_POSITIONAL}": "WeightNorm computes the weight", "lm_head.bias": "bias"},
    ),
    "wav2vec2-conformer": Case(
        conformer,
        lambda: {"input_values": _waveform(), "labels": _labels()},
        _loss,
        _logits,
        (
            "wav2vec2_conformer.encoder.layers.0.conv_module.depthwise_conv.weight",
            "wav2vec2_conformer.encoder.layers.0.self_attn.linear_pos.weight",
        ),
        {"wav2vec2_conformer.encoder.layers.0.self_attn.pos_bias_u": "bias"},
    ),
    "whisper": Case(
        whisper,
        lambda: {"input_features": _noise(2, 8, 40), "labels": _labels()},
        _loss,
        _logits,
        ("model.encoder.conv1.weight", "model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"),
        {"model.encoder.conv1.bias": "bias", "model.encoder.layer_norm.weight": "norm"},
        ("proj_out.weight",),
    ),
    "parakeet": Case(
        parakeet,
        lambda: {
            "input_features": _noise(2, 80, 16),
            "attention_mask": torch.ones(2, 80, dtype=torch.long),
            "labels": _labels(),
        },
        _loss,
        _logits,
        ("encoder.layers.0.conv.depthwise_conv.weight", "encoder.layers.0.self_attn.relative_k_proj.weight"),
        {"encoder.layers.0.self_attn.bias_u": "bias", "encoder.layers.0.conv.norm.running_var": "buffer"},
    ),
    "moonshine": Case(
        moonshine,
        lambda: {"input_values": _waveform(), "labels": _labels()},
        _loss,
        _logits,
        ("model.encoder.conv1.weight", "model.decoder.embed_tokens.weight"),
        {"model.encoder.conv3.bias": "bias", "model.encoder.groupnorm.weight": "norm"},
        ("proj_out.weight",),
    ),
    "speechbrain-crdnn": Case(
        crdnn,
        lambda: {"x": _noise(2, 20, 16)},
        _square,
        _itself,
        ("CNN.block_0.conv_2.conv.weight", "RNN.rnn.0.u.weight"),
        {"CNN.block_0.norm_1.norm.weight": "norm", "RNN.rnn.0.h_init": "buffer"},
    ),
    "recurrent": Case(
        Recurrent,
        lambda: {"features": _noise(2, 9, 8)},
        _square,
        _itself,
        ("lstm.weight_hh_l1_reverse", "gru.weight_ih_l0"),
        {"lstm.bias_hh_l1_reverse": "bias"},
    ),
    "torch-transformer": Case(
        TorchTransformer,
        lambda: {"source": _noise(2, 7, 16), "target": _noise(2, 5, 16)},
        _square,
        _itself,
        (
            "transformer.encoder.layers.0.self_attn.in_proj_weight",
            "transformer.decoder.layers.0.multihead_attn.out_proj.weight",
        ),
        {"transformer.encoder.layers.0.self_attn.in_proj_bias": "bias"},
    ),
}
