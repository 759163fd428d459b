"""``search`` and ``compress --plan`` on a recognizer: plans that are kept, one line for mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sottovoce.cli.search import parse_bytes
from sottovoce.packed import PackedMatrix, file_sizes, load_model
from sottovoce.quant import BitPlan
from sottovoce.search import SensitivityTable, clusters
from sottovoce.search.measuring import MID_RISE, sized
from sottovoce.training.config import parse_recipe
from sottovoce.training.run import Run
from sottovoce.training.searching import search_inputs
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
def base(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(parse_recipe(TINY, "test"), tones, tmp_path_factory.mktemp("runs") / "base", threads=1, progress=False)


@pytest.mark.parametrize("metric", ["kl", "hessian", "nas"])
def test_a_recognizer_gets_its_bits_and_compression_keeps_them(
    run, base: Run, tones: Path, metric: str, tmp_path: Path
) -> None:
    plan_file = tmp_path / "plan.json"
    effort = {"kl": (), "hessian": ("--probes", 2), "nas": ("--steps", 6)}[metric]
    code, out, err = run(
        "search", base.folder, "--metric", metric, "--average-bits", 3.0, "--out", plan_file, "--utterances", 8,
        "--rows", "joiner.output.weight=4", "--threads", 1, *effort,
    )  # fmt: skip
    assert code == 0, err
    assert "encoder.layers.0.weight_ih_l0[i]" in out and "joiner.output.weight[0:4]" in out and "x smaller" in out
    assert f"{metric} of " in err and "; an epoch of training: " in err and "; allocation: " in err
    table = SensitivityTable.load(base.folder / "sensitivity.json")
    assert table.metric == metric and len(table.clusters) > 20
    plan = BitPlan.load(plan_file)
    scheme = {"kl": "admm", "hessian": "straight_through", "nas": "ptq"}[metric]
    arm = tmp_path / "arm"
    code, out, err = run("compress", base.folder, "--plan", plan_file, "--scheme", scheme, "--out", arm, "--threads", 1)
    assert code == 0, err
    packed = load_model(arm / "model.safetensors")
    for name, specs in plan.weights.items():
        tensor = packed.tensors[name]
        assert isinstance(tensor, PackedMatrix) and [band.bits for band in tensor.bands] == [s.bits for s in specs]
    assert json.loads((arm / "plan.json").read_text()) == json.loads(plan_file.read_text())
    choice = table.choose(average_bits=3.0)
    size = file_sizes(arm / "model.safetensors").model_bytes
    assert 0.96 * choice.model_bytes < size <= choice.model_bytes
    assert packed.provenance["bits"] == pytest.approx(choice.average_bits, abs=1e-3)
    code, out, _ = run("evaluate", arm, "--data", tones, "--json")
    assert code == 0 and json.loads(out)["words"] > 0


@pytest.mark.parametrize(("option", "bits"), [("--average-bits", 2), ("--average-bits", 5), ("--max-bytes", 4)])
def test_an_architecture_search_uses_its_budget(run, base: Run, tmp_path: Path, option: str, bits: int) -> None:
    budget = bits
    if option == "--max-bytes":
        inputs = search_inputs(base.folder, utterances=4)
        found = clusters(inputs.module.model, "gate")
        table = sized(inputs.module.model, found, (4,), MID_RISE, inputs.fields, inputs.tokenizer_bytes)
        budget = table.fixed_bytes + int(table.bytes.sum())  # no bands joined
    code, _, err = run(
        "search", base.folder, "--metric", "nas", "--steps", 30, option, budget, "--out", tmp_path / "plan.json",
        "--utterances", 4, "--threads", 1,
    )  # fmt: skip
    assert code == 0, err
    planned = BitPlan.load(tmp_path / "plan.json").average_bits(search_inputs(base.folder, utterances=1).module.model)
    assert bits - 0.5 < planned <= bits + (1 if option == "--max-bytes" else 1e-6)  # joined bands leave room for bits


def test_a_byte_budget_is_kept_and_the_next_budget_is_free(run, base: Run, tmp_path: Path) -> None:
    arguments = ("search", base.folder, "--out", tmp_path / "p.json", "--utterances", 4, "--by", "tensor")
    code, _, err = run(*arguments, "--max-bytes", "18kB")
    assert code == 0, err
    lines = len(next((base.folder / "search").glob("kl-*.jsonl")).read_text().splitlines())
    code, _, _ = run(*arguments, "--max-bytes", "17KiB", "--bits", "2,4")
    found = [len(path.read_text().splitlines()) for path in (base.folder / "search").glob("kl-*.jsonl")]
    assert code == 0 and lines in found
    before = (tmp_path / "p.json").read_bytes()
    code, _, err = run(*arguments, "--max-bytes", "2kB")
    assert code == 2 and "max_bytes: at least" in err and err.count("\n") == 1
    assert (tmp_path / "p.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "{run}"), "a budget is needed"),
        (("search", "{run}", "--average-bits", "2", "--out", "{tmp}/no/p.json"), "there is no such folder"),
        (("search", "{run}", "--max-bytes", "much"), "expected a size like 1.3MB"),
        (("search", "{run}", "--average-bits", "2", "--bits", "1,two"), "--bits 1,two: expected whole numbers"),
        (("search", "{run}", "--average-bits", "2", "--bits", "1,9"), "bits must be whole numbers from 1 to 8"),
        (("search", "{run}", "--average-bits", "0.5"), "average_bits: at least 1 are needed"),
        (("search", "{run}", "--average-bits", "inf"), "and no infinity; found inf"),
        (("search", "{run}", "--average-bits", "2", "--plot", "{tmp}/p.xyz"), "expected a picture's ending"),
        (("search", "{run}", "--average-bits", "2", "--rows", "joiner"), "expected WEIGHT=BORDER"),
        (("search", "{run}", "--average-bits", "2", "--rows", "joiner.out.weight=3"), "did you mean"),
        (("search", "{run}", "--average-bits", "2", "--by", "word"), "clusters must be by"),
        (("search", "{run}", "--average-bits", "2", "--kind", "odd"), "kind must be one of"),
        (("search", "{run}", "--average-bits", "2", "--set", "form=observed"), "observed form is for language models"),
        (("search", "{tmp}", "--average-bits", "2"), "expected a run folder"),
        (("compress", "{run}", "--out", "{tmp}/x", "--plan", "{tmp}/none.json"), "none.json: cannot read the plan"),
        (
            ("compress", "{run}", "--out", "{tmp}/x", "--plan", "{plan}", "--bits", "3"),
            "it does not go with --bits",
        ),
        (("compress", "{run}", "--out", "{tmp}/x", "--plan", "{plan}"), "plan names 'lstm.weight'"),
        (("compress", "{run}", "--out", "{tmp}/x", "--scheme", "admm", "--set", "options.strength=3"), "strength"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    run, base: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"version": 1, "weights": {"lstm.weight": [{"bits": 2}]}}')
    filled = [a.format(run=base.folder, tmp=tmp_path, plan=plan) for a in arguments]
    code, _, err = run(*filled, "--threads", 1)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "x" / "model.safetensors").exists() and not (base.folder / "plan.json").exists()


def test_another_plan_gets_another_folder(run, base: Run, tmp_path: Path) -> None:
    folders = set()
    for bits in (2, 4, 4):
        plan = tmp_path / "plan.json"
        BitPlan.uniform(search_inputs(base.folder, utterances=1).module.model, bits).save(plan)
        code, _, err = run("compress", base.folder, "--plan", plan, "--scheme", "ptq", "--threads", 1)
        assert code == 0, err
        folders = set(base.folder.parent.glob(f"{base.folder.name}-ptq-plan-*"))
    assert len(folders) == 2


def test_sizes_as_people_write_them() -> None:
    assert [parse_bytes(x) for x in ("4000", "1.3MB", "900 KiB", "2mib", "1g")] == [
        4000, 1_300_000, 921_600, 2_097_152, 10**9,
    ]  # fmt: skip


def test_the_functions_of_a_recognizer(base: Run) -> None:
    inputs = search_inputs(base.folder, utterances=6, seed=1)
    module = inputs.module
    assert sum(len(batch["ids"]) for batch in inputs.batches) == 6
    again = search_inputs(base.folder, utterances=6, seed=1)
    assert [b["ids"] for b in inputs.batches] == [b["ids"] for b in again.batches]
    module.model.eval()
    for batch in inputs.batches:
        logits, weights = module.logits(batch), module.position_weights(batch)
        assert weights is not None and len(logits) == len(weights) and bool((weights >= 0).all())
        frames = batch["feature_lengths"] // module.model.architecture.subsampling  # type: ignore[union-attr]
        assert float(weights.sum()) == pytest.approx(float((frames + batch["token_lengths"]).sum()), rel=1e-4)
        assert len(logits) == int((frames * (batch["token_lengths"] + 1)).sum())
        assert torch.isfinite(module.loss(batch))
    assert module.observed(inputs.batches[0]) is None and module.row_borders() == {}


def test_learning_from_the_float_model_is_an_option_of_the_recipe(run, base: Run, tmp_path: Path) -> None:
    weights = {}
    for name, options in {"alone": [], "taught": ["--set", "distillation.weight=5.0"]}.items():
        code, _, err = run(
            "compress", base.folder, "--bits", 2, "--scheme", "straight_through", "--out", tmp_path / name,
            "--threads", 1, *options,
        )  # fmt: skip
        assert code == 0, err
        weights[name] = load_model(tmp_path / name / "model.safetensors").decode("joiner.output.bias")
    assert not np.array_equal(weights["alone"], weights["taught"])
    settings = yaml.safe_load((tmp_path / "taught" / "config.yaml").read_text())
    assert settings["compression"]["distillation"] == {"weight": 5.0, "temperature": 1.0}
