"""The tables of benchmarks/rescoring.py from made-up counts: the share kept, verdicts, and what is still to be done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package
import cells as finished  # noqa: E402
import lm_arms  # noqa: E402
import rescoring_arms  # noqa: E402
from cells import Cells  # noqa: E402
from places import Place  # noqa: E402
from rescoring import Results, record, table  # noqa: E402
from rescoring_arms import (  # noqa: E402
    CONTROL,
    EQUAL,
    FIRST,
    MIXINGS,
    NGRAM,
    REPLACED,
    SPEECH,
    TUNED,
    Cell,
    Lists,
    Plan,
    cells_of,
    load_plan,
    make_lists,
    run_cell,
    tasks_of,
)

from sottovoce.decoding.nbest_files import write_nbest  # noqa: E402
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList  # noqa: E402
from sottovoce.errors import ConfigError, DataError  # noqa: E402
from sottovoce.packed import PackedModel  # noqa: E402
from sottovoce.training.config import CompressionConfig  # noqa: E402

CONVERSATIONS, UTTERANCES, WORDS = 12, 20, 10


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def plan() -> Plan:
    return load_plan(BENCHMARKS / "rescoring.yaml")


def places(plan: Plan, folder: Path, seeds: int = 2) -> tuple[Place[lm_arms.Model], ...]:
    return tuple(Place(plan.lm.models["lstm"], seed, folder / "swda", folder / "lm") for seed in range(seeds))


def errors(conversation: Sequence[int]) -> list[int]:
    """Errors of each utterance, from those of a conversation's utterances."""
    return [e for e in conversation for _ in range(UTTERANCES)]


def figures(found: list[int], lists: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "wer": 100 * sum(found) / (WORDS * len(found)),
        "errors": found,
        "lists": lists,
        "file_bytes": 1100,
        "model_bytes": 1000,
        "fp32_bytes": 16000,
        "average_bits": 1.9,
        "mapsswe_p": {FIRST: 0.001, NGRAM: 0.002, CONTROL: 0.03},
        **more,
    }


FOUR, THREE, TWO = ([n] * CONVERSATIONS for n in (4, 3, 2))


def results(plan: Plan, folder: Path, rows: dict[tuple[str, int], dict[str, Any]], mixing: str = TUNED) -> Results:
    """With a first pass of 4 errors in an utterance of 10 words, and 3 with the 4-gram."""
    here = places(plan, folder)
    lists = Lists(SPEECH, plan.lists[SPEECH], "test", here[0], folder / "out")
    cells = Cells(folder / "cells.jsonl")
    known = {
        "words_each": [WORDS] * (CONVERSATIONS * UTTERANCES),
        "conversations": [str(c) for c in range(CONVERSATIONS) for _ in range(UTTERANCES)],
    }
    for name, before, more in ((FIRST, FOUR, known), (NGRAM, THREE, {})):
        cells.record(Cell(lists, plan, here[0], None, name).config, 0, figures(errors(before), **more), 1.0)
    for (name, seed), found in rows.items():
        row = next(row for row in plan.rows if row.name == name)
        cells.record(Cell(lists, plan, here[seed], row, mixing).config, seed, found, 1.0)
    return Results(cells, lists, plan, here, mixing)


def test_the_share_of_the_gain_is_that_of_errors_over_both_rows_without_a_neural_model(
    plan: Plan, tmp_path: Path
) -> None:
    # fp32 makes 2 errors an utterance; 16x the same, but for one conversation in four, where it makes 3.
    worse = [3 if c % 4 == 0 else 2 for c in range(CONVERSATIONS)]
    found = results(plan, tmp_path, {("fp32", 0): figures(errors(TWO)), ("16x", 0): figures(errors(worse))})
    row = next(row for row in plan.rows if row.name == "16x")
    over_ngram, over_first = found.kept(row, NGRAM), found.kept(row, FIRST)
    assert over_ngram is not None and over_ngram.estimate == pytest.approx(0.75)
    assert over_first is not None and over_first.estimate == pytest.approx(0.875)
    low, high = over_ngram.interval()
    # Every draw of 12 conversations holds k of the three worse ones' kind: the share is 1 - k / 12.
    assert low < 0.75 < high <= 1 and round(12 * low) == pytest.approx(12 * low)
    assert [round(2 * x - 1, 9) for x in over_first.interval()] == [round(x, 9) for x in (low, high)]


