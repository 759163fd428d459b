"""benchmarks/equal_bytes.py from made-up cells: sizes are places of their own, and dev chooses what test compares."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sottovoce.errors import DataError
from sottovoce.training.comparison import CONTROL, Arm

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package
import cells as finished  # noqa: E402
import equal_bytes  # noqa: E402
from arms import Corpus, cell_config, check_base, load_plan, model_of, place_of  # noqa: E402
from cells import Cells  # noqa: E402
from equal_bytes import (  # noqa: E402
    OURS,
    Curves,
    Part,
    arms_of,
    budgets,
    curve,
    measure_speeds,
    missing,
    of_all,
    of_chosen,
    owed,
    speeds_config,
    speeds_of,
    time_all,
    timed,
)  # fmt: skip
from places import Place  # noqa: E402
from s8bqat_rnnt import Results  # noqa: E402

UTTERANCES = 10


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def plan() -> tuple[list[Corpus], list[Arm]]:
    corpora, plan = load_plan(BENCHMARKS / "equal_bytes.yaml", ["an4"])
    return corpora, arms_of(plan)


def put(results: Results, place: Place[Corpus], arm: Arm, errors: int, size: int) -> None:
    figures: dict[str, Any] = {"errors": [errors] * UTTERANCES, "model_bytes": size, "fp32_bytes": 4000}
    if arm.name == CONTROL:
        figures |= {"speakers": [f"s{i}" for i in range(UTTERANCES)], "words_each": [100] * UTTERANCES}
    results.cells.record(cell_config(place, arm, results.split), place.seed, figures, 1.0)


def test_sizes_share_data_and_cells_of_the_recipe_s_own_size(plan: tuple[list[Corpus], list[Arm]]) -> None:
    corpora, arms = plan
    places = [place_of(corpus, "", 0, True, Path("work")) for corpus in corpora]
    assert len({place.data for place in places}) == 1 and len({place.folder for place in places}) == len(corpora)
    own = next(place for place in places if not place.changes)
    assert own.source.name == "an4" and "changes" not in cell_config(own, arms[0], "test")
    other, _ = load_plan(BENCHMARKS / "s8bqat_rnnt.yaml", ["an4"])
    same = place_of(other[0], "", 0, True, Path("work"))
    assert [cell_config(own, arm, "test") for arm in arms] == [cell_config(same, arm, "test") for arm in arms]
    units = {place.recipe().model["encoder_units"] for place in places}  # type: ignore[union-attr]
    assert len(units) == len(corpora)


def test_preset_and_rounding_are_those_of_the_other_plan(plan: tuple[list[Corpus], list[Arm]]) -> None:
    from s8bqat_rnnt import arms_of as other_arms

    _, other = load_plan(BENCHMARKS / "s8bqat_rnnt.yaml", ["an4"])
    shared = {arm.name: arm for arm in other_arms(other)[0]}
    assert all(shared[arm.name] == arm for arm in plan[1] if arm.name in shared)
    assert {"int8", "S8BQAT-4", "S8BQAT-3", "S8BQAT-2"} <= {arm.name for arm in plan[1]} & set(shared)


def test_dev_chooses_and_test_compares(plan: tuple[list[Corpus], list[Arm]], tmp_path: Path) -> None:
    (small, large), arms = plan[0][:2], plan[1]
    places = tuple(place_of(corpus, "", 0, True, tmp_path) for corpus in (small, large))
    cells = Cells(tmp_path / "cells.jsonl")
    dev, test = Results(cells, places, "dev"), Results(cells, places, "test")
    found = {
        # (size, index of the arm): errors on dev and on test, bytes
        (0, 1): (20, 20, 1000), (1, 1): (10, 12, 2000), (0, 4): (22, 5, 500), (1, 4): (11, 14, 1010),
    }  # fmt: skip
    for results, at in ((dev, 0), (test, 1)):
        for place in places:
            put(results, place, arms[0], 9, 4000)
        for (size, arm), values in found.items():
            put(results, places[size], arms[arm], values[at], values[2])
    speeds = {
        f"{small.name} int8": {OURS: 0.10, "torch-int8": 0.2, "onnxruntime-int8": 0.08},
        f"{large.name} S8BQAT-4": {OURS: 0.12},
        f"{small.name} S8BQAT-4": {OURS: 0.06},
    }
    curves = Curves((small, large), tuple(arms[1:]), dev, test, speeds, 0.02)
    assert [line[1:4] for line in curve(curves)] == [
        ["S8BQAT", "4", "0"], ["int8", "8", "1"], ["S8BQAT", "4", "1"], ["int8", "8", "2"],
    ]  # fmt: skip
    assert missing(curves) == [f"{place.source.size} (ptq-5, S8BQAT-8, S8BQAT-3, S8BQAT-2)" for place in places]
    first, second = budgets(curves)
    # Within 1000 bytes and 2 %: the larger network at 4 bits, although the smaller one has fewer errors on test.
    assert first[1].endswith("int8, 8 bits") and first[3] == f"{large.size}, S8BQAT, 4 bits" and first[4] == "14.00"
    assert first[5].startswith("-30.0 %") and first[6] == "1.50"  # slower than ONNX Runtime on the rival
    assert first[7] == f"{small.size}, S8BQAT, 4 bits" and first[9].startswith("-75.0 %")
    assert second[1] == f"{large.size}, int8, 8 bits" and second[7] == ""  # the wide 8-bit control was not timed


def test_the_preset_in_8_bits_is_a_rival_too_and_a_budget_is_told_once(
    plan: tuple[list[Corpus], list[Arm]], tmp_path: Path
) -> None:
    corpus, arms = plan[0][0], plan[1]
    place = place_of(corpus, "", 0, True, tmp_path)
    dev, test = (Results(Cells(tmp_path / "cells.jsonl"), (place,), split) for split in ("dev", "test"))
    for results in (dev, test):
        for index, errors, size in ((0, 9, 400_000), (1, 20, 100_000), (3, 15, 100_008), (4, 16, 50_000)):
            put(results, place, arms[index], errors, size)  # the name of an arm is in its header
    curves = Curves((corpus,), tuple(arms[1:]), dev, test, {}, 0.02)
    assert [line[0] for line in budgets(curves)] == ["100"] and [line[1:6:2] for line in budgets(curves)] == [
        [f"{corpus.size}, S8BQAT, 8 bits", f"{corpus.size}, S8BQAT, 4 bits", "+6.7 % [+6.7, +6.7] (1 seed)"]
    ]


def test_test_compares_on_the_seeds_of_the_pair_and_further_seeds_do_not_move_the_choice(
    plan: tuple[list[Corpus], list[Arm]], tmp_path: Path
) -> None:
    corpus, arms = plan[0][0], plan[1]
    places = tuple(place_of(corpus, "", seed, True, tmp_path) for seed in range(5))
    dev, test = (Results(Cells(tmp_path / "cells.jsonl"), places, split) for split in ("dev", "test"))
    has = {  # seeds with both splits, with dev only, with test only: all three arms have both with seed 0 only
        1: ((0, 1, 2, 3), (), ()), 4: ((0, 2, 3, 4), (1,), ()), 5: ((0,), (3,), (2,)),
    }  # fmt: skip
    for place in places:
        errors = {1: 10, 4: 10 + 20 * place.seed, 5: 1 if place.seed else 11}  # arm 4 is best with seed 0 only
        for results, other in ((dev, 1), (test, 2)):
            put(results, place, arms[0], 9, 4000)
            for arm, size in ((1, 1000), (4, 500), (5, 400)):
                if place.seed in has[arm][0] + has[arm][other]:
                    put(results, place, arms[arm], errors[arm], size)
    curves = Curves((corpus,), (arms[1], arms[4], arms[5]), dev, test, {f"{corpus.name} int8": {OURS: 1.0}}, 0.02)
    assert missing(replace(curves, arms=(arms[2],))) == [f"{corpus.size} (all)"]
    assert curves.seeds == [0] and [point.test for point in curves.points] == [(10.0,), (10.0,), (11.0,)]
    assert [point.dev for point in curves.points] == [10.0, 10.0, 11.0]
    ((_, _, rival, chosen, ours, difference, *_),) = budgets(curves)  # seeds 0, 2 and 3: 30 errors and 130
    assert chosen.endswith("S8BQAT, 4 bits") and (rival, ours) == ("10.00 10.00 10.00", "10.00 50.00 70.00")
    assert difference.startswith("+333.3 %") and difference.endswith("(3 seeds)")
    assert of_chosen(places, {"an4": curves}) == [(p, [arms[0], arms[1], arms[4]], "test") for p in places[1:]]
    assert of_chosen(places[:1], {"an4": curves}) == []
    assert owed(curves) == [f"{corpus.size} S8BQAT-4 (seed 1)", f"{corpus.size} int8 (seed 4)"]
    with pytest.raises(DataError, match="an4 lacks --speeds"):
        of_chosen(places, {"an4": replace(curves, speeds={})})
    with pytest.raises(DataError, match=r"by which dev chooses, an4 lacks .*ptq-5"):
        of_chosen(places, {"an4": replace(curves, arms=tuple(arms[1:]))})


def test_what_is_trained_again_is_what_dev_has_chosen_the_one_that_is_as_fast_too(
    plan: tuple[list[Corpus], list[Arm]], tmp_path: Path
) -> None:
    (small, middle, large), arms = plan[0][:3], plan[1]
    places = tuple(place_of(corpus, "", seed, True, tmp_path) for seed in range(2) for corpus in (small, middle, large))
    dev, test = (Results(Cells(tmp_path / "cells.jsonl"), places, split) for split in ("dev", "test"))
    errors = {  # on dev and on test, where the largest is best
        small: {1: (10, 30), 4: (12, 20)}, middle: {1: (10, 30), 4: (11, 20)}, large: {1: (14, 9), 4: (15, 8)},
    }  # fmt: skip
    sizes = {small: {1: 1000, 4: 500}, middle: {1: 2000, 4: 900}, large: {1: 4000, 4: 2000}}
    for results, at in ((dev, 0), (test, 1)):
        for place in places[:3]:
            put(results, place, arms[0], 9, 9000)
            for arm, both in errors[place.source].items():
                put(results, place, arms[arm], both[at], sizes[place.source][arm])
    times = {small: (1.0, 0.9), middle: (2.0, 1.2), large: (3.0, 1.9)}
    speeds = {
        f"{c.name} {arms[i].name}": {OURS: t} for c, pair in times.items() for i, t in zip((1, 4), pair, strict=True)
    }
    curves = Curves((small, middle, large), (arms[1], arms[4]), dev, test, speeds, 0.02)
    assert all(pair.rival.corpus == small and pair.ours.corpus == middle for pair in curves.pairs)
    assert [pair.fast.corpus for pair in curves.pairs if pair.fast] == [small] * 3  # the middle one is slower
    assert of_chosen(places, {"an4": curves}) == [
        (places[3], [arms[0], arms[1], arms[4]], "test"),
        (places[4], [arms[0], arms[4]], "test"),
    ]


def test_times_are_of_all_files_and_no_others(
    plan: tuple[list[Corpus], list[Arm]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpora, arms = plan
    places = [place_of(corpus, "", seed, True, tmp_path) for seed in (0, 1) for corpus in corpora]
    with pytest.raises(DataError, match=r"expected the file of an4-0\.65M int8 to be timed beside the others"):
        measure_speeds(timed(places, "an4"), arms[1:])
    times = {"an4 int8": {OURS: 1.0}}
    monkeypatch.setattr(equal_bytes, "measure_speeds", lambda some, arms: times)
    cells = Cells(tmp_path / "cells.jsonl")
    time_all(cells, places, arms)
    assert capsys.readouterr().out.startswith("estimated: 0.02 CPU hours\n")
    assert speeds_of(cells, timed(places, "an4"), arms) == times
    assert speeds_of(cells, timed(places[:2], "an4"), arms) == speeds_of(cells, timed(places, "an4"), arms[:-1]) == {}
    assert len(speeds_config(timed(places, "an4"), arms)["speeds of"]) == len(corpora) * (len(arms) - 1)
    time_all(cells, places, arms)
    assert capsys.readouterr().out.startswith("estimated: 0.00 CPU hours\n")


def test_what_is_trained_is_only_scored(plan: tuple[list[Corpus], list[Arm]], tmp_path: Path) -> None:
    corpus, arms = plan[0][0], plan[1]
    place, cells = place_of(corpus, "", 0, True, tmp_path), Cells(tmp_path / "cells.jsonl")
    scored = 2 * len(arms) * equal_bytes.SCORE_HOURS
    trained = corpus.base_hours + 4 * (corpus.arm_hours - equal_bytes.SCORE_HOURS)
    assert equal_bytes._hours(cells, of_all([place], arms)) == pytest.approx(scored + trained)
    files = [place.base.model, *(model_of(place, arm) for arm in arms)]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert equal_bytes._hours(cells, of_all([place], arms)) == pytest.approx(scored)


def test_cells_of_two_trainings_of_one_network_are_not_mixed(
    plan: tuple[list[Corpus], list[Arm]], tmp_path: Path
) -> None:
    (corpus, *_), arms = plan
    place, cells = place_of(corpus, "", 0, True, tmp_path), Cells(tmp_path / "cells.jsonl")

    def result(arm: Arm, base: str, errors: int, seed: int = 0) -> tuple[dict[str, Any], int, dict[str, Any], float]:
        return cell_config(place, arm, "test"), seed, {"errors": [errors], "base": base}, 1.0

    cells.record(cell_config(place, arms[0], "test"), 0, {"errors": [7]}, 1.0)  # of before bases were told
    check_base(cells, result(arms[0], "a", 7))
    with pytest.raises(DataError, match="expected cells of an4-"):
        check_base(cells, result(arms[0], "a", 8))  # the control of a remade network errs elsewhere
    for known in (result(arms[1], "a", 5), result(arms[2], "a", 6)):
        check_base(cells, known)
        cells.keep(known)
    check_base(cells, result(arms[3], "b", 5, seed=1))
    with pytest.raises(DataError, match="another"):
        check_base(cells, result(arms[3], "b", 5))


@pytest.fixture
def main_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Part]]:
    """The parts that the script would do with these options."""

    def call(*options: str) -> list[Part]:
        done: list[Part] = []
        monkeypatch.setattr(equal_bytes, "run", lambda cells, parts, options: done.extend(parts))
        results = ["--results", str(tmp_path / "cells.jsonl"), "--work", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["equal_bytes.py", "--data", "an4", *results, *options])
        equal_bytes.main()
        return done

    return call


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chosen"], "expected --seeds of 2 or more"),
        (["--chosen", "--seeds", "0"], "expected --seeds of 2 or more"),
        (["--table", "--size", "0.65M"], "--table only prints"),
        (["--table", "--speeds"], "--table only prints"),
        (["--table", "--chosen", "--seeds", "3"], "--table only prints"),
        (["--size", "9M"], "expected sizes of the plan, found 9M"),
        (["--chosen", "--seeds", "2", "--quick"], "and no --quick"),
        (["--speeds", "--size", "0.65M"], "expected neither --size nor --chosen"),
        (["--speeds", "--chosen", "--seeds", "2"], "expected neither --size nor --chosen"),
    ],
)
def test_options_that_would_do_nothing_together_are_refused(
    main_with: Callable[..., list[Part]], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main_with(*options)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_sizes_are_chosen_before_the_quick_form_cuts_them(
    main_with: Callable[..., list[Part]], plan: tuple[list[Corpus], list[Arm]]
) -> None:
    last = plan[0][-1].size
    assert [place.source.size for place, *_ in main_with("--quick", "--size", last)] == [last] * 2  # test and dev
    assert {place.source.size for place, *_ in main_with("--size", last)} == {last}
    assert len({place.source.size for place, *_ in main_with("--quick")}) == 2


def test_what_dev_has_chosen_is_run_only_once_dev_can_choose(main_with: Callable[..., list[Part]]) -> None:
    with pytest.raises(DataError, match="--chosen: expected all by which dev chooses, an4 lacks"):
        main_with("--chosen", "--seeds", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equal_bytes, "of_chosen", lambda places, curves: [("chosen", places, curves)])
        ((_, places, curves),) = main_with("--chosen", "--seeds", "2")
        assert {place.seed for place in places} == {0, 1} and set(curves) == {"an4"}  # type: ignore[attr-defined]
        ((_, places, _),) = main_with("--chosen", "--seeds", "2", "--size", "0.65M")
        assert {place.source.size for place in places} == {"0.65M"}  # type: ignore[attr-defined]
