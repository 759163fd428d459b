"""The tables of benchmarks/mixed_precision_lm.py from made-up cells: what is due, paired, pooled and judged."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sottovoce.errors import ConfigError
from sottovoce.quant import BandSpec, BitPlan
from sottovoce.training.arms import scheme_for

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package
import cells as finished  # noqa: E402
import lm_arms  # noqa: E402
from cells import Cells, config_hash  # noqa: E402
from lm_arms import Model, Plan, Row, cell_config, compression, load_plan, tasks_of  # noqa: E402
from mixed_precision_lm import Results, beside, rows_of, searches, table  # noqa: E402
from places import Place  # noqa: E402

PLANS = [BENCHMARKS / name for name in ("mixed_precision_lm.yaml", "mixed_precision_tuning.yaml")]
CONVERSATIONS, WORDS = 12, 1000.0


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "plan.yaml"
    path.write_text(
        """
models: {lstm: {recipe: swda-lstm, base_hours: 1, epoch_hours: 1, schemes: {ptq: {grouping: row, kind: uniform}}}}
margins: {alone: 0.01, mixed: 0.005}
prototypes: {2: rounded}
tables:
  - title: all
    rows:
      - {name: fp32, seeds: 2}
      - {name: rounded, scheme: ptq, settings: {bits: 2}, seeds: 2}
      - {name: searched, scheme: ptq, search: {metric: kl, ratio: 16, prototypes: true}}
      - {name: narrow, scheme: ptq, settings: {bits: 4}, margins: [0.003, 0.003]}
"""
    )
    return load_plan(path)


def place(plan: Plan, tmp_path: Path, seed: int = 0) -> Place[Model]:
    return Place(plan.models["lstm"], seed, tmp_path / "data", tmp_path / "work")


def figures(perplexity: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Conversations that differ alike for every system."""
    spread = np.random.default_rng(seed).normal(0, 0.1, CONVERSATIONS)
    nats = (np.log(perplexity) + spread - spread.mean()) * WORDS
    return {
        "perplexity": perplexity,
        "mixed": perplexity - 2,
        "words": [WORDS] * CONVERSATIONS,
        "nats": nats.tolist(),
        "mixed_nats": (nats - 0.1 * WORDS).tolist(),
        "average_bits": 2.0,
        "model_bytes": 1000,
        "fp32_bytes": 16000,
        "made_seconds": 10.0,
        **more,
    }


def recorded(plan: Plan, tmp_path: Path, found: dict[tuple[str, int], float]) -> Results:
    cells = Cells(tmp_path / "cells.jsonl")
    places = (place(plan, tmp_path), place(plan, tmp_path, 1))
    for (name, seed), value in found.items():
        config = cell_config(places[seed], plan.row(name), "validation")
        cells.record(config, seed, figures(value, seed, search_seconds=5.0, clusters=3, widths=4), 1.0)
    return Results(cells, places, plan, "validation")


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_row_can_be_run_and_is_a_cell_of_its_own(path: Path) -> None:
    plan = load_plan(path)
    assert plan.row("fp32").scheme is None and all(
        name in {r.name for r in plan.rows} for name in plan.prototypes.values()
    )
    for name, model in plan.models.items():
        somewhere = Place(model, 0, Path("data"), Path("work"))
        rows = [row for row in plan.rows if row.models is None or name in row.models]
        assert len({config_hash(cell_config(somewhere, row, "dev")) for row in rows}) == len(rows)
        for row in rows:
            section = compression(model, row)
            if section is not None:
                scheme_for(section)
                assert section.phase.epochs == row.epochs <= 2


def test_prototypes_come_before_what_searches_with_them(plan: Plan, tmp_path: Path) -> None:
    tasks = {
        task.name: task for task in tasks_of(place(plan, tmp_path), plan, list(plan.rows), Cells(tmp_path / "c"), "dev")
    }
    base = "lstm, seed 0: 32-bit training"
    assert tasks["lstm, seed 0: searched"].needs == {base, "lstm, seed 0: rounded"}
    assert tasks["lstm, seed 0: rounded"].needs == {base} and tasks[base].needs == frozenset()


def test_finished_cells_are_not_due_and_another_split_is(plan: Plan, tmp_path: Path) -> None:
    results = recorded(plan, tmp_path, {(row.name, 0): 50.0 for row in plan.rows})
    assert list(tasks_of(results.places[0], plan, list(plan.rows), results.cells, "validation")) == []
    assert len(list(tasks_of(results.places[0], plan, list(plan.rows), results.cells, "dev"))) == 1 + len(plan.rows)


def test_the_same_file_serves_both_splits(plan: Plan, tmp_path: Path) -> None:
    here, row = place(plan, tmp_path), plan.row("rounded")
    assert lm_arms.folder_of(here, row) != lm_arms.folder_of(here, plan.row("narrow"))
    assert cell_config(here, row, "dev") != cell_config(here, row, "validation")
    assert lm_arms.folder_of(here, row) == lm_arms.folder_of(here, row)


