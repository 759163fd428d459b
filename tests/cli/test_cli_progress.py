"""A long step tells how far it is: a bar with its rate on a terminal, plain lines in a log; short ones say nothing."""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from rich.text import Text

from sottovoce.cli.progress import FIRST_LINE, NEXT_LINE, PlainLines, progress_bar
from sottovoce.progress import rate, span

Run = Callable[..., tuple[int, str, str]]
tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))


def lines_of(what: str, told: list[tuple[float, int, int]]) -> list[str]:
    """What a log gets of calls (seconds, done, total)."""
    out, now = io.StringIO(), [0.0]
    lines = PlainLines(Console(file=out), what, clock=lambda: now[0])
    for now[0], done, total in told:
        lines(done, total)
    return out.getvalue().splitlines()


def test_rates_and_spans() -> None:
    told = {
        12_345.6: "12,346 a second", 250.0: "250 a second", 3.21: "3.21 a second", 1.0: "1 a second",
        0.2: "12 a minute", 1 / 1500: "2.4 an hour",
    }  # fmt: skip
    assert [rate(x) for x in told] == list(told.values())
    assert [span(x) for x in (45, 89, 120, 7200)] == ["45 s", "89 s", "2 min", "2.0 h"]


def test_a_log_gets_few_plain_lines() -> None:
    expected = [f"dev: {n} of 1,000, 10 a second, {span(100 - n / 10)} left" for n in (100, 400, 700)]
    expected.append("dev: 1,000 of 1,000, 10 a second")
    assert lines_of("dev", [(done / 10, done, 1000) for done in range(0, 1001, 10)]) == expected
    assert (FIRST_LINE, NEXT_LINE) == (10, 30)


@pytest.mark.parametrize("kept", [range(90, 91), range(1, 91)])
def test_what_was_kept_from_before_does_not_count_into_the_rate(kept: range) -> None:
    told = [(0.0, done, 100) for done in kept] + [(20.0, 92, 100)]
    assert lines_of("search", told) == ["search: 92 of 100, 6 a minute, 80 s left"]


def test_each_split_begins_at_nothing_again() -> None:
    train = [(0.1 * done, done, 1000) for done in range(1, 1001)]  # a hundred seconds
    dev = [(100.0 + done, done, 50) for done in range(1, 51)]
    test = [(150.0 + 2 * done, done, 50) for done in range(1, 51)]
    found = lines_of("cuts", train + dev + test)
    assert found[3] == "cuts: 1,000 of 1,000, 10 a second"
    assert found[4:] == [
        "cuts: 30 of 50, 1 a second, 20 s left",
        "cuts: 5 of 50, 30 a minute, 2 min left",
        "cuts: 20 of 50, 30 a minute, 60 s left",
        "cuts: 35 of 50, 30 a minute, 30 s left",
        "cuts: 50 of 50, 30 a minute",
    ]


def test_the_rate_is_the_latest_and_a_first_call_alone_has_none() -> None:
    told = [(600.0, 1, 4), (1200.0, 2, 4), (3000.0, 3, 4)]
    assert lines_of("arms", told) == [
        "arms: 1 of 4",
        "arms: 2 of 4, 6 an hour, 20 min left",
        "arms: 3 of 4, 2 an hour, 30 min left",
    ]
    assert lines_of("nothing", [(20.0, 0, 0)]) == ["nothing: 0 of 0"]


def test_short_steps_say_nothing() -> None:
    out = io.StringIO()
    with progress_bar(Console(file=out), "dev") as update:
        for done in range(5):
            update(done, 4)
    assert out.getvalue() == ""


def test_a_terminal_gets_a_bar_with_a_rate() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with progress_bar(console, "dev") as update:
        for done in range(5):
            update(done, 4)
    assert "dev" in out.getvalue() and "4/4" in out.getvalue() and " a second" in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("what", "total"), [("utterances", 4000), ("seconds", 36000), ("word errors", 200)])
def test_numbers_are_whole_on_a_narrow_terminal(
    what: str, total: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sottovoce.cli.progress.rate", lambda speed: "210 a minute")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, _environ={"TERM": "xterm"})
    with progress_bar(console, what) as update:
        for done in range(0, total + 1, total // 4):
            update(done, total)
    shown = Text.from_ansi(out.getvalue()).plain
    assert re.search(rf"{what} .* {total}/{total} 210 a minute .*left 0:00:00 *\n", shown)


def test_output_beside_a_bar_stays_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (
        Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"}), Console(file=io.StringIO())
    ):  # fmt: skip
        with progress_bar(console, "files") as bar:
            bar(1, 2)
            bar.echo("a.wav\tone [b]two[/b]")
            sys.stdout.write("and more\n")
        assert capsys.readouterr().out == "a.wav\tone [b]two[/b]\nand more\n"


def test_output_beside_a_bar_on_its_terminal_is_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    console = Console(file=out, force_terminal=True, width=60, _environ={"TERM": "xterm"})
    with progress_bar(console, "files") as bar:
        bar.echo("a.wav [b]two[/b] " + 60 * "x")
    assert "a.wav [b]two[/b] " + 60 * "x" + "\n" in out.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    with progress_bar(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}), "dev") as update:
        assert isinstance(update, PlainLines)


def test_long_commands_tell_how_far_they_are_and_print_what_they_did(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sound, text = tmp_path / "model.safetensors", tmp_path / "sound", tmp_path / "text"
    tiny["speaking_model"]().save(model)
    sound.mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(sound / name, np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
    (sound / "c.wav").write_text("no sound")
    text.write_text("one two three\ntwo three four\n")
    for name in ("first", "second"):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"id": id, "reference": "one two", "text": "one"}) + "\n" for id in "abcd")
        )
    commands: list[tuple[tuple[object, ...], str]] = [
        (("transcribe", model, sound), r"seconds: [1-6] of 6"),
        (
            ("ngram", "train", text, "--order", 2, "--out", tmp_path / "lm.arpa"),
            "orders: 1 of 4",
        ),
        (("compare", tmp_path / "first.jsonl", tmp_path / "second.jsonl"), "bootstraps: 1 of 3"),
    ]
    for command, line in commands:
        code, out, err = run(*command)
        assert not re.search(line, err)
        with monkeypatch.context() as patch:
            patch.setattr("sottovoce.cli.progress.FIRST_LINE", 0.0)
            assert (code, out) == run(*command)[:2] != (code, "")
            assert re.search(f"^{line}", run(*command)[2], re.MULTILINE)
