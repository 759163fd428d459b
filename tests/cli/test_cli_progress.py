"""A long step tells how far it is: a bar with its rate on a terminal, plain lines in a log; short ones say nothing."""

from __future__ import annotations

import io

from rich.console import Console

from sottovoce.cli.progress import FIRST_LINE, NEXT_LINE, PlainLines, progress_bar, rate, span


def test_rates_and_spans() -> None:
    assert [rate(x) for x in (250.0, 3.21, 1.0, 0.2)] == ["250 a second", "3.21 a second", "1 a second", "12 a minute"]
    assert [span(x) for x in (45, 89, 120, 7200)] == ["45 s", "89 s", "2 min", "2.0 h"]


def test_a_log_gets_few_plain_lines() -> None:
    out, now = io.StringIO(), [0.0]
    lines = PlainLines(Console(file=out), "dev", clock=lambda: now[0])
    for done in range(0, 1001, 10):  # a hundred seconds
        now[0] = done / 10
        lines(done, 1000)
    expected = [f"dev: {n} of 1,000, 10 a second, {span(100 - n / 10)} left" for n in (100, 400, 700)]
    expected.append("dev: 1,000 of 1,000, 10 a second")
    assert out.getvalue().splitlines() == expected
    assert (FIRST_LINE, NEXT_LINE) == (10, 30)


def test_what_was_done_before_does_not_count_into_the_rate() -> None:
    out, now = io.StringIO(), [0.0]
    lines = PlainLines(Console(file=out), "search", clock=lambda: now[0])
    lines(90, 100)
    now[0] = 20.0
    lines(92, 100)
    assert out.getvalue() == "search: 92 of 100, 6 a minute, 80 s left\n"


def test_short_steps_say_nothing() -> None:
    out = io.StringIO()
    with progress_bar(Console(file=out), "dev") as update:
        for done in range(5):
            update(done, 4)
    assert out.getvalue() == ""


def test_a_terminal_gets_a_bar_with_a_rate() -> None:
    out = io.StringIO()
    with progress_bar(Console(file=out, force_terminal=True, width=100), "dev") as update:
        for done in range(5):
            update(done, 4)
    assert "dev" in out.getvalue() and "4/4" in out.getvalue() and " a second" in out.getvalue()
