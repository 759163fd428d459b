"""benchmarks/joint_budget.py: splits of a budget, what is due, its table from made-up cells, and all of it on a tiny
recognizer and a tiny language model."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.evaluation.fused import FusedLists
from sottovoce.packed import PackedModel, load_model
from sottovoce.search.joint import ListScorer, bytes_of_plan, joint_sensitivity
from sottovoce.training.config import parse_recipe
from sottovoce.training.train import train

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package
import cells as finished  # noqa: E402
import joint_arms  # noqa: E402
import joint_budget  # noqa: E402
from cells import Cells, config_hash  # noqa: E402
from joint_arms import (  # noqa: E402
    APART,
    BY_ERRORS,
    FLOAT,
    JOINT,
    SEPARATE,
    SPLITS,
    UNIFORM,
    Cell,
    Setting,
    cells_of,
    choose,
    load_plan,
    made,
    own_tables,
    run_cell,
    splits_of,
    tasks_of,
)  # fmt: skip
from joint_budget import hours_of, sizes, table  # noqa: E402
from searches import clocked  # noqa: E402
from tables import Tables  # noqa: E402

TEXTS = [["a b", "a", "b b a"], ["c", ""], ["a b c", "a c c", "b", "c c"]]
REFERENCES = {"0": "a b", "1": "c a", "2": "a b c"}
CONVERSATIONS = 10
PLAN: dict[str, Any] = {
    "budgets": [3, 2],
    "search": {"bits": [1, 2, 3, 4, 8], "by": "tensor", "utterances": 4, "nbest": 3, "kl_utterances": 2},
    "first_pass": {"beam": 3, "blank_penalty": 0.5, "arithmetic": "int8"},
    "search_hours": 0.5, "pass_hours": 0.2, "cell_hours": 0.05,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


class Toy(torch.nn.Module):
    """Scores of entries from their numbers; ``units`` make one model larger than the other."""

    def __init__(self, seed: int, units: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        entries = sum(map(len, TEXTS))
        self.embedding, self.middle = torch.nn.Embedding(entries, units), torch.nn.Linear(units, units)
        self.output = torch.nn.Linear(units, 1)

    def scores(self) -> np.ndarray:
        with torch.no_grad():
            found = self.output(self.middle(self.embedding.weight).tanh())[:, 0].double()
            return np.asarray(4 * found.numpy())


@pytest.fixture(scope="module")
def toys() -> tuple[dict[str, ListScorer], FusedLists]:
    models = {"asr": ("acoustic", Toy(1, 96)), "lm": ("lm", Toy(2, 160))}
    scorers = {role: ListScorer(name, m, m.scores) for role, (name, m) in models.items()}
    scores = {name: iter(m.scores().tolist()) for name, m in models.values()}
    lists = [
        NBestList(str(i), tuple(NBestEntry(tuple(t.split()), {n: next(s) for n, s in scores.items()}) for t in texts))
        for i, texts in enumerate(TEXTS)
    ]
    return scorers, FusedLists.of(lists, REFERENCES, ScoreWeights({"acoustic": 1.0, "lm": 0.7}, -0.4))


@pytest.mark.parametrize("bits", [2, 3])
def test_every_split_keeps_the_budget_and_its_own_rule(
    toys: tuple[dict[str, ListScorer], FusedLists], bits: int
) -> None:
    scorers, lists = toys
    joint = joint_sensitivity(scorers, lists, [1, 2, 3, 4, 8], by="tensor")
    own = own_tables(scorers, joint, "tensor")
    found = splits_of(scorers, joint, {SEPARATE: own}, bits)
    assert list(found) == [UNIFORM, SEPARATE, BY_ERRORS, JOINT]
    size = {s: {role: bytes_of_plan(scorers[role], plans[role]) for role in plans} for s, plans in found.items()}
    total = sum(size[UNIFORM].values())
    assert all(
        {band.bits for bands in plan.weights.values() for band in bands} == {bits} for plan in found[UNIFORM].values()
    )
    assert all(sum(size[split].values()) <= total for split in (BY_ERRORS, JOINT))
    parameters = {role: sum(p.numel() for p in x.model.parameters()) for role, x in scorers.items()}
    for role, count in parameters.items():
        assert size[SEPARATE][role] <= total * count / sum(parameters.values())
    assert np.array_equal(np.concatenate([t.omega for t in own.values()]), joint.omega)

    def omega(split: str) -> float:
        """What the table says of a split's plans."""
        costs = 0.0
        for role, one in own.items():
            plan = found[split][role]
            for i, cluster in enumerate(one.clusters):
                costs += one.omega[i, one.bits.index(plan.weights[cluster.parts[0].weight][0].bits)]
        return costs

    assert omega(JOINT) <= min(omega(SEPARATE), omega(UNIFORM)) + 1e-9  # it may choose either of them