def test_seeds_are_averaged_and_a_seed_without_its_control_is_left_out(plan: Plan, tmp_path: Path) -> None:
    rows = {
        ("fp32", 0): figures(errors(TWO)),
        ("16x", 0): figures(errors(TWO)),
        ("16x", 1): figures(errors(THREE)),
    }
    row = next(row for row in plan.rows if row.name == "16x")
    alone = results(plan, tmp_path / "one", rows)
    kept = alone.kept(row, NGRAM)
    assert kept is not None and kept.estimate == 1.0 and len(alone.pairs(row)) == 1
    both = results(plan, tmp_path / "two", {**rows, ("fp32", 1): figures(errors(TWO))})
    kept = both.kept(row, NGRAM)
    assert kept is not None and kept.estimate == pytest.approx(0.5) and len(both.pairs(row)) == 2
    line = next(line for line in table(both) if line[0] == "16x")
    assert line[4] == "20.00 30.00" and line[8].startswith("50.0 % [")


@pytest.mark.parametrize(
    ("system", "bits", "kind"),
    [
        ([2] * CONVERSATIONS, 1.9, "non-inferior"),
        ([2] * (CONVERSATIONS - 1) + [3], 1.9, "not resolved"),  # 4 % more, but in one conversation
        ([3] * CONVERSATIONS, 1.9, "inferior"),
    ],
)
def test_the_verdict_is_that_of_the_margin_of_its_bits(
    plan: Plan, tmp_path: Path, system: list[int], bits: float, kind: str
) -> None:
    rows = {("fp32", 0): figures(errors(TWO)), ("16x", 0): figures(errors(system), average_bits=bits)}
    found = results(plan, tmp_path, rows).judged(next(row for row in plan.rows if row.name == "16x"))
    assert found is not None and found.kind == kind and found.margin == 0.05
    assert found.relative_difference == pytest.approx(sum(system) / (2 * CONVERSATIONS) - 1)


def test_the_margin_is_that_of_the_widest_seed(plan: Plan, tmp_path: Path) -> None:
    rows = {(name, seed): figures(errors(TWO)) for name in ("fp32", "8x") for seed in (0, 1)}
    rows["8x", 0]["average_bits"], rows["8x", 1]["average_bits"] = 3.99, 4.01
    found = results(plan, tmp_path, rows).judged(next(row for row in plan.rows if row.name == "8x"))
    assert found is not None and found.margin == 0.02


def test_a_training_of_another_recipe_is_no_base(plan: Plan, tmp_path: Path) -> None:
    here = places(plan, tmp_path)[0]
    with pytest.raises(ConfigError, match="found no config"):
        lm_arms.check_base(here)
    for changes in ((), ("phase.epochs=1",)):
        recipe = here.recipe((*changes, "compression.bits=3")).model_dump(mode="json")
        recipe["compression"] = CompressionConfig().model_dump(mode="json")
        here.base.folder.mkdir(parents=True, exist_ok=True)
        (here.base.folder / "config.yaml").write_text(yaml.safe_dump({"recipe": recipe, "data": "swda"}))
        if changes:
            with pytest.raises(ConfigError, match="other settings"):
                lm_arms.check_base(here)
        else:
            lm_arms.check_base(here)


def test_a_table_shows_what_is_there(plan: Plan, tmp_path: Path) -> None:
    rows = {("fp32", 0): figures(errors(TWO)), ("16x", 0): figures(errors(TWO)), ("8x", 0): figures(errors(TWO))}
    lines = {line[0]: line for line in table(results(plan, tmp_path, rows))}
    assert list(lines) == [FIRST, NGRAM, "fp32", "8x", "16x"]
    assert lines[FIRST][4] == "40.00" and lines[NGRAM][4] == "30.00" and lines[NGRAM][2] == "1,100"
    assert lines["fp32"][-2:] == ["10.00 points, p at most 0.002", "20.00 points, p at most 0.001"]
    assert lines[FIRST][6].startswith("+100.00 %, upper +100") and lines[NGRAM][6].startswith("+50.00 %, upper +50")
    assert lines["16x"][3] == "16.00" and "non-inferior" in lines["16x"][6]
    assert lines["16x"][7] == "0.060"  # Holm's, of two
    assert table(results(plan, tmp_path / "none", {}))[-1][0] == NGRAM


