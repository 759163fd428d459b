"""The commands as a user meets them: what they print, what they leave, and one line with exit code 2 for a mistake."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from sottovoce.cli import main as cli
from sottovoce.packed import load_model
from sottovoce.quant.spec import KINDS
from sottovoce.training.arms import _SCHEMES
from sottovoce.training.config import parse_recipe
from sottovoce.training.run import file_hash
from sottovoce.training.train import train

TINY = {
    "name": "tiny",
    "tokenizer": {"kind": "char", "vocabulary": 12},
    "data": {"max_duration": 5.0},
    "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
    "phase": {"epochs": 1, "learning_rate": 5e-3, "warmup_steps": 4},
    "compression": {"phase": {"epochs": 1, "learning_rate": 2e-3, "warmup_steps": 0}},
}


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_from_a_recipe_to_five_bits_and_back(run, tones: Path, recipe_file: Path, tmp_path: Path) -> None:
    base, arm = tmp_path / "base", tmp_path / "arm"
    code, out, _ = run("train", recipe_file, "--data", tones, "--out", base, "--threads", 1)
    assert code == 0 and "model.safetensors" in out
    code, out, err = run(
        "compress", base, "--out", arm, "--bits", 4, "--kind", "uniform", "--grouping", "row", "--threads", 1
    )
    assert code == 0 and "x smaller" in out, err
    assert all(
        b.bits == 4 and b.grouping == "row"
        for b in load_model(arm / "model.safetensors").tensors["joiner.output.weight"].bands
    )  # type: ignore[union-attr]
    plan = json.loads((arm / "plan.json").read_text())
    assert plan["version"] == 1 and plan["weights"]["joiner.output.weight"][0]["bits"] == 4
    code, out, _ = run("evaluate", arm, "--data", tones, "--json", "--hypotheses", tmp_path / "h.jsonl")
    figures = json.loads(out)
    assert code == 0 and figures["words"] > 0 and figures["model_bytes"] < figures["file_bytes"]
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == 12
    code, out, _ = run("evaluate", base, "--data", tones, "--split", "dev", "--method", "beam", "--arithmetic", "float")
    assert code == 0 and out.startswith("dev: WER ")
    code, out, _ = run("evaluate", arm, "--data", tones, "--split", "dev", "--arithmetic", "accelerator")
    assert code == 0 and out.startswith("dev: WER ")
    code, _, err = run("evaluate", base, "--data", tones, "--split", "dev", "--arithmetic", "accelerator")
    assert code == 2 and "expects a packed matrix, found float32" in err and err.count("\n") == 1
    code, out, _ = run("inspect", arm / "model.safetensors", "--json")
    assert code == 0 and "joiner.output.weight" in out
    code, out, _ = run("inspect", arm / "model.safetensors")
    packed = [line for line in out.splitlines() if line.startswith("joiner.output.weight")]
    assert code == 0 and "█" in packed[0] and "report.html" in run("report", arm)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "none.yaml", "--data", ".", "--out", "x"), "none.yaml: no such recipe"),
        (("train", "{recipe}", "--data", "nowhere", "--out", "{tmp}/x"), "nowhere"),
        (("train", "{recipe}", "--data", "{tones}", "--out", "{tmp}/x", "--set", "phase.epoch=3"), "phase.epoch"),
        (("train", "{recipe}", "--data", "{tones}", "--out", "{tmp}/x", "--set", "data.bucket=3"), "bucket"),
        (
            ("train", "{recipe}", "--data", "{tones}", "--out", "{tmp}/x", "--set", "phase"),
            "expected key=value, or section.key=value",
        ),
        (("train", "{recipe}", "--data", "{tones}", "--out", "{tmp}/x", "--set", "name.a=1"), "name holds a value"),
        (("train", "{empty}", "--data", "{tones}", "--out", "{tmp}/x"), "expected a recipe of keys and values"),
        (("train", "{recipe}", "--data", "{tones}", "--out", "{tmp}/x", "--set", "data.augment=5"), "data.augment"),
        (("train", "{recipe}", "--data", "{tones}", "--out", "{tmp}/x", "--set", "training.betas=[2, 3]"), "betas"),
        (("train", "{recipe}", "--data", "{tones}", "--out", "{empty}"), "empty.yaml: expected a folder"),
        (("train", "{recipe}", "--data", "{damaged}", "--out", "{tmp}/x"), "train.jsonl.gz: expected a manifest"),
        (("evaluate", "{empty}", "--data", "{damaged}"), "empty.yaml"),
        (("demo", "--out", "{empty}"), "empty.yaml: expected a folder"),
        (("report", "{empty}"), "empty.yaml: expected a run folder, found a file"),
        (("report", "{tmp}", "--out", "{tmp}"), "expected a file, found a folder"),
        (("compress", "{tmp}", "--out", "{tmp}/y"), "expected a run folder made by 'sottovoce train'"),
        (("evaluate", "{empty}", "--data", "{tones}"), "empty.yaml"),
        (("evaluate", "none.safetensors", "--data", "{tones}"), "none.safetensors"),
        (("inspect", "{tmp}"), "{tmp}"),
        (("transcribe", "none.safetensors", "{tmp}"), "expected audio files in this folder"),
        (
            ("demo", "--data", "librispeech:x", "--out", "{tmp}/d"),
            "--data librispeech:x: expected one of fsdd, synth, as NAME or NAME:DIR",
        ),
        (("demo", "--data", "fsdd:nowhere", "--out", "{tmp}/d"), "nowhere"),
        (("data", "prepare", "sinth", "--out", "{tmp}/z"), "did you mean 'synth'?"),
        (
            ("data", "prepare", "synth", "--recipe", "fsdd", "--out", "{tmp}/z"),
            "--recipe fsdd: expected one for the corpus 'synth', found 'fsdd'",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    run, tones: Path, recipe_file: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    damaged = tmp_path / "damaged"
    shutil.copytree(tones, damaged, ignore=shutil.ignore_patterns("audio", "features"))
    (damaged / "train.jsonl.gz").write_bytes(b"not a gzip")
    names = {"damaged": damaged, "tmp": tmp_path, "tones": tones, "recipe": recipe_file, "empty": empty}
    code, _, err = run(*(a.format(**names) for a in arguments))
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2, err
    assert lines[-1].startswith("error: ") and message.format(**names) in lines[-1], err
    assert "Traceback" not in err


def test_data_are_prepared_as_a_recipe_says(run, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "text" / f"{split}.txt").write_text("One TWO three\n" * 2)
    recipe = tmp_path / "lm.yaml"
    corpus = {"name": "text", "options": {"normalization": "lower"}}
    model = {"type": "lstm-lm", "embedding": 8, "units": 8, "layers": 1}
    recipe.write_text(yaml.safe_dump({"name": "lm", "task": "lm", "corpus": corpus, "model": model}))
    command = ("data", "prepare", "text", "--recipe", recipe, "--source", tmp_path / "text")
    for name, more, text in (("a", (), "one two three"), ("b", ("--set", "normalization=plain"), "One TWO three")):
        code, _, err = run(*command, "--out", tmp_path / name, *more)
        assert code == 0, err
        assert gzip.decompress((tmp_path / name / "train.txt.gz").read_bytes()).decode() == f"{text}\n" * 2


def test_a_run_that_never_finished_is_not_compressed(run, tones: Path, recipe_file: Path, tmp_path: Path) -> None:
    run("train", recipe_file, "--data", tones, "--out", tmp_path / "r", "--threads", 1)
    (tmp_path / "r" / "module.safetensors").unlink()
    code, _, err = run("compress", tmp_path / "r", "--out", tmp_path / "y")
    assert code == 2 and "module.safetensors: missing" in err


@pytest.fixture(scope="module")
def forking_run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs, with a snapshot after the first."""
    folder = tmp_path_factory.mktemp("forking") / "base"
    recipe = {**TINY, "phase": {**TINY["phase"], "epochs": 3}}
    recipe["compression"] = {**TINY["compression"], "fork_at": 0.3}
    train(parse_recipe(recipe, "test"), tones, folder, threads=1, progress=False)
    return folder


