"""The tables of benchmarks/s8bqat_rnnt.py from made-up cells: what is joined, pooled, judged, and still to be done."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from sottovoce.errors import ConfigError
from sottovoce.training.arms import plan_for, scheme_for
from sottovoce.training.comparison import CONTROL, Arm
from sottovoce.training.config import CompressionConfig, load_recipe

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package
import arms as cells_of_arms  # noqa: E402
import cells as finished  # noqa: E402
import s8bqat_rnnt  # noqa: E402
from arms import Corpus, cell_config, load_plan, place_of, recipe_of, tasks_of  # noqa: E402
from cells import Cells  # noqa: E402
from places import Place  # noqa: E402
from s8bqat_rnnt import Results, alone, arms_of, by_fold, missing, record, table  # noqa: E402

FP32 = Arm(CONTROL, None)
PLAIN = Arm("plain", CompressionConfig(bits=3))
WORSE = Arm("worse", CompressionConfig(bits=3, options={"strength": 1.0}))
ARMS = [FP32, PLAIN, WORSE]
UTTERANCES = 12  # of each fold


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def corpora(tmp_path: Path) -> list[Corpus]:
    """Two speakers left out in turn, and a corpus with a test set of its own."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: made-up\nphase: {epochs: 8}\ncompression: {fork_at: 0.25}\n")
    return [Corpus("digits", None, recipe, "test_speakers", ("ann", "bob")), Corpus("letters", None, recipe)]


@pytest.fixture
def results(corpora: list[Corpus], tmp_path: Path) -> Results:
    places = [place_of(c, fold, seed, True, tmp_path / "work") for seed in (0, 1) for c in corpora for fold in c.folds]
    return Results(Cells(tmp_path / "cells.jsonl"), tuple(places), "test")


def control_errors(place: Place[Corpus]) -> list[int]:
    """Multiples of 5, other ones for each place."""
    rng = np.random.default_rng([place.seed, len(place.source.name), len(place.fold), *place.fold.encode()])
    return (5 * rng.integers(0, 4, UTTERANCES)).tolist()


def put(results: Results, place: Place[Corpus], arm: Arm, errors: Sequence[int], p: float = 0.5) -> None:
    """A finished cell; four persons speak in each fold, twenty words an utterance."""
    figures: dict[str, Any] = {"errors": list(errors), "model_bytes": 100, "fp32_bytes": 250 if arm == FP32 else 1000}
    figures |= {"wer": 5 * sum(errors) / UTTERANCES, "loss_per_token": 0.5, "mapsswe_p": p}
    if arm == FP32:
        counts = {"substitutions": 1, "insertions": 2, "deletions": 3}
        figures["speakers"] = [f"{place.fold}{i % 4}" for i in range(UTTERANCES)]
        figures["words_each"] = [20] * UTTERANCES
        figures["without_blank_penalty"] = {"wer": 40.0, **counts}
    results.cells.record(cell_config(place, arm, results.split), place.seed, figures, 1.0)


def fill(results: Results, places: Sequence[Place[Corpus]] | None = None, **factors: float) -> None:
    """Controls, and arms that make so many times their errors on every utterance."""
    for place in results.places if places is None else places:
        put(results, place, FP32, control_errors(place))
        for arm in (PLAIN, WORSE):
            if arm.name.split("-")[0] in factors:
                factor = factors[arm.name.split("-")[0]]
                put(results, place, arm, [round(factor * count) for count in control_errors(place)])


def test_folds_and_corpora_are_joined_in_their_order(results: Results, corpora: list[Corpus]) -> None:
    fill(results, plain=1.2)
    digits, letters = corpora
    ann, bob, own = (place for place in results.places if place.seed == 1)
    for arm, factor in ((FP32, 1.0), (PLAIN, 1.2)):
        expected = [round(factor * count) for place in (ann, bob, own) for count in control_errors(place)]
        assert results.joined(corpora, 1, arm, "errors") == expected
        words = 20 * 2 * UTTERANCES
        assert results.wer(digits, 1, arm) == pytest.approx(100 * sum(expected[: 2 * UTTERANCES]) / words)
    speakers = results.joined(corpora, 0, FP32, "speakers")
    assert speakers[:2] == ["digits ann0", "digits ann1"] and speakers[UTTERANCES] == "digits bob0"
    assert set(speakers[2 * UTTERANCES :]) == {f"letters {i}" for i in range(4)}  # a speaker is one of one corpus
    assert results.joined([letters], 1, FP32, "errors") == control_errors(own)


