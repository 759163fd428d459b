"""The one progress bar of the commands, and what stands in its place where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

FIRST_LINE, NEXT_LINE = 10.0, 30.0  # seconds: short steps say nothing, long ones not too much


@contextmanager
def progress_bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives ``update(done, total)``: a bar with rate and time left on a terminal; elsewhere plain lines, the first
    after ten seconds and one every half minute."""
    if not console.is_terminal:
        yield PlainLines(console, what)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class RateColumn(ProgressColumn):
    """Items a second, or a minute where they take longer."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else rate(speed))


class PlainLines:
    """``what: 120 of 500, 3.2 a second, 2 min left``, for a log."""

    def __init__(self, console: Console, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._what, self._clock = console, what, clock
        self._start = clock()
        self._due = self._start + FIRST_LINE
        self._first: int | None = None  # what was done before: a resumed search begins in the middle

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if self._first is None:
            self._first, self._start = done, now
        if now < self._due or done == self._first:
            return
        self._due = now + NEXT_LINE
        speed = (done - self._first) / (now - self._start) if now > self._start else 0.0
        left = f", {span((total - done) / speed)} left" if speed and done < total else ""
        line = f"{self._what}: {done:,} of {total:,}{f', {rate(speed)}' if speed else ''}{left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate(a_second: float) -> str:
    """``3.2 a second``, ``12 a minute``."""
    return f"{a_second:.3g} a second" if a_second >= 1 else f"{60 * a_second:.3g} a minute"