def started_from(arm: Path) -> str:
    """Hash of the weights that an arm started from."""
    return yaml.safe_load((arm / "config.yaml").read_text())["module"]


def epochs_of(arm: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (arm / "metrics.jsonl").read_text().splitlines()]


def test_compression_forks_from_the_snapshot_or_starts_from_the_end(run, forking_run: Path, tmp_path: Path) -> None:
    forked, ended = tmp_path / "forked", tmp_path / "ended"
    code, out, err = run("compress", forking_run, "--out", forked, "--bits", 4, "--threads", 1)
    assert code == 0 and "x smaller" in out, err
    assert started_from(forked) == file_hash(forking_run / "fork.ckpt")
    assert epochs_of(forked) == [2, 3]  # the rest of the schedule
    code, _, err = run("compress", forking_run, "--out", ended, "--bits", 4, "--set", "fork_at=null", "--threads", 1)
    assert code == 0, err
    assert started_from(ended) == file_hash(forking_run / "module.safetensors")
    assert epochs_of(ended) == [1]  # compression.phase


def test_rounding_alone_takes_the_end_of_a_forking_run(run, forking_run: Path, tmp_path: Path) -> None:
    arm = tmp_path / "ptq"
    code, _, err = run("compress", forking_run, "--out", arm, "--scheme", "ptq", "--bits", 8, "--threads", 1)
    assert code == 0, err
    assert started_from(arm) == file_hash(forking_run / "module.safetensors") and not (arm / "metrics.jsonl").exists()
    base, rounded = load_model(forking_run / "model.safetensors"), load_model(arm / "model.safetensors")
    for name in rounded.tensors:
        whole = base.decode(name)
        assert np.abs(rounded.decode(name) - whole).max() <= 0.02 * np.abs(whole).max(), name