def write_model(folder: Path, name: str) -> None:
    """A file of its own content."""
    PackedModel({}, provenance={"of": name}).save(folder / "model.safetensors")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    runs = {role: tmp_path / role for role in ("asr", "lm")}
    for folder in runs.values():
        folder.mkdir()
        write_model(folder, folder.name)
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / f"{split}.jsonl.gz").write_text(split)
    return Setting(PLAN, runs, tmp_path / "data", None, "test", tmp_path / "work")


def put(cells: Cells, cell: Cell, errors: Sequence[int], **more: Any) -> None:
    """A finished cell of ten conversations with an utterance of ten words each."""
    models = {role: {"model_bytes": 1000, "average_bits": 2.5} for role in ("asr", "lm")}
    figures: dict[str, Any] = {"errors": list(errors), "wer": float(sum(errors))}
    figures |= {"first": {"wer": 77.0, "errors": [8] * CONVERSATIONS}, "mapsswe_p_first": 0.25}
    figures |= {"words_each": [10] * CONVERSATIONS, "conversations": [f"c{i}" for i in range(CONVERSATIONS)]}
    figures |= {"models": models, "mapsswe_p": {other.split: 0.01 for other in cell.compared}}
    if cell.bits is not None:
        figures["fixed"] = {"wer": figures["wer"] + 1, "errors": [e + 1 for e in errors]}
        figures["search"] = {"expected_errors": 30.0, "float_errors": 20.0, "words": 100, "seconds": 5.0}
    cells.record(cell.config, 0, {**figures, **more}, 1.0)