def test_verdicts_pool_the_seeds_that_are_there(plan: Plan, tmp_path: Path) -> None:
    found = {("fp32", 0): 50.0, ("fp32", 1): 52.0, ("rounded", 0): 50.2, ("rounded", 1): 52.4, ("narrow", 0): 50.25}
    results = recorded(plan, tmp_path, found)
    lines = {line[0]: line for line in table(results, plan.rows)}
    assert set(lines) == {"fp32", "rounded", "narrow"}  # what is not there yet is not shown
    assert lines["fp32"][4] == "50.00 52.00" and lines["fp32"][6:] == ["", ""]
    assert lines["rounded"][1:5] == ["2.00", "1,000", "16.00", "50.20 52.40"]
    both = np.expm1(np.log(50.2 * 52.4 / 50 / 52) / 2)
    judged = results.judged(plan.row("rounded"), "nats", 0.01)
    assert judged is not None and judged.relative_difference == pytest.approx(both) and judged.kind == "non-inferior"
    assert lines["rounded"][6].startswith(f"{100 * both:+.2f} %")
    assert lines["narrow"][6] == "+0.50 %, upper +0.50 %, margin 0.3 %: inferior"


def test_rows_are_set_against_one_another(plan: Plan, tmp_path: Path) -> None:
    plan = replace(plan, pairs=(("narrow", "rounded"), ("rounded", "narrow"), ("searched", "rounded")))
    found = {("fp32", 0): 50.0, ("fp32", 1): 52.0, ("rounded", 0): 50.2, ("rounded", 1): 52.4, ("narrow", 0): 50.25}
    first, second = beside(recorded(plan, tmp_path, found), plan.rows)  # the third is not there
    assert first[:3] == ["narrow", "rounded", "1"] and first[3].startswith(f"{100 * (50.25 / 50.2 - 1):+.2f} % [")
    assert first[3].endswith(": worse") and second[3].endswith(": better")


def test_pairs_of_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    text = (BENCHMARKS / "mixed_precision_lm.yaml").read_text()
    (tmp_path / "plan.yaml").write_text(text + '  - ["KL 16x, ADMM", "no such row"]\n')
    with pytest.raises(ConfigError, match="pairs of rows that are not there: no such row"):
        load_plan(tmp_path / "plan.yaml")


def test_a_row_without_its_control_says_nothing(plan: Plan, tmp_path: Path) -> None:
    results = recorded(plan, tmp_path, {("rounded", 0): 50.2})
    assert table(results, plan.rows) == [] and results.judged(plan.row("rounded"), "nats", 0.01) is None


def test_searches_are_listed_once_with_their_share_of_an_epoch(plan: Plan, tmp_path: Path) -> None:
    results = recorded(plan, tmp_path, {("fp32", 0): 50.0, ("searched", 0): 50.2})
    assert searches(results, plan.rows, 20.0) == [["kl of prototypes", "3", "4", "5", "0.25"]]


def test_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "models: {}\nmargins: {alone: 0.01, mixed: 0.005}\ntables: [{title: a, rows: [{name: x}, {name: x}]}]\n"
    )
    with pytest.raises(ConfigError, match="rows of one name: x"):
        load_plan(path)


def test_a_quick_check_has_few_rows(plan: Plan) -> None:
    quick = replace(plan, rows=(*plan.rows, Row("marked", "all", quick=True)))
    options = argparse.Namespace(only=None, quick=True)
    assert [row.name for row in rows_of(quick, "lstm", options)] == ["marked"]


def test_an_assembly_takes_each_bands_rows_from_the_prototype_of_its_bits(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(plan, tmp_path)
    here.base.folder.mkdir(parents=True)
    save_file({"model.a.weight": torch.zeros(4, 2), "model.a.bias": torch.ones(4)}, here.base.module)
    monkeypatch.setattr(lm_arms, "_weights", lambda place, plan, n: {"a.weight": torch.full((4, 2), float(n))})
    both = replace(plan, prototypes={2: "rounded", 4: "narrow"})
    chosen = BitPlan({"a.weight": (BandSpec(4, "uniform", "row", stop=1), BandSpec(2, "uniform", "row", start=1))})
    made = load_file(lm_arms._assembled(here, both, plan.row("searched"), chosen))
    assert made["model.a.weight"].tolist() == [[4.0, 4.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]
    assert made["model.a.bias"].tolist() == [1.0] * 4


def test_a_misspelt_option_is_an_error(plan: Plan) -> None:
    row = replace(plan.row("rounded"), scheme="admm", settings={"options": {"strenght": (1.0, 2.0)}})
    section = compression(plan.models["lstm"], row)
    assert section is not None
    with pytest.raises(ConfigError, match="strenght"):
        scheme_for(section)
