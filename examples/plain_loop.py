"""A recognizer of spoken digits, trained by an ordinary PyTorch loop, at four bits: two lines beside the loop.

python examples/plain_loop.py [--data FSDD/recordings] [--out digits.safetensors]
"""

from __future__ import annotations

import torch
from spoken_digits import DIGITS, Digits, batches, digits, error_rate, options, report, run, write_float
from torch import Tensor, nn

import sottovoce as sv


class Recognizer(nn.Module):
    """LSTM over log-mel frames (N, T, 40), a linear layer over its mean: logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 96, batch_first=True)
        self.output = nn.Linear(96, DIGITS)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.lstm(x)[0].mean(1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Digits, epochs: int) -> None:
    """A loop that knows nothing of compression."""
    for epoch in range(epochs):
        for x, y in batches(data.train, epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def main() -> None:
    args = options(__doc__ or "")
    data, epochs = digits(args.data, args.quick), 2 if args.quick else 10
    model = Recognizer()
    train(model, torch.optim.AdamW(model.parameters(), lr=2e-3), data, epochs)

    longer = Recognizer()  # compression trains on, so what it is compared with does too
    longer.load_state_dict(model.state_dict())
    train(longer, torch.optim.AdamW(longer.parameters(), lr=1e-3), data, epochs)
    before, uncompressed = error_rate(longer, data.test), write_float(longer, args.out)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = epochs * len(batches(data.train, 0))
    plan = sv.BitPlan.uniform(model, bits=4)
    session = sv.compress(model, plan, sv.S8BQAT(), optimizer=optimizer, total_steps=steps)
    train(model, optimizer, data, epochs)
    packed = session.finish()
    packed.save(args.out)

    fresh = Recognizer()
    sv.load(args.out, into=fresh)  # what is measured is the file
    report(before, error_rate(fresh, data.test), uncompressed, args.out, packed)


if __name__ == "__main__":
    run(main)
