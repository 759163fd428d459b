"""A recognizer of spoken digits, trained by Lightning, at two bits a weight with a scale for each row: one callback.

python examples/lightning_callback.py [--data FSDD/recordings] [--out digits.safetensors]
"""

from __future__ import annotations

import logging
import warnings

import lightning.pytorch as pl
import torch
from spoken_digits import DIGITS, Digits, digits, error_rate, options, report, run, write_float
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sottovoce as sv


class Recognizer(pl.LightningModule):
    """Two GRU layers over log-mel frames (N, T, 40), a linear layer over their mean: logits (N, 10)."""

    def __init__(self, rate: float = 2e-3) -> None:
        super().__init__()
        self.rate = rate
        self.gru = nn.GRU(40, 96, 2, batch_first=True)
        self.output = nn.Linear(96, DIGITS)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.gru(x)[0].mean(1))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.rate)


def trainer(epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader(data: Digits) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*data.train), batch_size=32, shuffle=True, drop_last=True)


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    args = options(__doc__ or "")
    data, epochs = digits(args.data, args.quick), 2 if args.quick else 10
    model = Recognizer()
    trainer(epochs).fit(model, loader(data))

    longer = Recognizer(rate=1e-3)  # compression trains on, so what it is compared with does too
    longer.load_state_dict(model.state_dict())
    trainer(epochs).fit(longer, loader(data))
    before, uncompressed = error_rate(longer, data.test), write_float(longer, args.out)

    model.rate = 1e-3
    plan = sv.BitPlan.uniform(model, bits=2, grouping="row")
    callback = sv.CompressionCallback(plan, sv.S8BQAT())
    trainer(epochs, callback).fit(model, loader(data))
    packed = callback.session.finish()
    packed.save(args.out)

    fresh = Recognizer()
    sv.load(args.out, into=fresh)  # what is measured is the file
    report(before, error_rate(fresh, data.test), uncompressed, args.out, packed)


if __name__ == "__main__":
    run(main)
