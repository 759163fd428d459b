"""benchmarks/mixed_precision_rnnt.py: its plan, what is due, tables of made-up cells, and budgets of a tiny net."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from sottovoce.errors import ConfigError
from sottovoce.packed import load_model
from sottovoce.quant import BandSpec, BitPlan
from sottovoce.schemes import S8BQAT, compress
from sottovoce.search import clusters
from sottovoce.search.clustering import plan_of
from sottovoce.search.measuring import sized
from sottovoce.training.arms import plan_for, scheme_for
from sottovoce.training.comparison import CONTROL

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package
import arms  # noqa: E402
import cells as finished  # noqa: E402
import mixed_precision_rnnt  # noqa: E402
import mixed_rnnt_arms  # noqa: E402
import searches  # noqa: E402
from arms import Corpus, cell_config, place_of, run_arm  # noqa: E402
from cells import Cells, config_hash  # noqa: E402
from mixed_precision_rnnt import bits_by_cluster, by_matrix, hours_of, order, results_of, spread, table  # noqa: E402
from mixed_rnnt_arms import FP32, Plan, Row, Search, choose, load_plan, run_row, run_search, tasks_of  # noqa: E402
from places import Place  # noqa: E402
from s8bqat_rnnt import Results  # noqa: E402

UTTERANCES = 12
KL = Search("KL", {"metric": "kl", "bits": [1, 2, 3, 4, 8], "by": "gate", "utterances": 2})
NAS = Search("NAS", {**KL.settings, "metric": "nas", "settings": {"steps": 2}})
ROUNDED = Row("ptq", "rounded", {"scheme": "ptq", "kind": "lloyd-max"}, 3)
TRAINED = Row("S8BQAT", "trained", {"scheme": "s8bqat", "kind": "lloyd-max"}, 3)
ROWS = (ROUNDED, TRAINED, *(replace(row, search=search) for row in (ROUNDED, TRAINED) for search in (KL, NAS)))


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: made-up\nphase: {epochs: 8}\ncompression: {fork_at: 0.25}\n")
    return Plan((Corpus("letters", None, recipe), Corpus("digits", None, recipe)), ROWS, 0.5, 0.25)


@pytest.fixture
def places(plan: Plan, tmp_path: Path) -> list[Place[Corpus]]:
    return [place_of(corpus, "", seed, True, tmp_path / "work") for seed in (0, 1) for corpus in plan.corpora]


@pytest.fixture
def results(plan: Plan, places: list[Place[Corpus]], tmp_path: Path) -> Results:
    return results_of(Cells(tmp_path / "cells.jsonl"), places, plan, "test")


def put(results: Results, place: Place[Corpus], row: Row | None, errors: Sequence[int], **more: Any) -> None:
    """A finished cell, twenty words an utterance, every utterance by a speaker of its own."""
    figures: dict[str, Any] = {"errors": list(errors), "model_bytes": 1000, "average_bits": 3.0, "mapsswe_p": 0.5}
    figures |= {"speakers": [f"s{i}" for i in range(UTTERANCES)], "words_each": [20] * UTTERANCES}
    if row is not None and row.search is not None:
        bits = {"a.weight[i]": 2, "a.weight[f]": 4, "b.weight": 3}
        figures |= {"mapsswe_p_uniform": 0.01, "cluster_bits": bits, "widths": 5, "search_seconds": 7.0}
    config = cell_config(place, FP32, "test") if row is None else row.config(place, "test")
    results.cells.record(config, place.seed, {**figures, **more}, 1.0)


def fill(results: Results, **errors: int) -> None:
    """Each utterance has so many errors in float32 (``fp32``) and in rows whose names begin so."""
    by_name = {row.name.replace(", ", "_").rpartition("_")[0]: row for row in ROWS}
    for place in results.places:
        for name, count in errors.items():
            put(results, place, by_name.get(name), [count] * UTTERANCES)


def test_the_plan_that_ships_is_that_of_the_other_benchmark() -> None:
    plan = load_plan(BENCHMARKS / "mixed_precision_rnnt.yaml", ["an4:an4", "synth"])
    other = yaml.safe_load((BENCHMARKS / "s8bqat_rnnt.yaml").read_text())
    assert [corpus.name for corpus in plan.corpora] == ["an4", "synth"]
    for bits in (3, 2):
        rows = [row for row in plan.rows if row.bits == bits]
        assert [(row.way, row.search and row.search.name) for row in rows] == [
            ("ptq", None), ("S8BQAT", None), ("straight-through", None),
            ("ptq", "KL"), ("ptq", "Hessian"), ("ptq", "NAS"),
            ("S8BQAT", "KL"), ("S8BQAT", "Hessian"), ("S8BQAT", "NAS"),
        ]  # fmt: skip
        for row in rows[:3]:  # whose finished arms are shared: names and settings must be theirs
            assert row.arm() == arms.arm_of(row.way, other["arms"][row.way], bits)
    names = [row.arm().name for row in plan.rows]
    assert len(set(names)) == len(names)
    assert all(row.search is None or row.search.settings["kind"] == row.section["kind"] for row in plan.rows)
    assert {search.name for search in plan.searches} == {"KL", "Hessian", "NAS"}


def test_a_quick_plan_is_smaller_and_another_one() -> None:
    path = BENCHMARKS / "mixed_precision_rnnt.yaml"
    whole, quick = load_plan(path, ["an4"]), load_plan(path, ["an4"], quick=True)
    assert {row.bits for row in quick.rows} == {3} and len(quick.rows) < len(whole.rows)
    for search in quick.searches:
        assert search.settings["utterances"] < 32 and search.settings["bits"] == [2, 3, 4]
        assert search.key(3) not in {other.key(3) for other in whole.searches}
    assert next(s for s in quick.searches if s.name == "NAS").settings["settings"]["steps"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"ways": {"unheard": "of"}}, "'unheard'"), ({"search": {"kind": "uniform"}}, "levels of 'ptq'")],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found = yaml.safe_load((BENCHMARKS / "mixed_precision_rnnt.yaml").read_text())
    (tmp_path / "s8bqat_rnnt.yaml").write_text((BENCHMARKS / "s8bqat_rnnt.yaml").read_text())
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**found, **changes}, sort_keys=False))
    with pytest.raises(ConfigError, match=message):
        load_plan(tmp_path / "plan.yaml", ["an4"])


def test_a_cell_is_named_by_its_search_and_a_uniform_one_as_in_the_other_benchmark(places: list[Place[Corpus]]) -> None:
    place = places[0]
    assert ROUNDED.config(place, "test") == cell_config(place, ROUNDED.arm(), "test")
    mixed = replace(ROUNDED, search=KL)
    other = replace(mixed, search=Search("KL", {**KL.settings, "utterances": 3}))
    configs = [row.config(place, "test") for row in (ROUNDED, mixed, other, replace(mixed, bits=2))]
    assert len({config_hash(config) for config in configs}) == 4
    assert mixed.arm().name != other.arm().name  # their folders too
    assert KL.key(3) == KL.key(2) and NAS.key(3) != NAS.key(2)  # one table for all budgets, or one each


def test_what_is_due_comes_after_what_it_needs(
    plan: Plan, places: list[Place[Corpus]], results: Results, tmp_path: Path
) -> None:
    place = places[0]
    tasks = list(tasks_of(place, plan, results.cells, "test"))
    at = {task.name: i for i, task in enumerate(tasks)}
    assert len(at) == len(tasks) == 2 + len(ROWS) + 2  # base, control, rows, a task a search
    for task in tasks:
        assert all(at[need] < at[task.name] for need in task.needs)
    search = next(task for task in tasks if task.run is run_search)
    assert search.needs == {"letters, seed 0: 32-bit training", "letters, seed 0: rounded, uniform, 3"}
    trained = next(task for task in tasks if task.name.endswith("trained, KL, 3"))
    assert trained.needs == {search.name, "letters, seed 0: trained, uniform, 3"}
    assert sum(hours_of(task, plan) for task in tasks) == pytest.approx(
        0.1 + 0.25 * (1 + len(ROWS)) + 0.1 * 3 + 0.5 * 2  # base, scores, three trained rows, two searches
    )
    put(results, place, None, [1] * UTTERANCES)
    for row in ROWS:
        if row.name != "trained, NAS, 3":
            put(results, place, row, [1] * UTTERANCES)
    tasks = list(tasks_of(place, plan, results.cells, "test"))
    names = [task.name.partition(": ")[2] for task in tasks]
    assert names == [
        "32-bit training", CONTROL, "rounded, uniform, 3", "trained, uniform, 3", "NAS for 3 bits", "trained, NAS, 3",
    ]  # fmt: skip
    assert tasks[1].run is run_arm and tasks[1].arguments == (place, FP32, "test")
    put(results, place, ROWS[-1], [1] * UTTERANCES)
    assert list(tasks_of(place, plan, results.cells, "test")) == []
    assert list(tasks_of(place, plan, results.cells, "dev")) != []


def test_rows_stand_beside_float32_and_the_uniform_row_of_their_way(results: Results, plan: Plan) -> None:
    fill(results, fp32=10, rounded_uniform=12, rounded_KL=9, trained_uniform=10, trained_KL=10)
    lines = {line[0]: line for line in table(results, plan)}
    assert list(lines) == ["fp32", "rounded, uniform, 3", "trained, uniform, 3", "rounded, KL, 3", "trained, KL, 3"]
    uniform, mixed, trained = (lines[name] for name in ("rounded, uniform, 3", "rounded, KL, 3", "trained, KL, 3"))
    assert mixed[1:6] == ["3.00 3.00", "1,000", "1,000", "45.00 45.00", "45.00 45.00"]
    assert uniform[6] == "+20.0 % [+20.0, +20.0], upper +20.0 %, margin 3 %: inferior (2 seeds)" and uniform[8] == ""
    assert mixed[6].startswith("-10.0 %") and "non-inferior (2 seeds)" in mixed[6]
    assert mixed[8] == "-25.0 % [-25.0, -25.0], upper -25.0 %: fewer (2 seeds)"
    assert trained[8] == "+0.0 % [+0.0, +0.0], upper +0.0 %: not resolved (2 seeds)"
    # Two corpora, and Holm's correction over the two mixed rows.
    assert mixed[9] == "0.040" and uniform[9] == "" and lines["fp32"][6:] == [""] * 4


def test_a_difference_from_uniform_wants_both_rows(results: Results, plan: Plan) -> None:
    fill(results, fp32=10, rounded_KL=12)
    assert [line[8] for line in table(results, plan)] == ["", ""]
    for place in results.places[:2]:  # seed 0 alone
        put(results, place, ROUNDED, [10] * UTTERANCES)
    mixed = table(results, plan)[-1]
    assert mixed[8].endswith("more (1 seed)") and mixed[6].endswith("inferior (2 seeds)")


def test_an_interval_is_two_sided_and_its_upper_end_one_sided(results: Results, plan: Plan) -> None:
    for place in results.places:
        put(results, place, None, [10] * UTTERANCES)
        put(results, place, ROUNDED, [8, 14] * (UTTERANCES // 2))
    found = results.difference(plan.corpora, ROUNDED.arm())
    assert found is not None and found[0].estimate == pytest.approx(0.1)
    low, high, upper = found[0].lower(0.975), found[0].upper(0.975), found[0].upper()
    assert low < 0.1 < upper < high and f"[{100 * low:+.1f}, {100 * high:+.1f}]" in spread(found[0])
    assert order(found[0]) == ("more" if low > 0 else "not resolved")


def test_bits_are_told_by_matrix_and_once_a_plan(results: Results, plan: Plan) -> None:
    assert by_matrix({"a[f]": 1, "a[g]": 2, "a[i]": 3, "a[o]": 4, "b": 5}) == {"a": "3 1 2 4", "b": "5"}
    fill(results, fp32=10, rounded_KL=10, trained_KL=10)
    columns, lines = bits_by_cluster(results, plan, plan.corpora[0])
    assert columns[1:] == ["KL, 3"] and lines == [["a.weight", "2 4"], ["b.weight", "3"]]
    assert mixed_precision_rnnt.searches(results, plan) == [
        ["KL", "letters", "3", "5", "7 7"], ["KL", "digits", "3", "5", "7 7"],
    ]  # fmt: skip


def test_the_script_prints_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--table", "--results", tmp_path / "cells.jsonl", "--work", tmp_path]
    monkeypatch.setattr(sys, "argv", ["mixed_precision_rnnt.py", *map(str, options)])
    mixed_precision_rnnt.main()
    out = capsys.readouterr().out
    assert out.startswith("Still to be measured: 114 cells, fp32 (an4, seed 0) first.\n") and "synth" not in out
    cells = Cells(tmp_path / "cells.jsonl")
    corpora = load_plan(BENCHMARKS / "mixed_precision_rnnt.yaml", None).corpora
    place = place_of(corpora[0], "", 0, True, tmp_path)
    put(Results(cells, (place,), "test"), place, None, [10] * UTTERANCES)
    page = tmp_path / "page.md"
    region = "mixed_precision_rnnt test"
    page.write_text(f"<!-- tables: {region} -->\n<!-- end of tables: {region} -->\n")
    options = [*options, "--data", "an4", "--seeds", "1", "--page", page]
    monkeypatch.setattr(sys, "argv", ["mixed_precision_rnnt.py", *map(str, options)])
    mixed_precision_rnnt.main()
    text = page.read_text()
    assert "| fp32 | 32 | 1,000 | 50.00 |" in text and "measured: 18 cells, rounded, uniform, 3 (an4" in text
    assert "benchmarks/mixed_precision_rnnt.py: 1 cell, seed 0; commit made up" in text


class Tiny(torch.nn.Module):
    """A network with gates, an embedding and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 8)
        self.lstm = torch.nn.LSTM(8, 16, batch_first=True)
        self.output = torch.nn.Linear(16, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.output(self.lstm(self.embedding(tokens))[0])
        return found


def test_the_preset_trains_a_plan_of_all_widths_into_a_file_of_the_bytes_that_were_counted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tiny()
    found, levels = clusters(model, "gate"), BandSpec(8, "lloyd-max", "tensor")
    bits = [(1, 2, 3, 4, 5, 6, 8)[i % 7] for i in range(len(found))]
    table = sized(model, found, (1, 2, 3, 4, 5, 6, 8), levels)
    priced = table.price([table.bits.index(b) for b in bits])
    row = replace(TRAINED, search=KL)
    section = row.arm(plan_of(found, bits, levels)).compression
    assert section is not None and section.bits == 3  # the margin is that of the width
    scheme, tokens = scheme_for(section), torch.randint(0, 10, (4, 12))
    assert scheme == S8BQAT()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    session = compress(model, plan_for(section, model), scheme, optimizer=optimizer, total_steps=20)
    first = None
    for _ in range(20):
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        first = float(loss.detach()) if first is None else first
        loss.backward()
        optimizer.step()
    last = float(loss.detach())
    packed = session.finish()
    bands = [(n, b.start, b.bits) for n, matrix in packed.tensors.items() for b in getattr(matrix, "bands", ())]
    expected = [(c.parts[0].weight, c.parts[0].start, b) for c, b in zip(found, bits, strict=True)]
    assert sorted(bands) == sorted(expected) and first is not None and last < first
    assert packed.average_bits == pytest.approx(priced.average_bits)
    packed.save(tmp_path / "mixed.safetensors")
    assert 0 <= priced.model_bytes - (tmp_path / "mixed.safetensors").stat().st_size < 64  # digits of the header


@pytest.fixture
def tiny_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, places: list[Place[Corpus]]) -> Place[Corpus]:
    """A place whose converged model is a tiny network, and whose uniform file has been made."""
    torch.manual_seed(0)
    model, tokens = Tiny(), [torch.randint(0, 10, (4, 12)) for _ in range(2)]

    def loss(batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    module = SimpleNamespace(
        model=model, logits=lambda b: model(b).flatten(0, 1), loss=loss, terms=len, position_weights=None,
        row_borders=dict,
    )  # fmt: skip
    inputs = SimpleNamespace(module=module, batches=tokens, fields={}, tokenizer_bytes=None)
    trained = SimpleNamespace(searchable=module, fields={}, tokenizer_bytes=None)
    uniform = BitPlan.uniform(model, 4, kind="lloyd-max")
    compress(model, uniform, scheme_for(ROUNDED.arm().compression)).finish().save(tmp_path / "uniform.safetensors")  # type: ignore[arg-type]
    monkeypatch.setattr(mixed_rnnt_arms, "search_inputs", lambda *_, **__: inputs)
    monkeypatch.setattr(mixed_rnnt_arms, "open_trained", lambda *_: trained)
    monkeypatch.setattr(mixed_rnnt_arms, "model_of", lambda place, arm: tmp_path / "uniform.safetensors")
    return places[0]


@pytest.mark.parametrize("search", [KL, NAS], ids=lambda search: search.name)
def test_a_search_fills_the_bytes_of_the_uniform_file_and_is_kept(
    tiny_run: Place[Corpus], tmp_path: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(ROUNDED, search=search)
    plan, figures = choose(tiny_run, row, ROUNDED)
    assert set(figures["cluster_bits"].values()) <= {1, 2, 3, 4, 8} and figures["widths"] == 5
    model = mixed_rnnt_arms.open_trained(tiny_run.base.folder).searchable.model
    path = tmp_path / "mixed.safetensors"
    compress(model, plan, scheme_for(ROUNDED.arm().compression)).finish().save(path)  # type: ignore[arg-type]
    budget = (tmp_path / "uniform.safetensors").stat().st_size
    assert 0.8 * budget < path.stat().st_size <= budget
    assert load_model(path).average_bits == pytest.approx(plan.average_bits(model))
    monkeypatch.setattr(searches, "sensitivity", None)
    monkeypatch.setattr(searches, "search_architecture", None)
    again, told = choose(tiny_run, row, ROUNDED)
    assert again == plan and told == figures


def test_an_interrupted_search_goes_on_and_its_seconds_add_up(
    tiny_run: Place[Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    row, real = replace(ROUNDED, search=KL), searches.sensitivity

    def stopped(*arguments: Any, **options: Any) -> Any:
        def progress(done: int, total: int) -> None:
            if done == 5:
                raise KeyboardInterrupt

        return real(*arguments, **options, progress=progress)

    clock = tiny_run.folder / "searches" / f"{KL.key(3)}.seconds"
    monkeypatch.setattr(searches, "sensitivity", stopped)
    with pytest.raises(KeyboardInterrupt):
        choose(tiny_run, row, ROUNDED)
    assert clock.exists() and not clock.with_suffix(".json").exists()
    clock.write_text("1000.0")
    monkeypatch.setattr(searches, "sensitivity", real)
    assert choose(tiny_run, row, ROUNDED)[1]["search_seconds"] >= 1000.0


def test_a_mixed_file_of_more_bytes_is_no_figure(tiny_run: Place[Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    size = mixed_rnnt_arms.model_of(tiny_run, ROUNDED.arm()).stat().st_size
    monkeypatch.setattr(mixed_rnnt_arms, "hypotheses_of", lambda *_: [])
    monkeypatch.setattr(mixed_rnnt_arms, "p_against", lambda *_: 0.5)
    row = replace(ROUNDED, search=KL)
    for more in (0, 1):
        figures = {"model_bytes": size + more}
        monkeypatch.setattr(mixed_rnnt_arms, "run_arm", lambda *_, f=figures: ({}, 0, dict(f), 1.0))
        if more:
            with pytest.raises(Exception, match="expected at most"):
                run_row(tiny_run, row, ROUNDED, "test")
        else:
            config, seed, found, _ = run_row(tiny_run, row, ROUNDED, "test")
            assert (config, seed) == (row.config(tiny_run, "test"), 0) and found["mapsswe_p_uniform"] == 0.5
