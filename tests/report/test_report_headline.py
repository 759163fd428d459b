"""What is said of a smaller system, for every verdict, by the page and by the demo."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import MakeRun

from sottovoce.evaluation.noninferiority import Kind
from sottovoce.report import report
from sottovoce.report.headline import headline, judged, named
from sottovoce.report.opening import open_runs
from sottovoce.report.systems import Group, System, measured, smallest


@pytest.fixture
def group(make_run: MakeRun) -> Group:
    runs = make_run("fp32", 32, wrong=6), make_run("q4", 4, wrong=7), make_run("q3", 3, wrong=9)
    (found,), _ = measured(open_runs([str(run) for run in runs]))
    return found


def with_verdicts(group: Group, *kinds: Kind) -> Group:
    """The group, had its systems these verdicts."""

    def judge(system: System, kind: Kind) -> System:
        assert system.difference
        return replace(
            system,
            difference=replace(system.difference, verdict=replace(system.difference.verdict, kind=kind)),
        )

    judged_so = [judge(system, kind) for system, kind in zip(group.systems[1:], kinds, strict=True)]
    return replace(group, systems=(group.control, *judged_so))


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        ("non-inferior", "and keeps its word error rate: 7.29 % against 6.25 %, non-inferior at a margin of 2 %."),
        ("inferior", "and does not keep its word error rate: 7.29 % against 6.25 %, inferior at a margin of 2 %."),
        ("worse", "its word error rate is worse: 7.29 % against 6.25 %; whether by more than the margin of 2 % is not"),
    ],
)
def test_the_claim_is_that_of_the_verdict(group: Group, kind: Kind, claim: str) -> None:
    system = with_verdicts(group, kind, kind).systems[1]
    text = judged(group, system)
    assert text.startswith("q4 is ") and claim in text and "times smaller than fp32" in text


def test_what_is_not_resolved_is_no_claim_and_has_its_interval(group: Group) -> None:
    text = judged(group, with_verdicts(group, "not resolved", "inferior").systems[1])
    assert re.search(r"; whether it keeps the word error rate of 6.25 % is not resolved: \+16.7 % \(.* to .* %\)", text)
    assert text.endswith("margin 2 %.")


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (("non-inferior", "non-inferior"), "q3"), (("non-inferior", "inferior"), "q4"),
        (("not resolved", "not resolved"), "q4"), (("worse", "not resolved"), "q3"), (("inferior", "worse"), "q4"),
    ],
)  # fmt: skip
def test_the_headline_names_the_smallest_that_is_kept_else_the_nearest_to_it(
    group: Group, kinds: tuple[Kind, Kind], name: str
) -> None:
    found = with_verdicts(group, *kinds)
    system = named(found)
    assert system is not None and system.run.name == name and headline(found).startswith(f"{name} is ")


def test_of_equally_small_systems_the_better_one_is_the_smallest(make_run: MakeRun) -> None:
    runs = make_run("fp32", 32), make_run("one", 4, wrong=9), make_run("other", 4, wrong=3)
    (found,), _ = measured(open_runs([str(run) for run in runs]))
    best = smallest(found.systems[1:])
    assert best is not None and best.run.name == "other" and smallest(()) is None


def test_the_demo_says_what_the_page_says(make_run: MakeRun, tmp_path: Path) -> None:
    demo = pytest.importorskip("sottovoce.cli.demo")
    arms = demo.default_arms(demo.load_rnnt_recipe("synth-small", []).compression)
    arms = [arm for arm in arms if arm.name in ("fp32", demo.NAMED)]
    runs = [make_run(f"arms/{arm.name}", arm.bits, wrong=3) for arm in arms]
    page = report(open_runs([str(run) for run in runs]))
    said = demo.verdict_line(tmp_path, arms).partition(": ")[2]
    assert said.startswith("s8bqat-5 is ") and said in page.replace("\u00a0", " ")


def test_the_demo_of_a_single_utterance_says_what_was_measured(make_run: MakeRun, tmp_path: Path) -> None:
    demo = pytest.importorskip("sottovoce.cli.demo")
    arms = demo.default_arms(demo.load_rnnt_recipe("synth-small", []).compression)
    arms = [arm for arm in arms if arm.name in ("fp32", demo.NAMED)]
    for arm in arms:
        heard = make_run(f"arms/{arm.name}", arm.bits) / "test.jsonl"
        heard.write_text(heard.read_text().splitlines()[0] + "\n")
    assert "No system here is both smaller than fp32 and compared" in demo.verdict_line(tmp_path, arms)


def of_bytes(system: System, count: int) -> System:
    """The system, had its file so many bytes."""
    assert system.run.sizes
    run = replace(system.run)
    run.__dict__["sizes"] = replace(system.run.sizes, model_bytes=count)
    return replace(system, run=run)


@pytest.mark.parametrize(
    ("count", "said"),
    [(9_995, None), (9_500, "q4 is 5.0 % smaller than fp32, 9.5 kB"), (5_000, "q4 is 2.0 times smaller than fp32")],
)
def test_a_file_as_large_as_the_control_s_is_not_called_smaller(group: Group, count: int, said: str | None) -> None:
    judged_so = with_verdicts(group, "non-inferior", "non-inferior")
    systems = of_bytes(judged_so.control, 10_000), of_bytes(judged_so.systems[1], count)
    text = headline(replace(judged_so, systems=systems))
    assert text.startswith(said or "No system here is both smaller than fp32 and compared")


def test_a_difference_without_end_has_no_upper_bound(group: Group) -> None:
    system = with_verdicts(group, "not resolved", "inferior").systems[1]
    assert system.difference
    text = judged(group, replace(system, difference=replace(system.difference, high=float("inf"))))
    assert text.endswith("to no upper bound), margin 2 %.")
