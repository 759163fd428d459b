"""What a compressed run keeps of its weights for the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sottovoce as sv
from sottovoce.schemes import Scheme
from sottovoce.training.levels import LevelsFile, histograms
from sottovoce.training.phases import quiet_libraries
from sottovoce.training.run import Run

quiet_libraries()


class Regression(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def train(folder: Path, scheme: Scheme, *, steps: int = 100, checkpoint: Path | None = None) -> Regression:
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), scheme)
    trainer = pl.Trainer(
        max_steps=100, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=folder,
        callbacks=[callback, LevelsFile(folder, callback), Stop(steps)],
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    callback.session.finish()
    return module


class Stop(pl.Callback):
    """Ends training early, as an interruption does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.steps


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "levels.jsonl").read_text().splitlines()]


PUBLISHED = sv.S8BQAT.published(strength=1e-4, start=0.5, full=0.5, period=None)


@pytest.mark.parametrize("scheme", [sv.S8BQAT(strength=20.0, finish=None), sv.StraightThrough(), PUBLISHED])
def test_histograms_are_of_the_weights_before_and_of_the_latents_after(tmp_path: Path, scheme: Scheme) -> None:
    module = train(tmp_path, scheme)
    kept = json.loads((tmp_path / "weights.json").read_text())
    weight = Regression().net[0].weight
    assert kept["before"]["net.0.weight"] == histograms({"w": weight.detach()})["w"]
    assert sum(kept["before"]["net.0.weight"]["counts"]) == weight.numel()
    trained = kept["trained"]["net.0.weight"]
    assert sum(trained["counts"]) == weight.numel()
    assert len(module.net[0].weight.unique()) <= 4 < sum(count > 0 for count in trained["counts"])
    found = rows(tmp_path)
    assert [row["step"] for row in found] == [*range(0, 100, 2), 100] and {row["steps"] for row in found} == {100}
    for row in found:
        sizes = {"net.0.weight": 72, "net.2.weight": 12}
        mean = sum(row["bands"][name] * size for name, size in sizes.items()) / 84
        assert row["share"] == pytest.approx(mean, abs=2e-6)
        assert 0 <= row["clipped"] < 0.5
    weighed = [row["step"] for row in found if "penalty_ratio" in row]
    assert weighed == ([*range(52, 101, 2)] if scheme is PUBLISHED else [])
    assert all(row["penalty_ratio"] > 0 for row in found if "penalty_ratio" in row)


def test_what_is_clipped_is_a_mean_over_weights(tmp_path: Path) -> None:
    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), sv.PTQ())
    callback._session = sv.compress(module, callback.plan, callback.scheme)
    small = callback.session.bands[1]
    small.weight().mul_(100.0)  # far outside levels that were taken before: 12 of 84 weights
    file = LevelsFile(tmp_path, callback)
    before = callback.session.clip_rates()["net.0.weight"]
    file._record()
    assert rows(tmp_path)[0]["clipped"] == pytest.approx((72 * before + 12) / 84, abs=2e-6)


def test_a_resumed_run_keeps_what_was_recorded(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    train(whole, sv.StraightThrough())
    train(parts, sv.StraightThrough(), steps=40)
    train(parts, sv.StraightThrough(), checkpoint=parts / "last.ckpt")
    first, second = (json.loads((folder / "weights.json").read_text()) for folder in (whole, parts))
    assert first["before"] == second["before"]
    assert [row["step"] for row in rows(parts)] == [row["step"] for row in rows(whole)]


def test_equal_weights_are_one_bin() -> None:
    assert histograms({"w": torch.full((3, 2), 0.5)})["w"] == {"low": 0.5, "high": 0.5, "counts": [6]}


def test_a_run_says_what_it_was_made_with_and_a_finished_one_goes_on_saying_it(tmp_path: Path) -> None:
    run = Run.begin(tmp_path, {"seed": 1})
    kept = tmp_path / "environment.json"
    assert json.loads(kept.read_text())["torch"] == torch.__version__
    kept.write_text("{}")
    run.model.write_bytes(b"")
    Run.begin(tmp_path, {"seed": 1})
    assert kept.read_text() == "{}"