def test_equal_errors_are_non_inferior_and_a_fifth_more_are_inferior(results: Results, corpora: list[Corpus]) -> None:
    fill(results, plain=1.0, worse=1.2)
    for group in (corpora, corpora[:1], corpora[1:]):
        same, worse = (results.judged(group, arm) for arm in (PLAIN, WORSE))
        assert same is not None and worse is not None and same[1] == worse[1] == 2
        assert (same[0].kind, same[0].relative_difference, same[0].upper) == ("non-inferior", 0.0, 0.0)
        assert worse[0].kind == "inferior" and worse[0].margin == 0.03
        assert worse[0].relative_difference == pytest.approx(0.2)


def test_a_verdict_pools_corpora_folds_and_seeds(results: Results, corpora: list[Corpus]) -> None:
    totals = {"control": 0, "arm": 0}
    for place in results.places:
        own = control_errors(place)
        better = place.source.name == "letters" and place.seed == 0
        found = [count // 5 if better else count + count // 5 for count in own]
        put(results, place, FP32, own)
        put(results, place, PLAIN, found)
        totals = {"control": totals["control"] + sum(own), "arm": totals["arm"] + sum(found)}
    judged = results.judged(corpora, PLAIN)
    assert judged is not None and judged[1] == 2
    assert judged[0].relative_difference == pytest.approx(totals["arm"] / totals["control"] - 1)
    assert judged[0].lower < judged[0].relative_difference < judged[0].upper
    assert judged[0].kind == "not resolved"


def test_each_corpus_alone_and_the_last_headline_arm_beside_the_others(results: Results, corpora: list[Corpus]) -> None:
    fill(results, plain=1.2, worse=1.0)
    digits, letters = corpora
    first, last = alone(results, corpora, [[letters]], [FP32, PLAIN, WORSE])
    assert first[:2] == [PLAIN.system, "3"] and last[:2] == [WORSE.system, "3"]
    for k, corpus in enumerate((digits, letters), 2):
        found = results.judged([corpus], PLAIN)
        assert found is not None and first[k].startswith(f"{100 * found[0].relative_difference:+.1f} % [")
        assert first[k].endswith("]: inferior") and last[k] == "+0.0 % [+0.0, +0.0]: non-inferior"
    assert first[4].startswith("-16.7 % [") and first[4].endswith(": fewer") and last[4] == ""


def test_a_word_error_rate_has_its_interval(results: Results, corpora: list[Corpus]) -> None:
    fill(results, plain=1.2)
    for corpus in corpora:
        mean, low, high = (float(x) for x in re.findall(r"[\d.]+", results.interval(corpus, PLAIN)))
        rates = [results.wer(corpus, seed, PLAIN) for seed in results.seeds([corpus], PLAIN)]
        assert mean == pytest.approx(sum(rates) / len(rates), abs=0.0051) and low < mean < high
    one = replace(results, places=tuple(place for place in results.places if place.seed == 0))
    errors = np.array(one.joined(corpora[1:], 0, PLAIN, "errors"))
    rng = np.random.default_rng(1)  # four speakers are too few: utterances of twenty words are drawn
    drawn = np.array([rng.choice(errors, len(errors)).mean() for _ in range(4000)]) / 20 * 100
    found = [float(x) for x in re.findall(r"[\d.]+", one.interval(corpora[1], PLAIN))[1:]]
    assert found == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist(), abs=0.6)
    assert results.interval(corpora[0], WORSE) == ""


