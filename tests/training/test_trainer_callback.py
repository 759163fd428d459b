"""The callback beside a Hugging Face Trainer that knows nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import PlanError

transformers = pytest.importorskip("transformers", reason="needs the extra [hf]")


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
        self.seen: list[int] = []

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.seen.append(len(self.net[0].weight.detach().unique()))
        y = self.net(x)
        return {"loss": nn.functional.mse_loss(y, labels), "logits": y}


def rows(count: int = 64) -> list[dict[str, Tensor]]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return [{"x": row, "labels": row.sum()[None]} for row in x]


def new_model() -> Regression:
    torch.manual_seed(0)
    return Regression()


def trainer(folder: Path, model: nn.Module, callback: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": 24, "per_device_train_batch_size": 8, "learning_rate": 1e-2,
        "use_cpu": True, "report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
        "seed": 0,
    }  # fmt: skip
    arguments = transformers.TrainingArguments(**{**settings, **changes})
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=rows(), eval_dataset=rows(16), callbacks=[callback]
    )


def callback_for(model: nn.Module, scheme: Any = None, **options: Any) -> Any:
    scheme = scheme or sv.S8BQAT(strength=2.0, start=0.0, finish=0.4, refit=3)
    return sv.TrainerCompressionCallback(sv.BitPlan.uniform(model, bits=2), scheme, **options)


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"bf16": True}])
def test_forward_sees_quantized_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    model = new_model()
    callback = callback_for(model, sv.StraightThrough())
    trainer(tmp_path, model, callback, **options).train()
    assert callback.session.step == 24
    parts = options.get("gradient_accumulation_steps", 1)
    assert len(model.seen) == 24 * parts and max(model.seen[parts:]) <= 4 < model.seen[0]
    packed = callback.session.finish()
    assert np.array_equal(packed.decode("net.0.weight"), model.net[0].weight.detach().numpy())


def test_a_resumed_trainer_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = new_model()
    callback = callback_for(whole)
    runner = trainer(tmp_path / "whole", whole, callback, save_strategy="steps", save_steps=8)
    runner.train()
    expected = callback.session.finish()
    for step in (8, 16):  # before and in the phase on quantized weights
        resumed = new_model()
        callback = callback_for(resumed, resume_from=tmp_path / "whole" / f"checkpoint-{step}")
        runner = trainer(tmp_path / "resumed", resumed, callback, save_strategy="steps", save_steps=8)
        runner.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        packed = callback.session.finish()
        assert all(np.array_equal(packed.decode(name), expected.decode(name)) for name in expected.tensors)
    with pytest.raises(PlanError, match=r"compression\.pt: .* of step 16, .* on from step 8"):
        runner.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-8"))
    # Without a folder named, it is that of the run itself.
    again = new_model()
    callback = callback_for(again)
    trainer(tmp_path / "whole", again, callback).train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-16"))
    assert callback.session.step == 24
    # The same callback, whose session is on quantized weights now, goes back to before that phase.
    trainer(tmp_path / "whole", again, callback).train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-8"))
    packed = callback.session.finish()
    assert all(np.array_equal(packed.decode(name), expected.decode(name)) for name in expected.tensors)
    callback = callback_for(again)
    with pytest.raises(PlanError, match=r"compression\.pt: cannot read"):
        runner = trainer(tmp_path / "elsewhere", again, callback)
        runner.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-16"))


def test_the_best_checkpoint_is_what_is_packed(tmp_path: Path) -> None:
    model = new_model()
    callback = callback_for(model, sv.StraightThrough())
    # The worst one is taken for the best, to be told apart from the last one.
    runner = trainer(
        tmp_path, model, callback, save_strategy="steps", save_steps=4, eval_strategy="steps", eval_steps=4,
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True,
    )  # fmt: skip
    runner.train()
    best = Path(runner.state.best_model_checkpoint)
    assert best.name != "checkpoint-24"
    saved = torch.load(best / "compression.pt", weights_only=True)
    callback.session.close()
    assert torch.equal(model.net[0].weight.detach(), saved["latents"]["net.0.weight"])


def test_a_published_penalty_reaches_the_gradients(tmp_path: Path) -> None:
    norms = []

    class Watch(transformers.TrainerCallback):
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            norms.append(float(kwargs["model"].net[0].weight.grad.norm()))

    for strength in (0.0, 1.0):
        model = new_model()
        runner = trainer(
            tmp_path, model, callback_for(model, sv.S8BQAT.published(strength=strength, period=None)), max_steps=1
        )
        runner.add_callback(Watch())
        runner.train()
    assert norms[1] > 10 * norms[0]


def test_a_log_has_the_rates_of_its_epoch(tmp_path: Path) -> None:
    model = new_model()
    callback = callback_for(model)
    run = trainer(tmp_path, model, callback, logging_strategy="epoch")
    run.train()
    rows = [row for row in run.state.log_history if "hit_rate" in row]
    assert len(rows) == 3 and {row["epoch"] for row in rows} == {1.0, 2.0, 3.0}
    assert rows[-1] == rows[-1] | callback.session.mean_rates()
    assert all(0 <= row["clip_rate"] < 1 and "loss" in row for row in rows)


def test_a_part_of_the_model_and_a_session_that_has_not_begun(tmp_path: Path) -> None:
    model = new_model()
    callback = callback_for(model.net, submodule="net")
    with pytest.raises(PlanError, match="begins with trainer"):
        _ = callback.session
    trainer(tmp_path, model, callback, max_steps=3).train()
    assert set(callback.session.finish().tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
