"""benchmarks/attribution.py: what its systems are and count, on tiny recognizers, and tables from made-up counts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path += [str(BENCHMARKS), str(Path(__file__).parent / "training")]  # scripts and helpers, not packages
import attribution  # noqa: E402
import attribution_arms  # noqa: E402
import cells as finished  # noqa: E402
from attribution import Results, at_the_end, component_table, difference_table, error_table, part_table  # noqa: E402
from attribution_arms import (  # noqa: E402
    FLOAT_SYSTEM,
    FROZEN,
    NONE,
    OWN,
    PARTS,
    Plan,
    Scored,
    System,
    Trained,
    cell_config,
    compression_of,
    due_cells,
    expected_hours,
    load_plan,
    open_runs,
    run_cells,
    scored_runs,
)
from blank_model import blank_model  # noqa: E402
from cells import Cells  # noqa: E402

from sottovoce.errors import ConfigError  # noqa: E402
from sottovoce.evaluation.hypotheses import read_hypotheses  # noqa: E402
from sottovoce.evaluation.results import score_hypotheses  # noqa: E402
from sottovoce.evaluation.wer import total  # noqa: E402
from sottovoce.packed import PackedMatrix, load_model  # noqa: E402
from sottovoce.quant.loading import load  # noqa: E402
from sottovoce.schemes import pack_float  # noqa: E402
from sottovoce.training.arms import carry_out, new_module, save_module  # noqa: E402
from sottovoce.training.blank import best_blank_penalty, tune_blank_penalty  # noqa: E402
from sottovoce.training.config import RnntRecipe, load_recipe, parse_recipe  # noqa: E402
from sottovoce.training.run import Run  # noqa: E402
from sottovoce.training.scoring import transcribe_split  # noqa: E402
from sottovoce.training.task import shipped  # noqa: E402


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def plan() -> Plan:
    """The plan that ships, at two widths."""
    found = load_plan(BENCHMARKS / "attribution.yaml")
    return replace(found, widths={bits: found.widths[bits] for bits in (8, 2)})


def recipe_of(seed: int, **changes: Any) -> RnntRecipe:
    sizes = {"encoder_units": 12, "embedding": 6, "predictor_units": 8, "joiner_units": 10}
    tokenizer = {"kind": "char", "vocabulary": 12}
    found = parse_recipe({"name": "tones", "seed": seed, "tokenizer": tokenizer, "model": sizes, **changes}, "test")
    assert isinstance(found, RnntRecipe)
    return found


def run_folder(tones: Path, folder: Path, seed: int, **changes: Any) -> Path:
    """What training would leave: an untrained recognizer whose blanks compete with its tokens."""
    recipe, file = recipe_of(seed, **changes), blank_model(tones, folder / "model.safetensors")
    base = load_model(file)
    module = new_module(recipe, base)
    load(file, into=module.model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        module.model.joiner.output.bias[0] -= 1.0  # too many tokens: the best penalty is below zero
    save_module(module, folder)
    shipped(base).onto(pack_float(module.model), {}).save(file)
    settings = {"recipe": recipe.model_dump(mode="json"), "data": str(tones)}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def folders(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [run_folder(tones, tmp_path_factory.mktemp("seed") / "run", seed) for seed in (0, 1)]


@pytest.fixture
def runs(folders: list[Path], tones: Path, tmp_path: Path) -> list[Trained]:
    return open_runs(folders, tones, "test", tmp_path / "work", None)


def test_the_plan_that_ships_is_what_was_announced() -> None:
    plan = load_plan(BENCHMARKS / "attribution.yaml")
    names = [system.name for system in plan.systems]
    parts = ["encoder", "predictor", "joiner", "all"]
    for bits in (8, 4, 3, 2):
        assert {*(f"{part}, {bits} bits" for part in parts), f"all, {bits} bits, float activations"} <= set(names)
    assert names[0] == "float32" and len(names) == 21
    assert min(plan.penalties) == -3 and max(plan.penalties) == 5 and 0 in plan.penalties


def test_a_component_alone_is_packed_and_the_rest_is_what_it_was(runs: list[Trained], plan: Plan) -> None:
    base = load_model(runs[0].run.model)
    everything: set[str] = set()
    *alone, whole, _ = plan.at(2)
    for system in (*alone, whole):
        packed = load_model(carry_out(runs[0].job(system, plan)))
        matrices = {name for name, tensor in packed.tensors.items() if isinstance(tensor, PackedMatrix)}
        if system is whole:
            assert matrices == everything and packed.average_bits == 2
            continue
        assert matrices and {name.split(".")[0] for name in matrices} == {system.component}
        everything |= matrices
        for name in base.tensors.keys() - matrices:
            np.testing.assert_array_equal(packed.decode(name), base.decode(name))
    assert {"predictor.embedding.weight", "encoder.projection.weight", "joiner.output.weight"} <= everything


@pytest.mark.parametrize(
    "components",
    [
        {"encoder": ["encoder.*"], "joiner": ["joiner.*"]},
        {"encoder": ["encoder.*", "predictor.*"], "predictor": ["predictor.*"], "joiner": ["joiner.*"]},
    ],
)
def test_each_weight_is_of_one_component(runs: list[Trained], plan: Plan, components: Mapping[str, list[str]]) -> None:
    other = replace(plan, components=components)
    with pytest.raises(ConfigError, match="in one component"):
        compression_of(other.at(2)[0], other, runs[0].run.model)


def test_counts_are_those_of_scoring_each_file_with_each_penalty(
    runs: list[Trained], plan: Plan, tmp_path: Path
) -> None:
    trained, cells = runs[0], Cells(tmp_path / "cells.jsonl")
    list(run_cells(cells, trained, plan))
    frozen = best_blank_penalty(tune_blank_penalty(trained.run.model, trained.data, "dev", plan.penalties))
    assert frozen != 0  # else this proves nothing
    for system in plan.systems:
        row = cells.done(cell_config(trained.scored, system, plan), trained.seed)
        assert row is not None
        figures = row["figures"]
        model = trained.run.model if system is FLOAT_SYSTEM else Run(trained.folder / system.folder).model
        tuned = tune_blank_penalty(model, trained.data, "dev", plan.penalties, arithmetic=system.arithmetic)
        assert figures["penalties"] == {NONE: 0.0, FROZEN: frozen, OWN: best_blank_penalty(tuned)}
        assert figures["dev"] == [[p, c.substitutions, c.insertions, c.deletions] for p, c in tuned]
        assert {f"{p:g}" for p in figures["penalties"].values()} == figures["counts"].keys()
        for text, counts in figures["counts"].items():
            options: dict[str, Any] = {"arithmetic": system.arithmetic, "blank_penalty": float(text)}
            found = transcribe_split(model, trained.data, "test", **options)
            scored = score_hypotheses(found)
            assert counts == {part: [getattr(s.errors, part) for s in scored] for part in PARTS}
            kept = trained.folder / system.folder / f"test-{system.arithmetic}-blank{text}.jsonl"
            assert read_hypotheses(kept) == found
    rows = [json.loads(line)["figures"] for line in cells.path.read_text().splitlines()]
    assert len({json.dumps(row["dev"]) for row in rows}) > 3 and {row["penalties"][OWN] for row in rows} > {frozen}


def test_an_interrupted_run_goes_on_and_a_finished_one_is_kept(
    runs: list[Trained], plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, trained = tmp_path / "cells.jsonl", runs[0]
    list(run_cells(Cells(path), trained, plan))
    whole = path.read_text().splitlines()
    assert due_cells(Cells(path), trained, plan) == [] and expected_hours(Cells(path), trained, plan) == 0
    path.write_text("\n".join(whole[:4]) + "\n")  # float32 among them, whose penalty the others take
    assert due_cells(Cells(path), trained, plan) == plan.systems[4:]
    assert expected_hours(Cells(path), trained, plan) > 0
    list(run_cells(Cells(path), trained, plan))
    again = [json.loads(line)["figures"] for line in path.read_text().splitlines()]
    assert again == [json.loads(line)["figures"] for line in whole]
    monkeypatch.setattr(attribution_arms, "read_speech", lambda trained: pytest.fail("nothing is due"))
    assert list(run_cells(Cells(path), trained, plan)) == []


def test_dev_is_heard_once_where_it_is_reported(folders: list[Path], tones: Path, plan: Plan, tmp_path: Path) -> None:
    trained = open_runs(folders[:1], tones, "test", tmp_path / "work", 4)[0]  # a quick check never hears test
    cells = Cells(tmp_path / "cells.jsonl")
    list(run_cells(cells, trained, replace(plan, widths={})))
    row = cells.done(cell_config(trained.scored, FLOAT_SYSTEM, plan), 0)
    assert trained.split == "dev" and row is not None and len(row["figures"]["words_each"]) == 4
    best = min(sum(counts) for _, *counts in row["figures"]["dev"])
    assert sum(map(sum, row["figures"]["counts"][f"{row['figures']['penalties'][OWN]:g}"].values())) == best


def test_runs_are_seeds_of_one_recipe(folders: list[Path], tones: Path, plan: Plan, tmp_path: Path) -> None:
    def opened(*more: Path) -> list[Trained]:
        return open_runs([folders[0], *more], tones, "test", tmp_path / "work", None)

    assert [trained.seed for trained in opened(folders[1])] == [0, 1]
    decoded = run_folder(tones, tmp_path / "decoded", 2, decoding={"blank_penalty": 1.5})
    assert len(opened(decoded)) == 2  # no weight depends on that
    with pytest.raises(ConfigError, match="seed 0 is given twice"):
        opened(folders[0])
    with pytest.raises(ConfigError, match="another recipe"):
        opened(run_folder(tones, tmp_path / "other", 3, phase={"epochs": 9}))
    carry_out(opened()[0].job(plan.at(2)[0], plan))
    compressed = opened()[0].folder / "encoder-2"
    with pytest.raises(ConfigError, match="found a compressed one"):
        open_runs([compressed], tones, "test", tmp_path / "work", None)
    lm = tmp_path / "lm"
    lm.mkdir()
    settings = {"recipe": load_recipe("swda-lstm").model_dump(mode="json"), "data": "x"}
    (lm / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match="expected a recognizer's run"):
        opened(lm)


def test_the_command_measures_and_prints_and_prints_again(
    folders: list[Path],
    tones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def called(*more: str) -> str:
        arguments = [*map(str, folders), "--data", str(tones), "--work", str(tmp_path / "work"), *more]
        monkeypatch.setattr(sys, "argv", ["attribution.py", *arguments, "--results", str(tmp_path / "cells.jsonl")])
        attribution.main()
        return capsys.readouterr().out

    assert called("--table").startswith("Still to be measured: float32, and all that is compared with it.\n")
    shipped_plan = yaml.safe_load((BENCHMARKS / "attribution.yaml").read_text())
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**shipped_plan, "widths": {2: "lloyd-max"}}))
    measured = called("--plan", str(tmp_path / "plan.yaml"))
    assert measured.startswith("estimated: 0.00 CPU hours")
    assert "tones, test, 2 seeds: WER %" in measured and "seeds 0, 1; commit" in measured
    page = tmp_path / "page.md"
    page.write_text("<!-- tables: attribution tones test -->\n<!-- end of tables: attribution tones test -->\n")
    called("--plan", str(tmp_path / "plan.yaml"), "--table", "--page", str(page))
    text = page.read_text()
    assert "| all 2 | 2 |" in text and "| seed 0 | 2 |" not in text  # of several seeds, only what they are together
    assert "tones, test, 2 seeds: all errors, relative to float32\n\n|" in text
    printed = called("--plan", str(tmp_path / "plan.yaml"), "--table")
    assert printed == measured[measured.index(printed.splitlines()[0]) :]
    assert "Still to be measured, of some seed: encoder, 8 bits" in called("--table")
    quick = called("--quick")
    assert "QUICK CHECK" in quick and "tones, dev, 1 seed" in quick


def test_tables_need_only_cells(
    folders: list[Path], tones: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    kept = tmp_path / "cells.jsonl"

    def called(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["attribution.py", "--table", "--results", str(kept), *more])
        attribution.main()
        return capsys.readouterr().out

    with pytest.raises(ConfigError, match="--recipe: expected a name, found cells of no recipe"):
        called()
    assert called("--recipe", "tones").startswith("Still to be measured: float32")
    cells = Cells(kept)
    for trained in open_runs(folders, tones, "test", tmp_path / "work", None):
        list(run_cells(cells, trained, replace(plan, widths={})))
    with_runs = called(*map(str, folders), "--data", str(tones))
    monkeypatch.setattr(attribution, "open_runs", None)
    assert called() == called("--recipe", "tones") == with_runs and "2 cells, seeds 0, 1;" in with_runs
    other = Scored("other", 0, "test", {"model": "", "module": "", "manifests": {}})
    cells.record(cell_config(other, FLOAT_SYSTEM, plan), 0, {}, 1.0)
    with pytest.raises(ConfigError, match="--recipe: expected a name, found cells of other, tones"):
        called()
    for wrong in (["--quick"], ["--data", str(tones)], [str(folders[0])], [*map(str, folders), "--recipe", "tones"]):
        with pytest.raises(SystemExit, match="2"):
            called(*wrong)


def test_runs_of_cells_are_the_last_of_each_seed_on_the_last_data(plan: Plan, tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    other = replace(plan, penalties=(0.0,))

    def measured(seed: int, model: str, data: str, plan: Plan = plan, **more: Any) -> Scored:
        content = {"model": model, "module": model, "manifests": {"dev": data, "test": data}}
        scored = replace(Scored("tones", seed, "test", content), **more)
        for system in plan.systems[:2]:
            cells.record(cell_config(scored, system, plan), seed, {}, 1.0)
        return scored

    measured(2, "old", "old data")
    measured(1, "old", "data")
    zero = measured(0, "a", "data")
    one = measured(1, "b", "data")
    quick = measured(3, "c", "data", quick=60, split="dev")
    dev = measured(0, "a", "data", split="dev")
    fewer = measured(1, "d", "data", plan=other)
    assert scored_runs(Cells(cells.path), "test", plan) == {"tones": (zero, one)}
    assert scored_runs(Cells(cells.path), "dev", plan) == {"tones": (dev,)} and quick.split == "dev"
    assert scored_runs(Cells(cells.path), "test", other) == {"tones": (fewer,)}
    assert scored_runs(Cells(tmp_path / "none"), "test", plan) == {}


# Made-up counts: twelve speakers of ten utterances of ten words, two seeds.

SPEAKERS, UTTERANCES, WORDS = 12, 10, 10
Counts = tuple[int, int, int]  # substitutions, insertions, deletions of each utterance


def put(results: Results, scored: Scored, system: System, counts: Mapping[str, Counts], own: float = 1.0) -> None:
    """A finished cell: counts of each mode; none, frozen (0.5 nats) and own need not differ."""
    penalties = {NONE: 0.0, FROZEN: 0.5, OWN: own}
    n = SPEAKERS * UTTERANCES
    by_penalty = {
        f"{penalties[mode]:g}": dict(zip(PARTS, ([c] * n for c in counts[mode]), strict=True)) for mode in counts
    }
    figures: dict[str, Any] = {"penalties": penalties, "counts": by_penalty}
    if system is FLOAT_SYSTEM:
        clusters = [i // UTTERANCES for i in range(n)]
        figures |= {"words_each": [WORDS] * n, "clusters": clusters}
    results.cells.record(cell_config(scored, system, results.plan), scored.seed, figures, 1.0)


def same(*counts: int) -> dict[str, Counts]:
    """In every mode."""
    return dict.fromkeys((NONE, FROZEN, OWN), (counts[0], counts[1], counts[2]))


@pytest.fixture
def results(runs: list[Trained], plan: Plan, tmp_path: Path) -> Results:
    found = Results(
        Cells(tmp_path / "made-up.jsonl"), tuple(one.scored for one in runs), replace(plan, widths={2: "lloyd-max"})
    )
    for trained in found.runs:
        put(found, trained, FLOAT_SYSTEM, same(2, 0, 0), own=0.5)
    return found


def test_errors_are_per_hundred_words_in_their_parts(results: Results) -> None:
    encoder = results.plan.at(2)[0]
    put(results, results.runs[0], encoder, {NONE: (2, 0, 3), FROZEN: (2, 1, 1), OWN: (2, 1, 0)})
    put(results, results.runs[1], encoder, {NONE: (2, 0, 1), FROZEN: (2, 1, 1), OWN: (2, 1, 0)}, own=5.0)
    control, line = error_table(results)
    assert control == ["float32", *["20.00 (20.00/0.00/0.00)"] * 3, "0.5 0.5"]
    assert line[1:] == ["40.00 (20.00/0.00/20.00)", "40.00 (20.00/10.00/10.00)", "30.00 (20.00/10.00/0.00)", "1 5"]
    (parts,) = part_table(results)
    assert parts[1] == "+20.00 [+10.00, +30.00]"  # seeds are drawn, too
    assert parts[2] == parts[4] == "+10.00 [+10.00, +10.00]"
    assert parts[3] == parts[5] == "+0.00 [+0.00, +0.00]"
    (differences,) = difference_table(results)
    assert differences[2] == "+100.00 %, upper +100.00 %, margin 5 %: inferior"
    assert differences[4] == "50 % [50, 50]"  # of two errors an utterance too many, one is regained
    assert at_the_end(results) == ["seed 1, encoder, 2 bits (5)"]


def test_nothing_is_regained_where_nothing_was_surely_lost(results: Results) -> None:
    encoder, predictor, joiner, *_ = results.plan.at(2)
    for trained in results.runs:
        put(results, trained, encoder, same(1, 0, 0))  # better than float32
        put(results, trained, predictor, {**same(2, 0, 2), OWN: (2, 0, 0)})
    put(results, results.runs[0], joiner, {**same(1, 0, 0), OWN: (0, 0, 0)})
    put(results, results.runs[1], joiner, same(4, 0, 0))  # one seed loses, the other gains
    better, regained, unsure = difference_table(results)
    assert better[4] == "-" and "non-inferior" in better[2]
    assert regained[4] == "100 % [100, 100]" and regained[3].startswith("+0.00 %")
    assert unsure[4] == "-" and "not resolved" in unsure[2]


def test_an_interval_is_as_wide_as_speakers_differ(results: Results) -> None:
    counts = np.repeat(np.random.default_rng(0).integers(0, 3, SPEAKERS), UTTERANCES)
    one = replace(results, runs=results.runs[:1])
    rate = one.per_word(np.array([counts], float))
    assert rate.estimate == pytest.approx(counts.sum() / (WORDS * len(counts)))
    speakers = counts[::UTTERANCES] / WORDS
    assert rate.standard_error == pytest.approx(np.std(speakers) / np.sqrt(SPEAKERS), rel=0.05)


def test_components_are_shares_of_their_sum_beside_the_whole(results: Results) -> None:
    encoder, predictor, joiner, whole, floats = results.plan.at(2)
    made = {encoder: (2, 0, 3), predictor: (2, 1, 0), joiner: (2, 0, 0), whole: (2, 0, 2), floats: (2, 0, 1)}
    for trained in results.runs:
        for system, counts in made.items():
            put(results, trained, system, same(*counts))
    lines = component_table(results)
    assert [line[:2] for line in lines] == [["seed 0", "2"], ["seed 1", "2"], ["all 2", "2"]]
    assert lines[2][2:] == [
        "+30.00 (75 %)", "+10.00 (25 %)", "+0.00 (0 %)", "+40.00 [+40.00, +40.00]", "+20.00 [+20.00, +20.00]",
        "-20.00 [-20.00, -20.00]: less than the sum", "+10.00 [+10.00, +10.00]", "+10.00 [+10.00, +10.00]",
    ]  # fmt: skip
    assert component_table(results, pooled=True) == lines[2:]
    single = replace(results, runs=results.runs[:1])
    assert component_table(single, pooled=True) == component_table(single) == lines[:1]
    assert component_table(replace(results, cells=Cells(results.cells.path.with_name("other.jsonl")))) == []


def test_parts_that_make_up_the_whole_are_not_told_from_it(results: Results) -> None:
    encoder, predictor, joiner, whole, floats = results.plan.at(2)
    made = {encoder: (1, 0, 0), predictor: (2, 0, 0), joiner: (2, 0, 0), whole: (1, 0, 0), floats: (1, 0, 0)}
    for system, counts in made.items():
        put(results, results.runs[0], system, same(*counts))
    ((_, _, first, *_, total_, all_, less, _, activations),) = component_table(results)
    assert first == "-10.00" and total_ == all_  # no share of what is no loss
    assert less.endswith("not told from the sum") and activations == "+0.00 [+0.00, +0.00]"


def test_totals_agree_with_scoring(runs: list[Trained], plan: Plan, tmp_path: Path) -> None:
    results = Results(Cells(tmp_path / "cells.jsonl"), (runs[0].scored,), replace(plan, widths={}))
    list(run_cells(results.cells, runs[0], results.plan))
    found = total(score_hypotheses(transcribe_split(runs[0].run.model, runs[0].data, "test")))
    assert results.percent(results.counts(FLOAT_SYSTEM, NONE)) == pytest.approx(found.wer)
