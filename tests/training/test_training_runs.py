"""Training from a recipe to a file that runs: reproducible, resumable, and honest about what it continues."""

from __future__ import annotations

import json
import re
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from sottovoce.errors import ConfigError
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.packed import PackedMatrix, PackedModel, load_model, trained_hash
from sottovoce.training import phases, precision
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import CompressionConfig, DecodingConfig, Recipe, parse_recipe
from sottovoce.training.module import RnntModule
from sottovoce.training.run import Run, file_hash
from sottovoce.training.scoring import transcribe_split
from sottovoce.training.searching import epoch_seconds
from sottovoce.training.train import train


@pytest.fixture
def recipe() -> Recipe:
    """Two epochs of a tiny recognizer."""
    return parse_recipe(
        {
            "name": "tones",
            "tokenizer": {"kind": "char", "vocabulary": 12},
            "data": {"max_duration": 5.0, "augment": {"noise": 0.02}},
            "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
            "phase": {"epochs": 3, "learning_rate": 5e-3, "warmup_steps": 4},
            "compression": {"phase": {"epochs": 2, "learning_rate": 2e-3, "warmup_steps": 0, "weight_decay": 0.0}},
        },
        "test",
    )


class Killed(BaseException):
    """Stands for a signal: no handler of errors may see it."""


class KillAfter(pl.Callback):
    """Dies after an optimizer step, and notes the step at which each training began."""

    def __init__(self, step: int | None, started: list[int]) -> None:
        self.step, self.started = step, started

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started.append(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            raise Killed


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> object:
    """Makes the next training die at an optimizer step."""
    original = phases._callbacks
    started: list[int] = []

    def arm(step: int | None) -> list[int]:
        monkeypatch.setattr(phases, "_callbacks", lambda *args: [*original(*args), KillAfter(step, started)])
        return started

    return arm


def tensors(path: Path) -> dict[str, np.ndarray]:
    packed = load_model(path)
    return {name: packed.decode(name).copy() for name in packed.tensors}


def job(recipe: Recipe, tones: Path, run: Run, folder: Path, scheme: str | None, **options: object) -> Job:
    settings = scheme and CompressionConfig(bits=4, scheme=scheme, options=options, phase=recipe.compression.phase)
    return Job(recipe, tones, run.folder, run.module, folder, settings or None, seed=0)


def test_a_processor_without_bfloat16_trains_in_float32(
    tones: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runs = {}
    for asked in ("32-true", "bf16-mixed"):
        training = recipe.training.model_copy(update={"precision": asked})
        runs[asked] = train(recipe.model_copy(update={"training": training}), tones, tmp_path / asked)
        assert ("this processor has no fast bf16-mixed" in capsys.readouterr().out) == (asked == "bf16-mixed")
    plain, found = (tensors(run.model) for run in runs.values())
    assert all(np.array_equal(plain[name], found[name]) for name in plain)
    settings = Run.settings(tmp_path / "bf16-mixed")
    assert settings["recipe"]["training"]["precision"] == "bf16-mixed"  # a run belongs to what was asked for


def test_what_the_processor_can_is_found_without_a_random_number() -> None:
    precision._multiplies_bfloat16.cache_clear()
    before = torch.get_rng_state()
    precision.precision_here("bf16-mixed")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{}, {"averaging": 0.9}, {"patience": 5}, {"precision": "bf16-mixed"}])
