"""A long step tells how far it is: a bar with its rate on a terminal, plain lines in a log; short ones say nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sottovoce.cli.progress import FIRST_LINE, NEXT_LINE, PlainLines, progress_bar
from sottovoce.progress import rate, span


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


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    with progress_bar(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}), "dev") as update:
        assert isinstance(update, PlainLines)
