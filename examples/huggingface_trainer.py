"""A small Audio Spectrogram Transformer for spoken digits, trained by Hugging Face's Trainer, at four bits: a callback.

pip install 'sottovoce[hf]'
python examples/huggingface_trainer.py [--data FSDD/recordings] [--out digits.safetensors]
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from spoken_digits import DIGITS, FRAMES, Digits, digits, options, report, run, write_float
from torch import nn
from transformers import ASTConfig, ASTForAudioClassification, Trainer, TrainerCallback, TrainingArguments

import sottovoce as sv


def new_model() -> ASTForAudioClassification:
    """Patches of 8 x 8 over (T, 40) log-mel frames, two layers of width 64, random weights."""
    return ASTForAudioClassification(
        ASTConfig(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, patch_size=8,
            frequency_stride=8, time_stride=8, max_length=FRAMES, num_mel_bins=40, num_labels=DIGITS,
        )
    )  # fmt: skip


def train(model: nn.Module, data: Digits, epochs: int, rate: float, callbacks: list[TrainerCallback]) -> None:
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=epochs, per_device_train_batch_size=32, learning_rate=rate,
            warmup_steps=20, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        rows = [{"input_values": x, "labels": y} for x, y in zip(*data.train, strict=True)]
        Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks).train()


@torch.no_grad()
def error_rate(model: nn.Module, data: Digits) -> float:
    wrong = model.eval()(data.test[0]).logits.argmax(1) != data.test[1]
    return 100 * float(wrong.float().mean())


def main() -> None:
    args = options(__doc__ or "")
    data, epochs = digits(args.data, args.quick), 2 if args.quick else 12
    model = new_model()
    train(model, data, 2 * epochs, 2e-3, [])

    longer = new_model()  # compression trains on, so what it is compared with does too
    longer.load_state_dict(model.state_dict())
    train(longer, data, epochs, 1e-3, [])
    before, uncompressed = error_rate(longer, data), write_float(longer, args.out)

    callback = sv.TrainerCompressionCallback(sv.BitPlan.uniform(model, bits=4), sv.S8BQAT())
    train(model, data, epochs, 1e-3, [callback])
    packed = callback.session.finish()
    packed.save(args.out)

    fresh = new_model()
    sv.load(args.out, into=fresh)  # what is measured is the file
    report(before, error_rate(fresh, data), uncompressed, Path(args.out), packed)


if __name__ == "__main__":
    run(main)
