"""The callback beside a LightningModule that knows nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, OnExceptionCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import sottovoce as sv
from sottovoce.errors import PlanError
from sottovoce.training.phases import quiet_libraries

quiet_libraries()


class Regression(pl.LightningModule):
    def __init__(self, optimizers: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
        self.optimizers_wanted = optimizers
        self.automatic_optimization = optimizers == 1
        self.seen: list[int] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        self.seen.append(len(self.net[0].weight.detach().unique()))
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        found = [torch.optim.Adam(self.parameters(), lr=1e-2) for _ in range(self.optimizers_wanted)]
        return found if len(found) > 1 else found[0]


def loader() -> DataLoader[tuple[Tensor, ...]]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=g)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)


def trainer(folder: Path, callback: pl.Callback, **changes: Any) -> pl.Trainer:
    settings = {
        "max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": folder,
    }  # fmt: skip
    return pl.Trainer(callbacks=[callback], **{**settings, **changes})


@pytest.mark.parametrize("submodule", [None, "net"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_forward_sees_quantized_weights_and_checkpoints_hold_latents(
    tmp_path: Path, submodule: str | None, clip: float | None
) -> None:
    torch.manual_seed(0)
    module = Regression()
    plan = sv.BitPlan.uniform(module.get_submodule(submodule) if submodule else module, bits=2)
    callback = sv.CompressionCallback(plan, sv.StraightThrough(), submodule=submodule)
    runner = trainer(tmp_path, callback, gradient_clip_val=clip)
    runner.fit(module, loader())
    assert len(module.seen) == 24 and callback.session.step == 24
    assert max(module.seen[1:]) <= 4  # from the first optimizer step on
    runner.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]["net.0.weight"]
    assert len(saved.unique()) > 4 and len(module.net[0].weight.detach().unique()) <= 4
    packed = callback.session.finish()
    assert torch.equal(
        torch.from_numpy(packed.decode(plan_name := next(iter(plan.weights)))), module.net[0].weight.data
    )
    assert plan_name.endswith("0.weight")


@pytest.mark.parametrize("options", [{"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_accumulation_and_mixed_precision(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), sv.StraightThrough())
    trainer(tmp_path, callback, **options).fit(module, loader())
    parts = options.get("accumulate_grad_batches", 1)
    assert callback.session.step == callback.session.total_steps == 24 // parts
    assert max(module.seen[parts:]) <= 4 < module.seen[0]
    packed = callback.session.finish()
    assert torch.equal(torch.from_numpy(packed.decode("net.0.weight")), module.net[0].weight.data)


class StopAfter(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epoch


@pytest.mark.parametrize(
    "scheme",
    [
        sv.S8BQAT(strength=2.0, start=0.0, refit=3),
        sv.S8BQAT.published(calibrate=0.3),  # its penalty is looked at while it trains
    ],
)
def test_a_resumed_trainer_ends_with_the_same_weights(tmp_path: Path, scheme: sv.S8BQAT) -> None:
    def fit(stop: int, resume: Path | None) -> Regression:
        torch.manual_seed(0)
        module = Regression()
        callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=3), scheme)
        runner = trainer(tmp_path, callback)
        runner.callbacks.append(StopAfter(stop))  # type: ignore[attr-defined]
        runner.fit(module, loader(), ckpt_path=resume, weights_only=True)
        if resume is None and stop < 3:
            runner.save_checkpoint(tmp_path / "half.ckpt")
        return module

    whole = fit(3, None)
    fit(2, None)
    resumed = fit(3, tmp_path / "half.ckpt")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


class Standing(Regression):
    """Nothing moves, so that every step has the same gradients."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_an_epoch_logs_shares_and_the_weight_of_the_penalty(tmp_path: Path, clip: float | None) -> None:
    torch.manual_seed(0)
    module = Standing()
    x = torch.randn(8, 6)
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    plan = sv.BitPlan.uniform(module, bits=2)
    callback = sv.CompressionCallback(plan, sv.S8BQAT.published(strength=1e-2, period=None))
    runner = trainer(tmp_path, callback, max_epochs=2, gradient_clip_val=clip)
    runner.fit(module, data)
    session = callback.session
    module.zero_grad()
    nn.functional.mse_loss(module.net(x), x.sum(1, keepdim=True)).backward()
    planned = [band.planned.weight.parameter for band in session.bands]
    task = torch.cat([p.grad.flatten() for p in planned])
    module.zero_grad()
    session.penalty().backward()
    pull = torch.cat([p.grad.flatten() for p in planned])
    assert float(runner.callback_metrics["penalty_ratio"]) == pytest.approx(float(pull.norm() / task.norm()), rel=1e-4)
    for name, rates in (("hit_rate", session.hit_rates()), ("clip_rate", session.clip_rates())):
        assert float(runner.callback_metrics[name]) == pytest.approx(sum(rates.values()) / len(rates))