def test_only_what_is_there_has_a_line(results: Results, corpora: list[Corpus]) -> None:
    first = [place for place in results.places if place.seed == 0]
    assert table(results, corpora, ARMS) == []
    fill(results, first[:1], plain=1.0)  # one fold of two: its corpus has no figure yet
    assert [line[:3] for line in table(results, corpora, ARMS)] == [["fp32", "32", ""], ["plain", "3", ""]]
    fill(results, first, plain=1.0)
    fill(results, [place for place in results.places if place.seed == 1], worse=1.2)
    control, plain, worse = table(results, corpora, ARMS)
    digits = [results.wer(corpora[0], seed, FP32) for seed in (0, 1)]
    assert control[2] == f"{digits[0]:.2f} {digits[1]:.2f}" and plain[2] == f"{digits[0]:.2f}"
    assert worse[2] == f"- {results.wer(corpora[0], 1, WORSE):.2f}"  # of seed 1
    assert control[4] == "2.5" and plain[4] == "10.0"
    assert control[5:] == ["", "reference", ""]
    assert plain[5:] == ["+0.0 %, +0.0 %, 3 %, 1", "non-inferior", "1.000"]
    assert worse[5].startswith("+20.0 %, ") and worse[6:] == ["inferior", ""]


def test_each_fold_has_its_column_and_real_speech_the_verdict(results: Results, corpora: list[Corpus]) -> None:
    fill(results, results.places, plain=1.2)
    ann, bob = (replace(corpora[0], folds=(fold,)) for fold in ("ann", "bob"))
    for lines, real in (
        (by_fold(results, corpora[0], ARMS, [bob]), bob),
        (by_fold(results, corpora[0], ARMS, []), None),
    ):
        control, plain = lines
        wers = [f"{results.wer(fold, 0, PLAIN):.2f} {results.wer(fold, 1, PLAIN):.2f}" for fold in (ann, bob)]
        assert plain[2:4] == wers and control[5:] == ["", "reference"]
        assert plain[4] == f"{results.wer(corpora[0], 0, PLAIN):.2f} {results.wer(corpora[0], 1, PLAIN):.2f}"
        judged = results.judged([real], PLAIN) if real else None
        assert plain[6] == (judged[0].kind if judged else "") and plain[5].startswith("+20.0 %" if judged else "")


def test_what_is_still_to_be_measured_stands_together(results: Results, corpora: list[Corpus]) -> None:
    assert missing(results, corpora, ARMS, ARMS) == ["digits ann seed 0/1, digits bob seed 0/1, letters seed 0/1: all"]
    fill(results, results.places[:2], plain=1.0)
    headline = [FP32, PLAIN]  # so that the other is due of seed 0 alone
    assert missing(results, corpora, ARMS, headline) == [
        "digits ann seed 0, digits bob seed 0: worse (3)",
        "digits ann seed 1, digits bob seed 1, letters seed 0/1: all",
    ]
    fill(results, plain=1.0, worse=1.0)
    assert missing(results, corpora, ARMS, ARMS) == []


def test_seeds_count_only_with_their_control(results: Results, corpora: list[Corpus]) -> None:
    fill(results, plain=1.0)
    lacking = replace(results, cells=Cells(results.cells.path.with_name("other.jsonl")))
    for place in results.places:
        if place.seed == 0:
            put(lacking, place, FP32, control_errors(place))
        put(lacking, place, PLAIN, control_errors(place))
    assert results.seeds(corpora, PLAIN) == [0, 1] and lacking.seeds(corpora, PLAIN) == [0]