def test_a_fork_that_the_training_did_not_keep_is_refused(run, forking_run: Path, tmp_path: Path) -> None:
    code, _, err = run("compress", forking_run, "--out", tmp_path / "x", "--set", "fork_at=0.6")
    assert code == 2 and not (tmp_path / "x").exists()
    assert err.strip().splitlines() == [
        f"error: {forking_run}: expected compression.fork_at as in its own training (0.3), found 0.6"
    ]
    code, _, err = run("compress", forking_run, "--out", tmp_path / "x", "--set", "phase.epochs=7")
    assert code == 2 and "compression.phase is for the trained model" in err and not (tmp_path / "x").exists()
    code, _, err = run("compress", forking_run, "--out", tmp_path / "x", "--seed", 5)
    assert code == 2 and "--seed is for the trained model" in err and not (tmp_path / "x").exists()
    without = tmp_path / "without"
    shutil.copytree(forking_run, without, ignore=shutil.ignore_patterns("fork.ckpt", "checkpoints"))
    code, _, err = run("compress", without, "--out", tmp_path / "x")
    assert code == 2 and "fork.ckpt: missing" in err.strip().splitlines()[-1]


def test_help_lists_every_command_and_each_has_an_example(run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in cli._COMMANDS:
        assert name in out
        arguments = ("data", "prepare", "--help") if name == "data" else (name, "--help")
        code, text, _ = run(*arguments)
        assert code == 0 and "sottovoce " + " ".join(arguments[:-1]) in " ".join(text.split()), name


def test_help_names_every_scheme_and_kind(run) -> None:
    code, text, _ = run("compress", "--help")
    assert code == 0
    for name in (*_SCHEMES, *KINDS):
        assert name in text, name


def test_a_group_alone_shows_its_help(run) -> None:
    code, out, _ = run("data")
    assert code == 0 and "prepare" in out and "install-completion" not in out


def test_devices_that_are_not_there_are_refused(
    run, tones: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*args: object, **options: object) -> None:
        raise MisconfigurationException("You requested gpu: [0, 1]\n But your machine only has: []")

    monkeypatch.setattr("lightning.pytorch.Trainer.__init__", none)
    code, _, err = run("train", recipe_file, "--data", tones, "--out", tmp_path / "r")
    assert code == 2 and err.strip() == "error: You requested gpu: [0, 1] But your machine only has: []"


@pytest.mark.parametrize(
    ("command", "goes_on"),
    [
        ("demo", True),
        ("train fsdd --data d --out r", True),
        ("compress r --bits 4", True),
        ("search r --average-bits 2", True),
        ("data prepare swda-synth --source s --out d", True),
        ("search --models asr=r,lm=l --max-bytes 4MB", True),
        ("data prepare synth --out d", False),
        ("data confuse swda --source s --out d --wer 30", False),
        ("evaluate r", False),
        ("rescore test.jsonl --lm train", False),
        ("bench m.safetensors", False),
        ("ngram train t.txt --out lm.arpa", False),
        ("export r --out o", False),
        ("compare a b", False),
    ],
)
def test_an_interruption_says_how_to_go_on_where_work_is_kept(
    run, monkeypatch: pytest.MonkeyPatch, command: str, goes_on: bool
) -> None:
    def stop(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_load", stop)
    code, _, err = run(*command.split())
    assert code == 130 and "interrupted" in err and ("the same command goes on" in err) == goes_on


def test_a_missing_extra_is_named(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> None:
        raise ModuleNotFoundError("No module named 'lhotse'", name="lhotse.cut")

    monkeypatch.setattr(cli, "_load", lacking)
    code, _, err = run("train")
    assert code == 2 and "pip install 'sottovoce[train]'" in err


def test_the_device_side_never_loads_pytorch() -> None:
    code = (
        "import sys, sottovoce.runtime, sottovoce.evaluation, sottovoce.evaluation.results\n"
        "import sottovoce.cli.main, sottovoce.cli.transcribe, sottovoce.cli.inspect, sottovoce.cli.rescore\n"
        "sys.argv = ['sottovoce', '--help']\n"
        "try:\n    sottovoce.cli.main.run()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "bad = {'torch', 'lightning', 'lhotse', 'scipy'} & set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_options_of_weights_go_before_a_plan_in_the_recipe(run, tones: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["compression"] = {
        **recipe.get("compression", {}),
        "plan": {"version": 1, "weights": {"joiner.output.weight": [{"bits": 2}]}},
    }
    recipe_file = tmp_path / "planned.yaml"
    recipe_file.write_text(yaml.safe_dump(recipe))
    run("train", recipe_file, "--data", tones, "--out", tmp_path / "run", "--threads", 1)
    for name, more, bits in (("planned", (), 2), ("given", ("--bits", 7), 7)):
        code, _, err = run("compress", tmp_path / "run", "--scheme", "ptq", *more, "--out", tmp_path / name)
        assert code == 0, err
        assert load_model(tmp_path / name / "model.safetensors").tensors["joiner.output.weight"].bands[0].bits == bits
    assert run("compress", tmp_path / "run", "--scheme", "ptq", "--set", "bits=6", "--out", tmp_path / "set")[0] == 0
    assert load_model(tmp_path / "set" / "model.safetensors").tensors["joiner.output.weight"].bands[0].bits == 6
    both = ("--plan", tmp_path / "planned" / "plan.json", "--set", "bits=3", "--out", tmp_path / "both")
    code, _, err = run("compress", tmp_path / "run", *both)
    assert code == 2 and "--set bits: the plan says it of every weight" in err


def test_a_refused_compression_leaves_nothing_in_the_way(run, tones: Path, recipe_file: Path, tmp_path: Path) -> None:
    run("train", recipe_file, "--data", tones, "--out", tmp_path / "run", "--threads", 1)
    command = ("compress", tmp_path / "run", "--bits", 4, "--scheme", "gq", "--threads", 1, "--out", tmp_path / "x")
    for wrong in (("--seed", -1), ("--data", tmp_path / "moved")):
        assert run(*command, *wrong)[0] == 2 and not (tmp_path / "x").exists()
    weights = tmp_path / "run" / "module.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"damaged")
    code, _, err = run(*command)
    assert code == 2 and "module.safetensors: expected trained weights" in err and not (tmp_path / "x").exists()
    weights.write_bytes(whole)
    assert run(*command)[0] == 0
    code, _, err = run("compress", tmp_path / "x", "--bits", 3, "--out", tmp_path / "y")
    assert code == 2 and "expected a run made by 'sottovoce train', found a compressed one" in err


def test_what_the_system_refuses_is_one_line(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one two\n" * 3)
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text("one two\n" * 3)
    code, _, err = run("data", "prepare", "text", "--source", tmp_path, "--out", tmp_path / "file" / "x")
    assert code == 2 and err.strip().splitlines()[-1] == f"error: {tmp_path / 'file' / 'x'}: Not a directory"
