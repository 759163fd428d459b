"""What ``search`` can be told of its metric, and whose quantized weights it tries: as in Python, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce as sv
from sottovoce.cli.search_metrics import parse_settings
from sottovoce.errors import ConfigError
from sottovoce.search import NAS, SensitivityTable, mean_loss, search_architecture
from sottovoce.training.config import parse_recipe
from sottovoce.training.run import Run
from sottovoce.training.searching import load_prototypes, search_inputs
from sottovoce.training.train import train

TINY = {
    "name": "tiny",
    "task": "lm",
    "corpus": {"name": "text"},
    "tokens": {"kind": "words", "min_count": 1},
    "data": {"batch_tokens": 100, "segment": 16},
    "model": {"type": "lstm-lm", "embedding": 8, "units": 8},
    "training": {"softmax": None},
    "phase": {"epochs": 1, "learning_rate": 1e-2, "warmup_steps": 2},
}
ASKED = ("--average-bits", 3.0, "--by", "tensor", "--utterances", 6, "--threads", 1)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    for split, count in (("train", 80), ("dev", 10), ("test", 10)):
        lines = [" ".join(rng.choice(list("abcdefgh"), size=rng.integers(2, 7))) for _ in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def base(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(parse_recipe(TINY, "test"), text, tmp_path_factory.mktemp("runs") / "lm", threads=1, progress=False)


def table_of(run: Any, base: Run, out: Path, *arguments: object) -> SensitivityTable:
    code, _, err = run("search", base.folder, *ASKED, "--out", out / "plan.json", *arguments)
    assert code == 0, err
    return SensitivityTable.load(base.folder / "sensitivity.json")


def compressed(run: Any, base: Run, out: Path, bits: int, *arguments: object) -> Path:
    code, _, err = run(
        "compress", base.folder, "--scheme", "ptq", "--bits", bits, "--out", out, "--threads", 1, *arguments
    )
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    ("metric", "settings"),
    [
        ("kl", {"form": "observed"}),
        ("hessian", {"distribution": "gaussian", "probes": 3, "normalize": False}),
        ("hessian", {"products": "joint", "probes": 2}),
        ("nas", {"form": "gumbel", "steps": 4, "beta": 0.1, "temperature": [2.0, 0.5], "rounds": 1}),
        ("nas", {"weights": "pipelined", "steps": 3, "weight_steps": 3, "held_out": 0.5, "by_size": False}),
    ],
)
def test_the_command_finds_what_python_does(
    run, base: Run, tmp_path: Path, metric: str, settings: dict[str, Any]
) -> None:
    sets = [item for name, value in settings.items() for item in ("--set", f"{name}={value}")]
    found = table_of(run, base, tmp_path, "--metric", metric, *sets)
    inputs = search_inputs(base.folder, utterances=6, batches=1 + (settings.get("weights") == "pipelined"))
    module, loss = inputs.module, mean_loss(inputs.module, inputs.batches)
    if metric == "nas":
        rounds = {"rounds": settings["rounds"]} if "rounds" in settings else {}
        own = NAS(**{name: value for name, value in settings.items() if name != "rounds"})
        expected = search_architecture(module.model, inputs.batches, loss, settings=own, average_bits=3.0, **rounds)
    else:
        given = {name: value for name, value in settings.items() if name != "form"}
        if "form" in settings:
            given["observed"] = module.observed
        expected = sv.sensitivity(
            module.model, inputs.batches, metric, logits=module.logits, loss=loss, **given
        )  # fmt: skip
    assert np.array_equal(found.omega, expected.omega)
    assert all(found.details[name] == value for name, value in settings.items() if name != "rounds")


def test_the_cache_knows_the_settings(run, base: Run, tmp_path: Path) -> None:
    def files() -> set[str]:
        return {path.name for path in (base.folder / "search").glob("*.jsonl")}

    variants = [
        ("kl",), ("kl", "form=observed"), ("hessian", "probes=2"), ("hessian", "probes=2", "distribution=gaussian"),
        ("nas", "steps=2"), ("nas", "steps=2", "form=gumbel"), ("nas", "steps=2", "weights=joint"),
    ]  # fmt: skip
    tables = []
    for metric, *settings in variants:
        before = files()
        sets = [item for text in settings for item in ("--set", text)]
        tables.append(table_of(run, base, tmp_path, "--metric", metric, "--utterances", 5, *sets))
        made = files()
        assert len(made - before) == 1, (metric, settings)
        again = table_of(run, base, tmp_path, "--metric", metric, "--utterances", 5, *sets)
        assert files() == made and np.array_equal(again.omega, tables[-1].omega)
    traces = table_of(run, base, tmp_path, "--metric", "hessian", "--utterances", 5, "--set", "probes=2",
                      "--set", "normalize=false")  # fmt: skip
    assert np.allclose(traces.omega, tables[2].omega * traces.weights[:, None]) and files() == made  # the same traces


def test_prototypes_are_compressed_runs(run, base: Run, tmp_path: Path) -> None:
    same = ("--kind", "uniform", "--grouping", "row")
    alike = {n: compressed(run, base, tmp_path / f"alike{n}", n, *same) for n in (2, 4)}
    others = {n: compressed(run, base, tmp_path / f"other{n}", n) for n in (2, 4)}
    direct = table_of(run, base, tmp_path, "--bits", "2,4")
    tried = {}
    for name, folders in (("alike", alike), ("others", others)):
        listed = ",".join(f"{n}={folder}" for n, folder in folders.items())
        tried[name] = table_of(run, base, tmp_path, "--prototypes", listed)
        assert tried[name].bits == (2, 4) and tried[name].details["prototypes"] and not direct.details["prototypes"]
    np.testing.assert_allclose(tried["alike"].omega, direct.omega, rtol=1e-4, atol=1e-9)
    inputs = search_inputs(base.folder, utterances=6)
    given = load_prototypes(others, base.folder)
    expected = sv.sensitivity(
        inputs.module.model, inputs.batches, bits=(2, 4), prototypes=given, logits=inputs.module.logits
    )
    assert np.array_equal(tried["others"].omega, expected.omega)
    assert not np.allclose(expected.omega, direct.omega, rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "distributon=gaussian", "--metric", "hessian"), "did you mean 'distribution'?"),
        (("--set", "form=gumbel"), "--set form: Input should be 'full' or 'observed', found 'gumbel'"),
        (("--set", "probes=3"), "--set probes: the settings of --metric kl are form"),
        (("--set", "probes=0", "--metric", "hessian"), "--set probes: Input should be greater than 0, found 0"),
        (("--set", "normalize=7", "--metric", "hessian"), "--set normalize: Input should be a valid boolean, found 7"),
        (("--set", "steps=true", "--metric", "nas"), "--set steps: Input should be a valid integer, found True"),
        (("--set", "steps=0", "--metric", "nas"), "steps must be a positive whole number, found 0"),
        (("--set", "form=soft", "--metric", "nas"), "form must be one of softmax, gumbel; found 'soft'"),
        (("--set", "temperature=[1, 2]", "--metric", "nas"), "temperature must be two positive numbers"),
        (("--set", "temperature=1", "--metric", "nas"), "--set temperature: Input should be a valid array, found 1"),
        (("--set", "beta=much", "--metric", "nas"), "--set beta: Input should be a valid number"),
        (("--set", "seed=1", "--metric", "nas"), "--set seed: the settings of --metric nas are form, weights"),
        (("--set", "probes", "--metric", "hessian"), "--set probes: expected key=value"),
        (("--probes", "3"), "--probes is for --metric hessian, found --metric kl"),
        (("--steps", "3", "--metric", "hessian"), "--steps is for --metric nas, found --metric hessian"),
        (("--nbest", "4"), "--nbest is for --models"),
        (("--prototypes", "{tmp}"), "expected BITS=RUN,... with bits from 1 to 8"),
        (("--prototypes", "9={tmp}"), "expected BITS=RUN,... with bits from 1 to 8, found '9="),
        (("--prototypes", "2={two},2={two}"), "expected BITS=RUN,..."),
        (("--prototypes", "2={tmp}/none"), "none: expected a run folder"),
        (("--prototypes", "3={two}"), "expected weights at 3 bits, found embedding.weight at 2"),
        (("--prototypes", "2={run}"), "expected a run that 'sottovoce compress' made from"),
        (("--prototypes", "2={two}", "--bits", "2,3"), "prototypes: expected weights at 3 bits, found [2]"),
        (("--prototypes", "2={two}", "--metric", "nas", "--set", "weights=joint"), "prototypes are quantized already"),
    ],
)
def test_mistakes_are_one_line(
    run, base: Run, two: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = [a.format(run=base.folder, tmp=tmp_path, two=two) for a in arguments]
    code, _, err = run("search", base.folder, *ASKED, "--out", tmp_path / "plan.json", *filled)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "plan.json").exists()


@pytest.fixture(scope="module")
def two(base: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from sottovoce.cli.main import app

    out = tmp_path_factory.mktemp("compressed") / "two"
    asked = ["compress", str(base.folder), "--scheme", "ptq", "--bits", "2", "--out", str(out), "--threads", "1"]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    return out


def test_two_models_take_no_settings_of_a_metric(run, base: Run) -> None:
    for option, value in (("--set", "form=observed"), ("--prototypes", "2=x"), ("--probes", 2), ("--steps", 2)):
        code, _, err = run("search", "--models", "asr=a,lm=b", "--average-bits", 2, option, value)
        assert code == 2 and f"{option} is for one run" in err and err.count("\n") == 1


def test_a_setting_overrides_its_option() -> None:
    assert parse_settings("hessian", {"probes": 16, "steps": None}, ["probes=50"], 3) == {"probes": 50, "seed": 3}
    found = parse_settings("nas", {"probes": None, "steps": 20}, ["rounds=1"], 3)
    assert found == {"settings": NAS(steps=20, seed=3), "rounds": 1}
    assert parse_settings("kl", {"probes": None}, [], 3) == {"seed": 3}
    rates = parse_settings("nas", {}, ["learning_rate=1e-2", "beta=1"], 3)
    assert rates == {"settings": NAS(learning_rate=0.01, beta=1.0, seed=3)}
    with pytest.raises(ConfigError, match="rounds: Input should be greater than 0"):
        parse_settings("nas", {}, ["rounds=0"], 3)