def test_p_values_are_corrected_over_places_and_then_over_arms(results: Results, corpora: list[Corpus]) -> None:
    places = [place for place in results.places if place.seed == 0]
    for place, p in zip(places, (0.5, 0.004, 0.9), strict=True):
        put(results, place, FP32, control_errors(place))
        put(results, place, PLAIN, control_errors(place), p)
        put(results, place, WORSE, control_errors(place), 0.3)
    _, plain, worse = table(results, corpora, ARMS)
    assert plain[-1] == "0.024"  # 3 places, 2 arms
    assert worse[-1] == "0.900"  # 3 places; the larger of two


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["s8bqat_rnnt.py", "--table", *map(str, arguments)])
    s8bqat_rnnt.main()


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    plan = {
        "corpora": {
            "fsdd": {
                "recipe": "fsdd", "folds": {"test_speakers": ["ann", "bob"]}, "base_hours": 0.5, "arm_hours": 0.25,
            },
            "an4": {"recipe": "an4", "base_hours": 0.5, "arm_hours": 0.25},
        },
        "real": ["fsdd"],
        "widths": [3, 2],
        "headline": ["ours"],
        "int8": {"scheme": "ptq"},
        "arms": {"rounded": {"scheme": "ptq"}, "ours": {"scheme": "s8bqat", "options": {"period": 0.1}}},
    }  # fmt: skip
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def test_the_script_prints_a_partial_table(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--plan", plan_file, "--data", "fsdd:fsdd", "--data", "an4:an4", "--results", tmp_path / "cells.jsonl")
    run_main(monkeypatch, *options, "--seeds", 2)
    assert "Still to be measured: fsdd ann seed 0/1, fsdd bob seed 0/1, an4 seed 0/1: all." in capsys.readouterr().out
    corpora, _ = load_plan(plan_file, ["fsdd:fsdd", "an4:an4"])
    cells = Cells(tmp_path / "cells.jsonl")
    results = Results(cells, tuple(place_of(c, f, 0, True, tmp_path) for c in corpora for f in c.folds), "test")
    for place in results.places[:2]:
        put(results, place, FP32, control_errors(place))
    run_main(monkeypatch, *options, "--seeds", 2)
    out = capsys.readouterr().out
    assert all(f" {sum(control_errors(place)) * 5 / UTTERANCES:.2f} " in out for place in results.places[:2])
    assert "ours (3/2)" in out and "2 cells, seed 0; commit made up" in out
    run_main(monkeypatch, *options, "--quick")  # one fold of a corpus that has several
    assert "Still to be measured: fsdd ann seed 0: all." in capsys.readouterr().out
    assert "fp32 without blank penalty: fsdd/ann, seed 0 40.00 % (1 substitutions" in out
    page = tmp_path / "page.md"
    page.write_text("<!-- tables: plan snapshot test -->\n<!-- end of tables: plan snapshot test -->\n")
    run_main(monkeypatch, *options[:2], *options[-2:], "--page", page)  # of all corpora of the plan
    assert "| fp32 | 32 |" in page.read_text() and "without blank penalty: fsdd/ann" in page.read_text()


def test_a_plan_names_folds_arms_and_headline_arms(plan_file: Path) -> None:
    corpora, plan = load_plan(plan_file, ["an4", "fsdd:digits"])
    assert [(c.name, c.source, c.fold_option, c.folds) for c in corpora] == [
        ("an4", None, None, ("",)),
        ("fsdd", Path("digits"), "test_speakers", ("ann", "bob")),
    ]
    assert (corpora[1].base_hours, corpora[1].arm_hours) == (0.5, 0.25)
    arms, headline = arms_of(plan)
    assert [arm.name for arm in arms] == ["fp32", "int8", "rounded-3", "ours-3", "rounded-2", "ours-2"]
    assert [arm.name for arm in headline] == ["fp32", "int8", "ours-3", "ours-2"]
    assert arms[3].compression == CompressionConfig(bits=3, scheme="s8bqat", options={"period": 0.1})
    with pytest.raises(ConfigError, match="--data kaldi:x: expected one of fsdd, an4"):
        load_plan(plan_file, ["kaldi:x"])


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("s8bqat_*.yaml")), ids=lambda path: path.stem)
def test_the_plans_that_ship_can_be_carried_out(path: Path) -> None:
    corpora, plan = load_plan(path, list(yaml.safe_load(path.read_text())["corpora"]))
    for corpus in corpora:
        assert load_recipe(corpus.recipe).fork_epoch is not None, corpus.name
    arms, _ = arms_of(plan)
    assert len({arm.name for arm in arms}) == len(arms)
    layer = torch.nn.LSTM(4, 4)
    for arm in arms:
        assert arm.compression is None or (scheme_for(arm.compression) and plan_for(arm.compression, layer)), arm.name
    assert set(plan["headline"]) <= set(plan["arms"]) and set(plan.get("real", [])) <= {c.name for c in corpora}


