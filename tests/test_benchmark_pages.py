"""Tables in their regions of a page (benchmarks/tables.py), and docs/benchmarks.md: each of its tables is what the
command above it prints from the committed cells."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from sottovoce.errors import ConfigError, DataError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # scripts, not a package
import cells as finished  # noqa: E402
from cells import Cells, run_script  # noqa: E402
from options import add_options, kept_cells  # noqa: E402
from tables import marks, provenance, put, shown  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.md"
COMMAND = re.compile(r"`python (benchmarks/\w+\.py[^`\n]*) --page docs/benchmarks\.md`\n\n<!-- tables: ([^>]*) -->")
DOCUMENTED = {region: command for command, region in COMMAND.findall(PAGE.read_text(encoding="utf-8"))}
NEEDS = {"sherpa": "sherpa_onnx", "streaming_step": "onnxruntime"}
FIRST, LAST = marks("one")


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "commit_id", lambda: "made up")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(f"Before.\n\n{FIRST}\nold\n{LAST}\n\nBetween.\n\n<!-- tables: other -->\n", encoding="utf-8")
    return path


def options(page: Path | None, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(page=page, **more)


def test_only_the_region_is_replaced_and_again_gives_the_same(page: Path) -> None:
    before = page.read_text()
    for _ in range(2):
        put(page, "one", "\nnéw\n")
        assert page.read_text() == before.replace("\nold\n", "\n\nnéw\n\n")
    assert [path.name for path in page.parent.iterdir()] == ["page.md"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nothing", "0 and 0 of them"),
        (f"{FIRST}\n{LAST}\n{FIRST}\n{LAST}", "2 and 2 of them"),
        (f"{FIRST}\n", "1 and 0 of them"),
        (f"{LAST}\n{FIRST}", "them in the other order"),
    ],
)
def test_a_page_has_the_region_once(page: Path, text: str, found: str) -> None:
    page.write_text(text)
    with pytest.raises(ConfigError, match=rf"page\.md: expected '{FIRST}' and .* found {found}$") as caught:
        put(page, "one", "new")
    assert "\n" not in str(caught.value) and page.read_text() == text


def test_a_page_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"gone\.md: expected a page of text"),
        shown("x.py", "one", Cells(tmp_path / "cells"), options(tmp_path / "gone.md")),
    ):
        raise AssertionError  # nothing is shown before the page is looked at


def test_tables_stand_in_the_page_with_what_they_rest_on(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = Cells(page.parent / "cells.jsonl")
    for seed in (1, 0, 2):
        cells.record({"name": "a"}, seed, {}, 1800.0)
    cells.done({"name": "a"}, 2)  # before anything is shown
    with shown("/somewhere/script.py", "one", cells, options(page)) as emit:
        emit("A title", ["name", "b"], [["x|y", 1], ["z", ""]])
        emit("No rows", ["name"], [])
        assert [cells.done({"name": "a"}, seed) is not None for seed in (0, 1, 3)] == [True, True, False]
        emit.text("A sentence.")
    told = "benchmarks/script.py: 2 cells, seeds 0, 1; commit made up; 1.00 hours of measuring; "
    table = "A title\n\n| name | b |\n| --- | --- |\n| x\\|y | 1 |\n| z |  |\n\nA sentence."
    assert f"{FIRST}\n\n{table}\n\n{told}" in page.read_text()
    assert "old" not in page.read_text() and "No rows" not in page.read_text() and not capsys.readouterr().out


def test_without_a_page_all_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with shown("script.py", "one", Cells(tmp_path / "none"), options(None)) as emit:
        emit("A title", ["name"], [["x"]])
        emit.text("A sentence.")
    out = capsys.readouterr().out
    assert "A title" in out and "A sentence.\nbenchmarks/script.py: nothing is measured yet.\n" in out


def test_a_script_that_fails_leaves_the_page(page: Path) -> None:
    before = page.read_text()
    with (
        pytest.raises(ValueError, match="half way"),
        shown("x.py", "one", Cells(page.parent / "cells"), options(page)) as emit,
    ):
        emit("A title", ["name"], [["x"]])
        raise ValueError("half way")
    assert page.read_text() == before


def test_a_quick_check_is_kept_out_of_pages(page: Path) -> None:
    with (
        pytest.raises(ConfigError, match="--page: expected to go without --quick"),
        shown("x.py", "one", Cells(page.parent / "cells"), options(page, quick=True)),
    ):
        pass


def test_a_quick_check_leaves_no_cells_among_the_results(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, quick="little", work="runs/some")

    def path(*words: str) -> Path:
        return kept_cells(parser.parse_args(words), "some").path

    assert path() == ROOT / "benchmarks" / "results" / "some.jsonl"
    assert path("--quick", "--work", str(tmp_path)) == tmp_path / "quick.jsonl"
    assert path("--quick", "--results", "mine.jsonl") == path("--results", "mine.jsonl") == Path("mine.jsonl")


def test_commits_and_machines_are_named_once_in_their_order() -> None:
    machine = {"cpu": "A", "cores": 2, "threads": "1", "system": "Linux", "python": "3.12"}
    rows = [
        {"seed": seed, "commit": commit, "machine": {**machine, "cpu": cpu}, "seconds": 90.0}
        for seed, commit, cpu in ((2, "f", "A"), (0, "b+", "B"), (2, "f", "A"), (0, "b", "B"))
    ]
    assert provenance("x.py", rows) == (
        "benchmarks/x.py: 4 cells, seeds 0, 2; commits f, b+, b; 0.10 hours of measuring; "
        "A, 2 cores, OMP_NUM_THREADS 1, Linux, Python 3.12; B, 2 cores, OMP_NUM_THREADS 1, Linux, Python 3.12."
    )


def test_of_configurations_that_are_alike_the_latest_is_shown_with_all_its_seeds(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    for name, version, seed in (("a", 1, 0), ("a", 1, 1), ("b", 1, 0), ("a", 2, 1), ("a", 2, 0), ("quick", 1, 0)):
        cells.record({"name": name, "version": version}, seed, {"is": f"{name}{version}{seed}"}, 1.0)
    with cells.read() as used:
        found = cells.latest(lambda config: None if config["name"] == "quick" else config["name"])
    assert {key: [row["figures"]["is"] for row in rows] for key, rows in found.items()} == {
        "a": ["a20", "a21"],
        "b": ["b10"],
    }
    assert [row["figures"]["is"] for row in used.values()] == ["b10", "a21", "a20"]  # in the order of the file


def test_every_region_of_the_page_has_its_command() -> None:
    whole = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- tables: ([^>]*) -->", whole)) == sorted(DOCUMENTED)
    tables = re.findall(r"^\|", re.sub(r"<!-- tables: ([^>]*) -->.*?<!-- end of tables: \1 -->", "", whole, flags=re.S))
    assert tables == []  # none is written by hand
    assert all("--table" in command.split() for command in DOCUMENTED.values())


@pytest.mark.slow
@pytest.mark.parametrize("region", DOCUMENTED)
def test_the_page_is_what_its_commands_make_of_the_committed_cells(
    region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, *words = shlex.split(DOCUMENTED[region])
    name = Path(script).stem
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    copy = tmp_path / "page.md"
    copy.write_bytes(PAGE.read_bytes())
    put(copy, region, "empty")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *words, "--page", str(copy)])
    importlib.import_module(name).main()
    assert copy.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), (
        f"docs/benchmarks.md: {region}: run again: python {DOCUMENTED[region]} --page docs/benchmarks.md"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("script", "picture"), [("figure", "low_bits.svg"), ("curves_figure", "equal_bytes.svg")])
def test_the_picture_is_drawn_from_the_committed_cells(
    script: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, kept = tmp_path / picture, ROOT / "docs" / "images" / picture
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--out", str(drawn)])
    importlib.import_module(script).main()
    numbers = [
        [float(x) for x in re.findall(r"-?\d+\.\d+", path.read_text(encoding="utf-8"))] for path in (drawn, kept)
    ]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-3), f"run again: python benchmarks/{script}.py"


def test_every_cell_of_the_results_can_be_read() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert all(
            {"config_hash", "config", "seed", "figures", "commit", "seconds", "machine"} <= r.keys() for r in rows
        )


def test_a_mistake_in_what_a_script_is_given_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def no_corpus() -> None:
        raise DataError(f"{tmp_path}: no such corpus here")

    def no_file() -> None:
        (tmp_path / "gone").read_bytes()

    told = {no_corpus: f"{tmp_path}: no such corpus here", no_file: f"{tmp_path / 'gone'}: No such file or directory"}
    for main, message in told.items():
        with pytest.raises(SystemExit) as ended:
            run_script(main)
        assert ended.value.code == 2 and capsys.readouterr().err == f"error: {message}\n"


SCRIPTS = [p for p in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in p.read_text(encoding="utf-8")]


def refused(script: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a script that ends with exit code 2."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", [script.name, *words])
        runpy.run_path(str(script), run_name="__main__")
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    "script",
    [p for p in SCRIPTS if "add_page_option" in p.read_text() or "add_options" in p.read_text()],
    ids=lambda p: p.stem,
)
def test_every_script_refuses_a_page_that_is_not_there(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"--results={tmp_path / 'cells'}", *(["--recipe=an4"] if script.stem == "attribution" else [])]
    assert f"{tmp_path / 'gone.md'}: expected a page" in refused(
        script, capsys, "--table", *more, f"--page={tmp_path / 'gone.md'}"
    )


@pytest.mark.parametrize("script", [p for p in SCRIPTS if '"--plan"' in p.read_text()], ids=lambda p: p.stem)
def test_a_plan_that_cannot_be_used_is_one_line(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [] if script.stem.endswith("figure") else ["--table", f"--results={tmp_path / 'cells'}"]
    (tmp_path / "noise.yaml").write_bytes(b"\x8c\xff")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "lacking.yaml").write_text("strange: 1\n")
    told = {
        **dict.fromkeys(("gone.yaml", ".", "noise.yaml"), "cannot read the plan"),
        "empty.yaml": "expected a plan of keys and values, found NoneType",
        "lacking.yaml": "in the plan, found strange",
    }
    for name, message in told.items():
        line = refused(script, capsys, *table, f"--plan={tmp_path / name}")
        assert line.startswith(f"error: {tmp_path / name}: ") and message in line