def test_no_gain_is_said_and_figures_of_other_lists_are_not_shown(plan: Plan, tmp_path: Path) -> None:
    rows = {
        ("fp32", 0): figures(errors(THREE)),
        ("16x", 0): figures(errors(THREE)),
        ("8x", 0): figures(errors(TWO), "b"),
    }
    found = results(plan, tmp_path, rows)
    lines = {line[0]: line for line in table(found)}
    assert lines["16x"][-2] == "fp32 gains nothing" and lines["16x"][-1].startswith("100.0 %") and "8x" not in lines
    first = Cell(found.lists, plan, found.places[0], None, FIRST)
    with pytest.raises(DataError, match="other lists"):
        record(found.cells, first, ({"another": "cell"}, 0, figures(errors(TWO), "b"), 1.0))


def test_what_is_due_is_each_cell_after_those_that_it_is_compared_with(plan: Plan, tmp_path: Path) -> None:
    found = results(plan, tmp_path, {("fp32", 0): figures(errors(TWO))}, EQUAL)
    wanted = cells_of(found.lists, plan, {"lstm": found.places[:1]})
    assert len({str(cell.config) for cell in wanted}) == len(wanted) == 2 + len(MIXINGS) * len(plan.rows) - 1
    assert all(task.arguments != (wanted[0],) for task in tasks_of(found.cells, wanted, only_ready=True))
    lm_arms.ngram_file(found.places[0]).parent.mkdir()
    lm_arms.ngram_file(found.places[0]).touch()
    again = [task.name for task in tasks_of(Cells(tmp_path / "none.jsonl"), wanted, only_ready=True)]
    assert again == [rescoring_arms.LISTS, FIRST, NGRAM]  # nothing is trained for the n-gram that is there
    lm_arms.ngram_file(found.places[0]).unlink()
    names = [task.name for task in tasks_of(found.cells, wanted, only_ready=False)]
    assert len(set(names)) == len(names)
    at = {name: place for place, name in enumerate(names)}
    fp32, of_16x = "lstm, seed 0: fp32, ", "lstm, seed 0: 16x, "
    assert at["lstm, seed 0: 32-bit training"] < at[NGRAM] < at[fp32 + TUNED] < at[of_16x + REPLACED]
    assert fp32 + REPLACED not in at and at["lstm, seed 0: 16x, made"] < at[of_16x + EQUAL]
    # Their hypotheses are nowhere, and others are compared with them, so the finished ones run once more.
    assert {FIRST, NGRAM, fp32 + EQUAL} <= set(names)


def test_the_first_pass_counts_its_lists(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = places(plan, tmp_path)[0]
    lists = Lists(SPEECH, plan.lists[SPEECH], "test", here, tmp_path / "out", quick={"utterances": 2, "noise": 0.5})
    entries = [NBestEntry(tuple(text.split()), {"acoustic": -1.0}) for text in ("a b x", "a b c", "x x x")]
    for split, count in (("dev", 1), ("test", 2)):
        some = [NBestList(f"c{i}-0", tuple(entries), None, f"c{i}", "a b c") for i in range(count)]
        lists.file(split).parent.mkdir(parents=True, exist_ok=True)
        write_nbest(lists.file(split), some)
    monkeypatch.setattr(rescoring_arms, "write_confusions", None)  # what is there is not made again
    make_lists(lists)
    cell = Cell(lists, plan, here, None, FIRST)
    config, seed, found, _ = run_cell(cell)
    assert (config, seed, found["errors"], found["words_each"]) == (cell.config, 0, [1, 1], [3, 3])
    assert found["conversations"] == ["c0", "c1"] and found["oracle_errors"] == 0 and found["dev"]["errors"] == 1
    assert replace(cell, mixing=NGRAM).compared == {FIRST: cell} and cell.hypotheses.exists()


def test_lists_of_another_recognizer_are_refused(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescoring_arms, "_decode", lambda lists, split: lists.file(split).touch())
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        PackedModel({}, provenance={"of": name}).save(tmp_path / name / "model.safetensors")
    lists = Lists(SPEECH, plan.lists[SPEECH], "test", places(plan, tmp_path)[0], tmp_path / "out", tmp_path / "one")
    make_lists(lists)
    make_lists(lists)
    with pytest.raises(DataError, match="another recognizer"):
        make_lists(replace(lists, recognizer=tmp_path / "two"))