@pytest.mark.parametrize(("form", "most"), [("published", 50), ("decoupled", 0)])
def test_the_penalty_is_weighed_some_fifty_times_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, most: int
) -> None:
    looks: list[int] = []
    whole = sv.S8BQAT.penalty_ratio
    monkeypatch.setattr(sv.S8BQAT, "penalty_ratio", lambda self, s: [looks.append(s.step), whole(self, s)][1])
    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), sv.S8BQAT(form=form, strength=1.0, start=0.0))
    runner = trainer(tmp_path, callback, max_epochs=50)
    runner.fit(module, loader())
    assert callback.session.total_steps == 400 and len(looks) <= most
    # Once the finishing phase has begun the penalty is still in the loss, as before.
    assert (form == "published") == (len(looks) > 40) and all(step % 8 == 7 for step in looks)
    assert ("penalty_ratio" in runner.callback_metrics) == (form == "published")


class LateStrategy(SingleDeviceStrategy):
    """As strategies that shard: a checkpoint is read after on_fit_start."""

    restore_checkpoint_after_setup = True


def test_the_same_callback_goes_back_or_begins_anew(tmp_path: Path) -> None:
    def weights(module: Regression) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in module.parameters()]

    torch.manual_seed(0)
    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=3), sv.S8BQAT(strength=2.0, start=0.0, refit=3))
    runner = trainer(tmp_path, callback)
    runner.callbacks.append(SaveAfter(tmp_path / "early.ckpt"))  # type: ignore[attr-defined]
    runner.fit(module, loader())
    whole = weights(module)
    trainer(tmp_path, callback).fit(module, loader(), ckpt_path=tmp_path / "early.ckpt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(module), whole, strict=True))
    late = trainer(tmp_path, callback, strategy=LateStrategy(device="cpu"))
    late.fit(module, loader(), ckpt_path=tmp_path / "early.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(weights(module), whole, strict=True))
    trainer(tmp_path, callback, max_epochs=1).fit(module, loader())
    assert callback.session.step == 8


class SaveAfter(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def test_a_published_penalty_reaches_the_gradients(tmp_path: Path) -> None:
    norms = []
    for strength in (0.0, 1.0):
        torch.manual_seed(0)
        module = Regression()
        scheme = sv.S8BQAT.published(strength=strength, period=None)
        callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), scheme)
        trainer(tmp_path, callback, max_epochs=1, max_steps=1).fit(module, loader())
        norms.append(float(module.net[0].weight.grad.norm()))  # type: ignore[union-attr]
    assert norms[1] > 10 * norms[0]


def test_what_cannot_be_compressed_is_refused(tmp_path: Path) -> None:
    module = Regression(optimizers=2)
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), sv.PTQ())
    with pytest.raises(PlanError, match="begins with"):
        _ = callback.session
    with pytest.raises(PlanError, match="one optimizer, found 2"):
        trainer(tmp_path, callback).fit(module, loader())

    class Endless(IterableDataset[list[Tensor]]):
        def __iter__(self) -> Any:
            while True:
                yield [torch.zeros(2, 6), torch.zeros(2, 1)]

    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), sv.PTQ())
    with pytest.raises(PlanError, match="max_steps"):
        trainer(tmp_path, callback).fit(module, DataLoader(Endless(), batch_size=None))


def test_lightnings_averages_are_refused(tmp_path: Path) -> None:
    module = Regression()
    callback = sv.CompressionCallback(sv.BitPlan.uniform(module, bits=2), sv.StraightThrough())
    runner = trainer(tmp_path, callback)
    runner.callbacks.append(EMAWeightAveraging())  # type: ignore[attr-defined]
    with pytest.raises(PlanError, match=r"EMAWeightAveraging beside compression .*on_latents"):
        runner.fit(module, loader())


class Broken(pl.Callback):
    """Raises once, after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("broken")


def test_a_checkpoint_of_an_exception_resumes_to_the_bit(tmp_path: Path) -> None:
    """Lightning saves it when the callback has left its session. All batches are equal: which are read anew is
    Lightning's affair."""
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)).repeat(8, 1)
    batches = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)

    def run(name: str, breaks: int | None = None, ckpt: Path | None = None) -> Regression:
        torch.manual_seed(0)
        module = Regression()
        callback = sv.CompressionCallback(sv.BitPlan.uniform(module, 2), sv.StraightThrough(start=0.0))
        fit = trainer(tmp_path / name, callback)
        fit.callbacks += [Broken(breaks), OnExceptionCheckpoint(tmp_path)] if breaks else []
        try:
            fit.fit(module, batches, ckpt_path=ckpt, weights_only=False)
        except RuntimeError as error:
            assert breaks and str(error) == "broken"
        return module

    whole = run("whole")
    run("broken", 11)
    resumed = run("resumed", ckpt=tmp_path / "on_exception.ckpt")
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