def test_the_plans_that_ship_agree_on_the_arms_that_they_share() -> None:
    """They share the working folder too, where an arm is known by its name."""
    known: dict[str, object] = {}
    for path in sorted(BENCHMARKS.glob("s8bqat_*.yaml")):
        for arm in arms_of(yaml.safe_load(path.read_text()))[0]:
            assert known.setdefault(arm.name, arm.compression) == arm.compression, arm.name


def test_finished_cells_are_left_out_and_the_control_comes_first(results: Results) -> None:
    place, cells = results.places[0], results.cells
    base, control = "digits/ann, seed 0: 32-bit training", "digits/ann, seed 0, snapshot: fp32"
    tasks = list(tasks_of(place, ARMS, cells, "test"))
    assert [task.name for task in tasks] == [
        base, control, "digits/ann, seed 0, snapshot: plain-3", "digits/ann, seed 0, snapshot: worse-3",
    ]  # fmt: skip
    assert [task.needs for task in tasks] == [set(), {base}, {base, control}, {base, control}]
    fill(results, [place], plain=1.0)
    tasks = list(tasks_of(place, ARMS, cells, "test"))  # its hypotheses are wanted again
    assert [task.name.rpartition(": ")[2] for task in tasks] == ["32-bit training", "fp32", "worse-3"]
    assert tasks[1].run is cells_of_arms.run_arm and tasks[1].arguments == (place, FP32, "test")
    assert [task.name.rpartition(": ")[2] for task in tasks_of(place, [WORSE], cells, "test")][1] == "fp32"
    assert list(tasks_of(place, [FP32, PLAIN], cells, "test")) == []
    for other in (replace(place, seed=1), replace(place, fold="bob"), replace(place, snapshot=False)):
        assert len(list(tasks_of(other, [FP32, PLAIN], cells, "test"))) == 3
    assert len(list(tasks_of(place, [FP32, PLAIN], cells, "dev"))) == 3


def test_a_cell_is_that_of_its_recipe_and_place(results: Results) -> None:
    place = results.places[0]
    before = cell_config(place, PLAIN, "test")
    changes = (replace(place, quick=True), replace(place, snapshot=False), replace(place, fold="bob"))
    others = [cell_config(changed, PLAIN, "test") for changed in changes]
    others += [cell_config(place, WORSE, "test"), cell_config(place, FP32, "test"), cell_config(place, PLAIN, "dev")]
    place.source.recipe.write_text("name: made-up\nphase: {epochs: 9}\ncompression: {fork_at: 0.25}\n")
    others.append(cell_config(place, PLAIN, "test"))
    assert len({finished.config_hash(config) for config in (before, *others)}) == len(others) + 1


def test_only_arms_of_the_converged_model_do_without_the_snapshot(results: Results) -> None:
    place = results.places[-1]
    assert recipe_of(place).fork_epoch == place.recipe().fork_epoch == 2 and place.recipe().seed == 1
    converged = replace(place, snapshot=False)
    assert recipe_of(converged).fork_epoch is None
    assert converged.recipe() == place.recipe()  # both starts share one 32-bit training


def test_a_result_is_kept_once(results: Results) -> None:
    config = cell_config(results.places[0], PLAIN, "test")
    figures = {"wer": 12.3, "loss_per_token": 0.25, "errors": [1], "base": "a"}
    assert record(results.cells, None) == "done"
    for _ in range(2):
        assert record(results.cells, (config, 0, figures, 61.0)) == "WER 12.30 %, 0.2500 nats a token, 61 s"
    assert len(results.cells.path.read_text().splitlines()) == 1
    assert Cells(results.cells.path).done(config, 0) is not None and Cells(results.cells.path).done(config, 1) is None