def test_the_same_seed_gives_the_same_file_and_a_kill_changes_nothing(
    tones: Path, recipe: Recipe, tmp_path: Path, kill_at, dev_wer, changes: dict[str, object]
) -> None:
    dev_wer([30.0, 20.0, 10.0])  # the last epoch is the best: nothing hides a difference
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
    whole = train(recipe, tones, tmp_path / "whole", progress=False)
    for step in (3, 9, 16):
        kill_at(step)
        with pytest.raises(Killed):
            train(recipe, tones, tmp_path / "cut", progress=False)
        assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert (tmp_path / "cut" / "checkpoints" / "last.ckpt").exists()
    started = kill_at(None)
    cut = train(recipe, tones, tmp_path / "cut", progress=False)
    assert started and started[-1] > 9  # it went on, and did not begin anew
    assert whole.model.read_bytes() == cut.model.read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3] and all("dev_wer" in row and "train_loss" in row for row in rows)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(row["seconds"] > 0 for row in rows)
    assert epoch_seconds(tmp_path / "cut") == sorted(row["seconds"] for row in rows)[1]
    assert epoch_seconds(tmp_path) is None


def test_an_epoch_tells_what_it_measured_and_a_resumed_run_goes_on_telling(
    tones: Path, recipe: Recipe, tmp_path: Path, kill_at, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"validate_every": 2})})
    kill_at(16)
    with pytest.raises(Killed):
        train(recipe, tones, tmp_path / "run")
    before = capsys.readouterr().out
    kill_at(None)
    train(recipe, tones, tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [x.split(":")[0] for x in before.splitlines()] == ["epoch 1 of 3", "epoch 2 of 3"]
    assert ["dev_wer" in x for x in before.splitlines()] == [False, True]
    assert re.fullmatch(r"epoch 3 of 3: train_loss [\d.]+; \d+ s each", line)
    rows = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["dev_wer" in row for row in rows] == [False, True, False]


def test_a_finished_run_is_kept_and_other_settings_are_refused(tones: Path, recipe: Recipe, tmp_path: Path) -> None:
    run = train(recipe, tones, tmp_path / "run", progress=False)
    stamp, weights = run.model.stat().st_mtime_ns, load_model(run.model)
    train(recipe, tones, tmp_path / "run", progress=False)
    assert run.model.stat().st_mtime_ns == stamp and "blank_penalty" not in weights.architecture
    tuned = recipe.model_copy(update={"decoding": DecodingConfig(blank_penalty=1.5)})  # decoding trains nothing
    train(tuned, tones, tmp_path / "run", progress=False)
    assert Run.open(tmp_path / "run")[1].decoding.blank_penalty == 1.5
    before, after = weights, load_model(run.model)  # the file is told, and nothing else of it changes
    assert after.architecture == {**before.architecture, "blank_penalty": 1.5}
    assert all(np.array_equal(after.decode(name), before.decode(name)) for name in before.tensors)
    assert (after.input, after.tokenizer, after.provenance) == (before.input, before.tokenizer, before.provenance)
    stamp = run.model.stat().st_mtime_ns
    train(tuned, tones, tmp_path / "run", progress=False)
    assert run.model.stat().st_mtime_ns == stamp
    config = tmp_path / "run" / "config.yaml"  # as an earlier version left it, without an option of today's
    settings = yaml.safe_load(config.read_text())
    del settings["recipe"]["features"], settings["recipe"]["compression"]["zero"]
    config.write_text(yaml.safe_dump(settings))
    train(tuned, tones, tmp_path / "run", progress=False)
    assert run.model.stat().st_mtime_ns == stamp
    other = recipe.model_copy(update={"seed": 5})
    with pytest.raises(ConfigError, match=r"recipe\.seed was 0, now 5"):
        train(other, tones, tmp_path / "run", progress=False)


def test_training_goes_on_from_another_run(tones: Path, recipe: Recipe, tmp_path: Path) -> None:
    first = train(recipe, tones, tmp_path / "first", progress=False)
    still = recipe.model_copy(update={"phase": recipe.phase.model_copy(update={"learning_rate": 1e-12})})
    second = train(still, tones, tmp_path / "second", start=first, progress=False)
    old, new = load_file(first.module), load_file(second.module)
    assert all(np.allclose(new[name], old[name], atol=1e-6) for name in old)  # not a new network
    assert second.tokenizer.read_bytes() == first.tokenizer.read_bytes()
    with pytest.raises(ConfigError, match="start was"):
        train(still, tones, tmp_path / "second", start=second, progress=False)
    wider = {**recipe.model, "encoder_units": 16}
    with pytest.raises(ConfigError, match=r"module\.safetensors: expected trained weights of this recipe's network"):
        train(recipe.model_copy(update={"model": wider}), tones, tmp_path / "wider", start=first, progress=False)


@pytest.mark.parametrize("scheme", ["s8bqat", "admm", "gq", "linear_qat", "straight_through"])
def test_an_interrupted_arm_ends_where_an_uninterrupted_one_does(
    tones: Path, recipe: Recipe, tmp_path: Path, kill_at, scheme: str
) -> None:
    base = train(recipe, tones, tmp_path / "base", progress=False)
    whole = carry_out(job(recipe, tones, base, tmp_path / "whole", scheme))
    rows = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    kill_at(rows[0]["step"] + 1)
    with pytest.raises(Killed):
        carry_out(job(recipe, tones, base, tmp_path / "cut", scheme))
    started = kill_at(None)
    assert whole.read_bytes() == carry_out(job(recipe, tones, base, tmp_path / "cut", scheme)).read_bytes()
    assert started[-1] == rows[0]["step"]


@pytest.fixture
def forking(recipe: Recipe) -> Recipe:
    """Four epochs, with a snapshot after the first of them."""
    return parse_recipe(
        {
            **recipe.model_dump(mode="json"),
            "phase": {"epochs": 4, "learning_rate": 5e-3, "warmup_steps": 4},
            "compression": {"fork_at": 0.25},
        },
        "test",
    )


def fork_job(recipe: Recipe, tones: Path, run: Run, folder: Path, scheme: str | None, **options: object) -> Job:
    settings = CompressionConfig(bits=4, scheme=scheme, options=options) if scheme else None
    return Job(recipe, tones, run.folder, run.fork, folder, settings, seed=0)


def test_a_fork_goes_on_with_the_rest_of_the_schedule_and_the_batches_that_were_left(
    tones: Path, forking: Recipe, tmp_path: Path, kill_at
) -> None:
    base = train(forking, tones, tmp_path / "base", progress=False)
    steps = [json.loads(line)["step"] for line in (tmp_path / "base" / "metrics.jsonl").read_text().splitlines()]
    started = kill_at(None)
    # Straight-through that never begins is the base's own training: the rest of it must come out the same, bit for bit.
    late = carry_out(fork_job(forking, tones, base, tmp_path / "late", "straight_through", start=1.0))
    assert started == [steps[0]]
    reference, found = tensors(base.model), tensors(late)
    biases = [name for name in reference if "bias" in name]
    for name in biases:
        np.testing.assert_array_equal(reference[name].astype(np.float16), found[name])
    control = carry_out(fork_job(forking, tones, base, tmp_path / "fp32", None))
    assert all(np.array_equal(reference[name], value) for name, value in tensors(control).items())
    assert (tmp_path / "fp32" / "module.safetensors").read_bytes() == base.module.read_bytes()
    events = carry_out(fork_job(forking, tones, base, tmp_path / "events", "s8bqat", finish=None, period=0.6)).parent
    due = [json.loads(line)["step"] for line in (events / "events.jsonl").read_text().splitlines()]
    assert due == [round(0.6 * (steps[-1] - steps[0]))]  # shares are of the rest, not of the whole


def test_an_interrupted_fork_ends_where_an_uninterrupted_one_does(
    tones: Path, forking: Recipe, tmp_path: Path, kill_at
) -> None:
    base = train(forking, tones, tmp_path / "base", progress=False)
    whole = carry_out(fork_job(forking, tones, base, tmp_path / "whole", "s8bqat"))
    rows = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    for step in (rows[0]["step"] - 1, rows[1]["step"] + 1):
        kill_at(step)
        with pytest.raises(Killed):
            carry_out(fork_job(forking, tones, base, tmp_path / "cut", "s8bqat"))
    started = kill_at(None)
    assert whole.read_bytes() == carry_out(fork_job(forking, tones, base, tmp_path / "cut", "s8bqat")).read_bytes()
    assert started[-1] == rows[1]["step"]


def test_a_killed_base_keeps_the_same_snapshot(tones: Path, forking: Recipe, tmp_path: Path, kill_at) -> None:
    whole = train(forking, tones, tmp_path / "whole", progress=False)
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    for step in (steps[0] - 1, steps[0] + 1):
        kill_at(step)
        with pytest.raises(Killed):
            train(forking, tones, tmp_path / "cut", progress=False)
    kill_at(None)
    cut = train(forking, tones, tmp_path / "cut", progress=False)
    states = [torch.load(run.fork, weights_only=True)["state_dict"] for run in (whole, cut)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("changes", [{"averaging": 0.9}, {"patience": 3}])
def test_what_has_no_rest_to_go_on_with_is_refused(forking: Recipe, changes: dict[str, object]) -> None:
    data = forking.model_dump(mode="json")
    with pytest.raises(ConfigError, match="fork_at"):
        parse_recipe({**data, "training": {**data["training"], **changes}}, "test")


def test_arms_share_batches_and_end_as_files_that_run(tones: Path, recipe: Recipe, tmp_path: Path) -> None:
    base = train(recipe, tones, tmp_path / "base", progress=False)
    control = carry_out(job(recipe, tones, base, tmp_path / "fp32", None))
    assert not any(isinstance(t, PackedMatrix) for t in load_model(control).tensors.values())
    # Straight-through that never begins trains exactly as the control does, batch by batch.
    late = carry_out(job(recipe, tones, base, tmp_path / "late", "straight_through", start=1.0))
    reference, found = tensors(control), tensors(late)
    module = tmp_path / "fp32" / "module.safetensors"
    rounded = carry_out(
        Job(recipe, tones, base.folder, module, tmp_path / "ptq", CompressionConfig(bits=4, scheme="ptq"), seed=0)
    )
    biases = [name for name in reference if "bias" in name]
    assert all(np.array_equal(found[n], reference[n].astype(np.float16).astype(np.float32)) for n in biases)
    for path in (control, late, rounded):
        hypotheses = transcribe_split(path, tones, "test")
        assert len(hypotheses) == 12 and all(s.errors.words > 0 for s in score_hypotheses(hypotheses))
    packed = load_model(rounded)
    assert packed.provenance["scheme"] == "ptq" and packed.provenance["bits"] == 4
    assert packed.architecture == load_model(control).architecture


def test_unknown_options_of_a_scheme_are_refused(tones: Path, recipe: Recipe, tmp_path: Path) -> None:
    base = train(recipe, tones, tmp_path / "base", progress=False)
    with pytest.raises(ConfigError, match="strenght"):
        carry_out(job(recipe, tones, base, tmp_path / "arm", "s8bqat", strenght=3.0))
    with pytest.raises(ConfigError, match="trained weights"):
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(b"")
        carry_out(Job(recipe, tones, base.folder, broken, tmp_path / "b", None, seed=0))


class Keep(pl.Callback):
    """The weights at the end of each epoch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, np.ndarray]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weights.append({k: v.numpy().copy() for k, v in pl_module.state_dict().items()})


@pytest.fixture
def dev_wer(monkeypatch: pytest.MonkeyPatch):
    """Replaces the dev WER of each epoch by a scripted one."""

    def script(values: list[float]) -> None:
        monkeypatch.setattr(
            RnntModule, "on_validation_epoch_end", lambda self: self.log("dev_wer", values[self.current_epoch])
        )

    return script


@pytest.mark.parametrize("kill", [None, 16, 24])  # while it gets better, and while patience counts
def test_early_stopping_ends_with_the_best_epoch(
    tones: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dev_wer, kill: int | None
) -> None:
    dev_wer([50.0, 40.0, 30.0, 35.0, 34.0, 33.0, 10.0, 9.0])
    changes = {
        "training": recipe.training.model_copy(update={"patience": 2}),
        "phase": recipe.phase.model_copy(update={"epochs": 8}),
    }
    keep, original = Keep(), phases._callbacks
    for step in (kill, None) if kill else (None,):
        extra = [keep, KillAfter(step, [])]
        monkeypatch.setattr(phases, "_callbacks", lambda *args, extra=extra: [*original(*args), *extra])
        if step:
            with pytest.raises(Killed):
                train(recipe.model_copy(update=changes), tones, tmp_path / "run", progress=False)
    run = train(recipe.model_copy(update=changes), tones, tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 5  # two epochs after the best
    found = load_file(run.module)
    matches = [all(np.array_equal(found[k], w[k]) for k in found) for w in keep.weights]
    assert matches == [False, False, True, False, False]


def test_a_retrained_base_is_not_mistaken_for_the_old_one(tones: Path, recipe: Recipe, tmp_path: Path) -> None:
    base = train(recipe, tones, tmp_path / "base", progress=False)
    carry_out(job(recipe, tones, base, tmp_path / "arm", "ptq"))
    other = train(recipe.model_copy(update={"seed": 3}), tones, tmp_path / "other", progress=False)
    base.model.write_bytes(other.model.read_bytes())
    with pytest.raises(ConfigError, match="base was"):
        carry_out(job(recipe, tones, base, tmp_path / "arm", "ptq"))


def test_a_run_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        Run.open(tmp_path)
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected keys and values"):
        Run.open(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match="recipe and data"):
        Run.open(tmp_path)


def test_a_penalty_that_is_tuned_later_gets_into_the_files_of_the_arms_too(
    tones: Path, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = recipe.model_copy(update={"phase": recipe.phase.model_copy(update={"epochs": 1})})
    tuned = recipe.model_copy(update={"decoding": DecodingConfig(blank_penalty=1.5)})
    rounding = CompressionConfig(scheme="ptq", bits=4)
    base = train(recipe, tones, tmp_path / "run", progress=False)
    before = trained_hash(base.model)
    assert before == file_hash(base.model)

    def arm(settings: Recipe) -> PackedModel:
        job = Job(settings, tones, base.folder, base.module, tmp_path / "arm", rounding, settings.seed)
        return load_model(carry_out(job))

    first = arm(recipe)
    train(tuned, tones, tmp_path / "run", progress=False)
    assert trained_hash(base.model) == before != file_hash(base.model)
    again = arm(tuned)
    assert "blank_penalty" not in first.architecture and again.architecture["blank_penalty"] == 1.5
    assert all(np.array_equal(first.decode(name), again.decode(name)) for name in first.tensors)
    assert "blank_penalty" not in arm(recipe).architecture  # and is taken back


def test_a_run_goes_on_with_as_many_devices_as_it_began_with(tones: Path, recipe: Recipe, tmp_path: Path) -> None:
    """The number of steps, and so the schedule, depends on them."""
    run = train(recipe, tones, tmp_path / "run", threads=1, progress=False)
    with pytest.raises(ConfigError, match="devices was 1, now 2"):
        train(recipe, tones, run.folder, devices=2, progress=False)


def test_a_damaged_checkpoint_is_named(tones: Path, recipe: Recipe, tmp_path: Path, kill_at) -> None:
    """Empty, or cut short, as a full disk leaves them."""
    kill_at(16)
    with pytest.raises(Killed):
        train(recipe, tones, tmp_path / "run", progress=False)
    kill_at(None)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for content in (b"", checkpoint.read_bytes()[:-500]):
        checkpoint.write_bytes(content)
        with pytest.raises(ConfigError, match=r"last\.ckpt: expected a whole checkpoint"):
            train(recipe, tones, tmp_path / "run", progress=False)
