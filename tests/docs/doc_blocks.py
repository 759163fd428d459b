"""Code blocks of the documentation, and what they are run on: made-up speech and text, and tiny settings."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import SMALL, random_model, tokenizer, vocabulary

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _navigation(entries: list[Any]) -> list[str]:
    found = [value for entry in entries for value in entry.values()]
    return [page for value in found for page in ([value] if isinstance(value, str) else _navigation(value))]


PAGES = ("../README.md", *_navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
"""In the order in which a reader, and the test, goes through them: a page may use what one before it has made."""

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

RECOGNIZER = (
    "phase.epochs=2",
    "phase.warmup_steps=1",
    "compression.phase.epochs=1",
    "compression.phase.warmup_steps=0",
    "data.epoch_strings=24",
    "model.encoder_units=16",
    "model.embedding=8",
    "model.predictor_units=8",
    "model.joiner_units=12",
    "training.precision=32-true",
)
TEXT = ("phase.epochs=2", "phase.warmup_steps=1", "model.embedding=12", "model.units=12", "training.precision=32-true")
SMALLER = {
    "data prepare fsdd": ("--set", "train_strings=24"),
    "compress": ("--threads", "1"),
    "search": ("--threads", "1", "--utterances", "4"),
    "bench": ("--frames", "5"),
    "export": ("--chunk", "16"),
}
"""What the test adds to a command, so that it is done in a second: sizes and lengths, never a way through the code."""


@dataclass(frozen=True)
class Block:
    """A fence: its language, the words after it, its text, and the line on which it opens."""

    language: str
    info: str
    text: str
    line: int

    @property
    def runs(self) -> bool:
        return "no-run" not in self.info.split()

    @property
    def reason(self) -> str:
        found = re.search(r'reason="([^"]+)"', self.info)
        return found[1] if found else ""

    @property
    def title(self) -> str:
        """The file that the block is, if it is one."""
        found = re.search(r'title="([^"]+)"', self.info)
        return found[1] if found else ""

    def commands(self) -> list[list[str]]:
        """Its command lines in words, comments left out, lines that end in a backslash joined."""
        text = self.text.replace("\\\n", " ").replace("&&", "\n")
        lines = (line.removeprefix("$ ") for line in text.splitlines())
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, _, info = match[1].strip().partition(" ")
        found.append(Block(language, info, match[2], text.count("\n", 0, match.start()) + 1))
    return found


def smaller(words: list[str]) -> list[str]:
    """A command as the page has it, with a tiny network and few steps."""
    if words[0] == "train":
        of_text = "text" in words[words.index("--data") + 1]
        return [*words, "--threads", "1", *(w for s in (TEXT if of_text else RECOGNIZER) for w in ("--set", s))]
    for command, more in SMALLER.items():
        if words[: len(command.split())] == command.split():
            if command == "export" and "sherpa-onnx" not in words:
                return words
            return [*words, *(more if more[0] not in words else ())]
    return words


def furnish(folder: Path) -> None:
    """What the pages say that a reader has: a corpus of spoken digits, recordings, text, and README's recognizer."""
    rng = np.random.default_rng(0)
    for speaker, name in enumerate(("george", "jackson", "lucas", "nicolas", "theo", "yweweler")):
        for digit in range(10):
            for take in range(2):
                time = np.arange(1600) / 8000
                sound = 0.3 * np.sin(2 * np.pi * (200 + 100 * digit + 7 * speaker) * time)
                path = folder / "free-spoken-digit-dataset" / "recordings" / f"{digit}_{name}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sound + rng.normal(0, 0.01, len(time)), 8000)
    soundfile.write(folder / "speech.wav", 0.1 * rng.normal(size=16_000), 16_000)
    (folder / "recordings").mkdir()
    soundfile.write(folder / "recordings" / "one.flac", 0.1 * rng.normal(size=16_000), 16_000)
    (folder / "text").mkdir()
    for split, lines in (("train", 200), ("dev", 30), ("test", 30)):
        text = "\n".join(" ".join(rng.choice(DIGITS, rng.integers(2, 6))) for _ in range(lines))
        (folder / "text" / f"{split}.txt").write_text(text + "\n")
    (folder / "runs" / "fsdd-5bit").mkdir(parents=True)
    a = replace(SMALL, vocabulary=vocabulary())
    recognizer = random_model(a, input={"kind": "waveform", "bins": 5}, tokenizer=tokenizer())
    recognizer.save(folder / "runs" / "fsdd-5bit" / "model.safetensors")


class Toy(nn.Module):
    """A network whose call is the loss of a batch (N, T) while it trains, and logits (N, T, V) afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(24, 16)
        self.front = nn.ModuleDict({"conv": nn.Conv1d(16, 16, 1)})
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.output = nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.lstm(self.front["conv"](self.embedding(x).mT).mT)[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), x.roll(-1, 1).flatten()) if self.training else logits


def given() -> dict[str, Any]:
    """Names that stand in the pages for what a reader has, new for each block."""
    torch.manual_seed(0)
    model = Toy()
    loader = list(torch.randint(0, 24, (6, 4, 5)))
    logits = torch.randn(4, 5, 24, requires_grad=True)
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loader": loader,
        "batches": loader,
        "batch": loader[0],
        "epochs": 1,
        "logits": logits,
        "task_loss": logits.square().mean(),
        "samples": np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32),
        "chunks": np.random.default_rng(0).normal(0, 0.1, (10, 1600)).astype(np.float32),
    }