def test_the_joint_split_stands_beside_the_others_of_its_budget(setting: Setting, tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    counts = {FLOAT: 2, UNIFORM: 4, APART: 2, SEPARATE: 3, BY_ERRORS: 3, JOINT: 3}
    for cell in cells_of(setting):
        if cell.bits != 2:
            put(cells, cell, [counts[cell.split]] * CONVERSATIONS)
    lines = table(cells, setting)
    splits = (UNIFORM, APART, SEPARATE, BY_ERRORS, JOINT)
    assert [line[:2] for line in lines] == [["", FLOAT], *(["3 bits", split] for split in splits)]
    control, uniform, apart, separate, by_errors, joint = lines
    assert joint[2:5] == ["77.00", "30.00", "[30.00, 30.00]"] and control[5:8] == ["", "", ""]
    assert joint[5] == "+50.0 % [+50.0, +50.0], upper +50.0 %" and joint[6:] == ["", "", "31.00", ""]
    assert uniform[9] == "-10.00 points, -20.0 % [-20.0, -20.0], upper -20.0 %: fewer" and control[8:] == ["", ""]
    assert uniform[6] == "-10.00 points, -25.0 % [-25.0, -25.0], upper -25.0 %: fewer"
    assert separate[6] == "+0.00 points, +0.0 % [+0.0, +0.0], upper +0.0 %: not resolved"
    assert apart[6].startswith("+10.00 points, +50.0 %") and apart[6].endswith("more")
    assert uniform[7] == apart[7] == separate[7] == by_errors[7] == "0.040"  # Holm's, of four
    *_, joint = sizes(cells, setting)
    assert joint[2:] == ["1,000 (2.50)", "1,000 (2.50)", "2,000", "30.00 % (fp32 20.00 %)"]


def test_what_is_due_comes_after_what_it_is_compared_with(setting: Setting, tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    tasks = list(tasks_of(setting, cells))
    at = {task.name: i for i, task in enumerate(tasks)}
    assert len(at) == len(tasks) == 1 + 1 + 5 * 2 and all(at[n] < at[t.name] for t in tasks for n in t.needs)
    last = tasks[-1]
    beside = [f"bytes of 2 bits, {split}" for split in (UNIFORM, APART, SEPARATE, BY_ERRORS)]
    assert last.needs == {"bits of all budgets", FLOAT, *beside}
    assert sum(hours_of(task, setting) for task in tasks) == pytest.approx(0.5 + 11 * 0.25)
    for cell in cells_of(setting)[:-1]:
        put(cells, cell, [1] * CONVERSATIONS)
    names = [task.name for task in tasks_of(setting, cells)]  # hypotheses of those that it is compared with are gone
    assert names == ["bits of all budgets", FLOAT, *beside, "bytes of 2 bits, joint"]
    for cell in cells_of(setting):
        cell.hypotheses.parent.mkdir(parents=True, exist_ok=True)
        cell.hypotheses.touch()
    again = list(tasks_of(setting, cells))
    assert [task.name for task in again] == ["bits of all budgets", "bytes of 2 bits, joint"]
    assert again[1].needs == {"bits of all budgets"}
    put(cells, cells_of(setting)[-1], [1] * CONVERSATIONS)
    assert list(tasks_of(setting, cells)) == []


def test_a_cell_is_that_of_its_files_and_settings(setting: Setting, tmp_path: Path) -> None:
    cell = Cell(setting, 3, JOINT)
    others = [replace(cell, bits=2), replace(cell, split=SEPARATE), Cell(replace(setting, split="dev"), 3, JOINT)]
    narrow = {**PLAN, "first_pass": {**PLAN["first_pass"], "beam": 2}}
    (tmp_path / "ngram").write_text("n-gram")
    others += [
        Cell(replace(setting, plan=narrow), 3, JOINT),
        Cell(replace(setting, ngram=tmp_path / "ngram"), 3, JOINT),
    ]
    hours = Cell(replace(setting, plan={**PLAN, "search_hours": 9.0}), 3, JOINT)
    assert config_hash(hours.config) == config_hash(cell.config)
    configs = [config_hash(c.config) for c in (cell, *others)]
    assert len(set(configs)) == len(configs)
    assert others[2].setting.folder == setting.folder == others[4].setting.folder  # plans and lists are shared
    write_model(setting.runs["lm"], "another")
    configs.append(config_hash(Cell(replace(setting), 3, JOINT).config))
    (setting.data / "dev.jsonl.gz").write_text("another dev")
    configs.append(config_hash(Cell(replace(setting), 3, JOINT).config))
    assert len(set(configs)) == len(configs)


def test_tables_need_only_cells(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def called(*more: str | Path) -> str:
        arguments = ["--table", "--results", tmp_path / "cells.jsonl", *more]
        monkeypatch.setattr(sys, "argv", ["joint_budget.py", *map(str, arguments)])
        joint_budget.main()
        return capsys.readouterr().out

    assert called().startswith("Still to be measured: fp32; bytes of 3 bits, uniform; ")
    plan = load_plan(BENCHMARKS / "joint_budget.yaml")
    ours = replace(setting, plan=plan)
    cells = Cells(tmp_path / "cells.jsonl")
    for other in ("lm", "asr"):  # of other models, measured before
        write_model(setting.runs["lm"], f"another than {other}")
        put(cells, Cell(replace(ours), None, FLOAT), [9] * CONVERSATIONS)
    write_model(setting.runs["lm"], "lm")
    for cell in cells_of(replace(ours))[:3]:
        put(cells, cell, [2] * CONVERSATIONS)
    put(cells, Cell(replace(ours, split="dev"), None, FLOAT), [8] * CONVERSATIONS)
    for folder in setting.runs.values():
        (folder / "model.safetensors").unlink()
    out = called()
    assert "In 32 bits the second pass is" in out
    assert "20.00" in out and "90.00" not in out and "80.00" not in out and "of both models took 5 s." in out
    page = tmp_path / "page.md"
    page.write_text("<!-- tables: joint_budget test -->\n<!-- end of tables: joint_budget test -->\n")
    assert called("--page", page) == ""
    text = page.read_text()
    assert "| 3 bits | uniform | 77.00 | 20.00 |" in text and "joint_budget.py: 3 cells, seed 0;" in text
    assert "Still to be measured: bytes of 3 bits, separate; " in text
    with pytest.raises(SystemExit, match="2"):
        called("--recognizer", tmp_path)


def test_seconds_of_an_interrupted_search_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr("searches.time.perf_counter", lambda: next(times))
    clock = tmp_path / "search" / "joint.seconds"
    with pytest.raises(KeyboardInterrupt), clocked(clock):
        raise KeyboardInterrupt
    with clocked(clock):
        pass
    assert clock.read_text() == "5.0" and [path.name for path in clock.parent.iterdir()] == [clock.name]


def test_the_plan_that_ships_keeps_recognizers_few() -> None:
    plan = load_plan(BENCHMARKS / "joint_budget.yaml")
    setting = Setting(plan, {}, Path(), None, "test", Path())
    assert set(SPLITS) == {cell.split for cell in cells_of(setting)} and len(cells_of(setting)) <= 11
    quick = load_plan(BENCHMARKS / "joint_budget.yaml", quick=True)
    assert len(quick["budgets"]) == 1 and quick["first_pass"]["beam"] < plan["first_pass"]["beam"]
    assert set(quick) == set(plan) and set(quick["search"]) == set(plan["search"])


WORDS = ("do", "re", "mi", "fa")
RECOGNIZER = {
    "name": "tiny",
    "tokenizer": {"kind": "char", "vocabulary": 12},
    "data": {"max_duration": 5.0},
    "model": {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10, "stack": 3},
    "phase": {"epochs": 8, "learning_rate": 1e-2, "warmup_steps": 4},
}
LANGUAGE_MODEL = {
    "name": "talk",
    "task": "lm",
    "corpus": {"name": "text", "options": {}},
    "data": {"batch_tokens": 200, "segment": 24},
    "model": {"type": "lstm-lm", "embedding": 48, "units": 48, "tied": True},
    "training": {"dropout": 0.0},
    "phase": {"epochs": 1, "learning_rate": 5e-3, "warmup_steps": 4},
}


def test_a_tiny_recognizer_and_language_model_go_all_the_way(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sottovoce.training.joint.KNOWN", 0.0)  # a recognizer of so few epochs writes few words
    text = tmp_path / "text"
    text.mkdir()
    for split in ("train", "dev", "test"):
        (text / f"{split}.txt").write_text("".join(f"{a} {b}\n" for a in WORDS for b in WORDS))
    asr = train(parse_recipe(RECOGNIZER, "test"), tones, tmp_path / "asr", threads=1, progress=False)
    lm = train(parse_recipe(LANGUAGE_MODEL, "test"), text, tmp_path / "lm", threads=1, progress=False)
    options = Namespace(
        recognizer=asr.folder, lm=lm.folder, data=None, ngram=None, split="dev", quick=False, work=tmp_path / "work",
        plan=BENCHMARKS / "joint_budget.yaml",
    )  # fmt: skip
    plan = {**PLAN, "budgets": [4]}
    setting = replace(joint_budget.setting_of(options), plan=plan)
    assert setting.data.resolve() == tones.resolve()
    cells = Cells(tmp_path / "cells.jsonl")
    told: list[str] = []
    for task in tasks_of(setting, cells):
        result = task.run(*task.arguments)
        told.append(joint_budget.record(cells, result))
    joint_budget.show(cells, setting, Tables())
    out = capsys.readouterr().out
    named = {tuple(cell.strip() for cell in line.split("│")[1:3]) for line in out.splitlines() if "│" in line}
    assert told[0] == "done" and all(line.startswith("WER ") for line in told[1:])
    assert {("4 bits", s) for s in SPLITS if s != FLOAT} <= named and "sensitivities of both models took" in out
    found = {cell.split: joint_budget.figures_of(cells, cell) or {} for cell in cells_of(setting)}
    total = {split: sum(x["model_bytes"] for x in figures["models"].values()) for split, figures in found.items()}
    assert max(total[JOINT], total[SEPARATE], total[APART]) <= total[UNIFORM] < total[FLOAT]
    assert found[JOINT]["mapsswe_p"].keys() == {FLOAT, BY_ERRORS, SEPARATE, APART, UNIFORM}
    uniform = Cell(setting, 4, UNIFORM)
    assert load_model(made(uniform, "lm")).average_bits == 4 and list(tasks_of(setting, cells)) == []
    for role in ("asr", "lm"):  # what the search counted is what was written
        counted = found[UNIFORM]["search"]["bytes"][role]
        assert 0 <= counted - found[UNIFORM]["models"][role]["model_bytes"] < 64
    assert not (asr.folder / "search").exists() and not (asr.folder / "plan.json").exists()  # runs stay as they were
    monkeypatch.setattr(joint_arms, "joint_models", None)
    choose(setting)  # plans that are there are not chosen again
    monkeypatch.setattr(joint_arms, "nbest_split", None)
    again = run_cell(uniform)[2]
    assert again["errors"] == found[UNIFORM]["errors"] and again["fixed"] == found[UNIFORM]["fixed"]
    first = found[FLOAT]["first"]["errors"]
    assert len(first) == len(found[FLOAT]["errors"]) and 0 <= found[FLOAT]["mapsswe_p_first"] <= 1
