"""``search --models``: one budget for a recognizer and its language model; one line for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.cli.joint_search import _sized, _write
from sottovoce.errors import ConfigError
from sottovoce.packed import file_sizes
from sottovoce.quant import BitPlan
from sottovoce.search import SensitivityTable
from sottovoce.search.measuring import MID_RISE
from sottovoce.training.config import parse_recipe
from sottovoce.training.joint import joint_inputs, joint_models
from sottovoce.training.run import Run
from sottovoce.training.searching import open_trained
from sottovoce.training.train import train

PHASE = {"epochs": 1, "learning_rate": 5e-3, "warmup_steps": 4}
RECOGNIZER = {
    "name": "tiny",
    "tokenizer": {"kind": "char", "vocabulary": 12},
    "data": {"max_duration": 5.0},
    "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
    "phase": {"epochs": 20, "learning_rate": 1e-2, "warmup_steps": 4},
}
LANGUAGE_MODEL = {
    "name": "talk",
    "task": "lm",
    "corpus": {"name": "text", "options": {}},
    "data": {"batch_tokens": 200, "segment": 24},
    "model": {"type": "lstm-lm", "embedding": 8, "units": 8, "tied": True},
    "training": {"dropout": 0.0},
    "phase": PHASE,
}


def _language_model(folder: Path, words: str) -> Run:
    for split in ("train", "dev", "test"):
        lines = [f"{a} {b}\n" for a in words.split() for b in words.split()]
        (folder / f"{split}.txt").write_text("".join(lines))
    return train(parse_recipe(LANGUAGE_MODEL, "test"), folder, folder / "run", threads=1, progress=False)


@pytest.fixture(scope="module")
def runs(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    asr = train(
        parse_recipe(RECOGNIZER, "test"), tones, tmp_path_factory.mktemp("runs") / "asr", threads=1, progress=False
    )
    own, foreign = (tmp_path_factory.mktemp(name) for name in ("own", "foreign"))
    return {
        "asr": asr.folder,
        "lm": _language_model(own, "do re mi fa").folder,
        "foreign": _language_model(foreign, "eins zwei drei").folder,
    }


def test_both_runs_get_a_plan_within_one_budget(run, runs: dict[str, Path], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sottovoce.training.joint.KNOWN", 0.0)  # a recognizer of 20 epochs writes few words
    arguments = (
        "search", "--models", f"asr={runs['asr']},lm={runs['lm']}", "--bits", "2,4,8", "--by", "tensor",
        "--utterances", 4, "--nbest", 3, "--threads", 1, "--rows", "lm:embedding.weight=3",
    )  # fmt: skip
    code, out, err = run(*arguments, "--max-bytes", "20kB")
    assert code == 0, err
    assert "asr:encoder.layers.0.weight_ih_l0" in out and "lm:embedding.weight[0:3]" in out
    assert "4 lists" in out and "word errors expected" in out and "together at most" in out
    assert "word errors of " in err and f"({runs['asr']})" in err and f"({runs['lm']})" in err
    table = SensitivityTable.load(runs["asr"] / "joint_sensitivity.json")
    assert table.omega[["asr:" in c.name for c in table.clusters]].max() > 0
    assert table.metric == "divergence of word errors" and table.choose(max_bytes=20_000).model_bytes <= 20_000
    written = 0
    for role in ("asr", "lm"):
        plan = runs[role] / "plan.json"
        assert BitPlan.load(plan).weights
        arm = tmp_path / role
        code, _, err = run("compress", runs[role], "--plan", plan, "--scheme", "ptq", "--out", arm, "--threads", 1)
        assert code == 0, err
        written += file_sizes(arm / "model.safetensors").model_bytes
    assert written <= 20_000
    kept = [path.read_bytes() for role in ("asr", "lm") for path in (runs[role] / "search").glob("joint-*.jsonl")]
    code, _, err = run(*arguments, "--max-bytes", "18kB")
    assert code == 0, err
    again = [path.read_bytes() for role in ("asr", "lm") for path in (runs[role] / "search").glob("joint-*.jsonl")]
    assert len(kept) == 2 and again == kept  # another budget costs nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "asr={asr},lm={lm}"), "a budget is needed"),
        (("--max-bytes", "20kB"), "expected a run folder or else --models"),
        (("{asr}", "--models", "asr={asr},lm={lm}", "--max-bytes", "20kB"), "found both"),
        (("--models", "asr={asr}", "--max-bytes", "20kB"), "found no lm"),
        (("--models", "asr={asr},tts={lm}", "--max-bytes", "20kB"), "expected asr=RUN,lm=RUN, found 'tts="),
        (("--models", "asr={asr},asr={lm}", "--max-bytes", "20kB"), "expected asr=RUN,lm=RUN, found 'asr="),
        (("--models", "asr={lm},lm={lm}", "--max-bytes", "20kB"), "expected the run of a recognizer as asr"),
        (("--models", "asr={asr},lm={asr}", "--max-bytes", "20kB"), "expected the run of a language model as lm"),
        (("--models", "asr={asr},lm={tmp}", "--max-bytes", "20kB"), "expected a run folder"),
        (("--models", "asr={asr},lm={foreign}", "--max-bytes", "20kB"), "of the recognizer's words"),
        (("--models", "asr={asr},lm={lm}", "--max-bytes", "20kB", "--metric", "kl"), "--metric is for one run"),
        (("--models", "asr={asr},lm={lm}", "--max-bytes", "20kB", "--out", "{tmp}/p.json"), "--out is for one run"),
        (("--models", "asr={asr},lm={foreign}", "--max-bytes", "much"), "expected a size like 1.3MB"),
    ],
)
def test_mistakes_are_one_line(
    run, runs: dict[str, Path], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = {path: path.read_bytes() for name in ("asr", "lm") for path in runs[name].glob("*.json")}
    filled = [a.format(**runs, tmp=tmp_path) for a in arguments]
    code, _, err = run("search", *filled, "--utterances", 2, "--nbest", 2, "--threads", 1)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert {path: path.read_bytes() for name in ("asr", "lm") for path in runs[name].glob("*.json")} == before


def test_a_budget_too_small_and_rows_without_a_role_are_refused_before_a_list_is_made(
    run, runs: dict[str, Path], monkeypatch
) -> None:
    monkeypatch.setattr("sottovoce.training.joint._first_pass", None)
    models = ("search", "--models", f"asr={runs['asr']},lm={runs['lm']}", "--utterances", 2, "--nbest", 2)
    code, _, err = run(*models, "--max-bytes", "2kB")
    assert code == 2 and "max_bytes: at least" in err and err.count("\n") == 1
    code, _, err = run(*models, "--max-bytes", "20kB", "--rows", "embedding.weight=3")
    assert code == 2 and "expected a role first" in err and err.count("\n") == 1


def test_plans_of_one_budget_are_written_for_both_runs_or_for_none(runs: dict[str, Path], tmp_path: Path) -> None:
    models = {role: open_trained(runs[role]) for role in ("asr", "lm")}
    borders: dict[str, dict[str, list[int]]] = {"asr": {}, "lm": {}}
    table = _sized(models, borders, "tensor", (2, 4), MID_RISE)
    plans = {role: BitPlan.uniform(x.searchable.model, 4) for role, x in models.items()}
    (tmp_path / "asr").mkdir()
    with pytest.raises(ConfigError, match="the plans cannot be written, neither was"):
        _write(table, plans, {"asr": tmp_path / "asr", "lm": tmp_path / "gone"})
    assert list(tmp_path.rglob("*")) == [tmp_path / "asr"]
    (tmp_path / "gone").mkdir()
    _write(table, plans, {"asr": tmp_path / "asr", "lm": tmp_path / "gone"})
    for role, folder in (("asr", tmp_path / "asr"), ("lm", tmp_path / "gone")):
        assert BitPlan.load(folder / "plan.json") == plans[role]
        assert SensitivityTable.load(folder / "joint_sensitivity.json").clusters == table.clusters


def test_lists_are_the_same_each_time_and_hold_both_scores(runs: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr("sottovoce.training.joint.KNOWN", 0.0)
    models = joint_models(runs)
    found = [joint_inputs(models, utterances=3, nbest=4) for _ in range(2)]
    first, second = (x.lists for x in found)
    assert first.weights == second.weights and list(first.weights.factors) == ["acoustic", "lm"]
    for a, b in zip(first.features, second.features, strict=True):
        assert (a.values == b.values).all() and (a.errors == b.errors).all() and (a.values[:, :2] < 0).all()
