"""The one progress bar of the commands, and what stands in its place where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
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

from sottovoce.progress import rate, span

_WIDE = 100  # columns that all of a bar needs
FIRST_LINE, NEXT_LINE = 10.0, 30.0  # seconds: short steps say nothing, long ones not too much


@contextmanager
def progress_bar(console: Console, what: str) -> Iterator[Bar | PlainLines]:
    """Gives ``update(done, total)``: a bar with rate and time left on a terminal; elsewhere plain lines, the first
    after ten seconds and one every half minute. A terminal that cannot move its cursor gets lines, too. Its ``echo``
    writes a line of the command's output meanwhile."""
    if not console.is_interactive:
        yield PlainLines(console, what)
        return
    # What is printed meanwhile goes above the bar, but never from a pipe to the bar's terminal.
    redirect = sys.stdout.isatty()
    with Progress(*_columns(console.width), console=console, transient=True, redirect_stdout=redirect) as progress:
        yield Bar(progress, what)


def _columns(width: int) -> list[ProgressColumn]:
    """The numbers, whole at 60 columns, too, and as much of a bar as there is room for."""
    elapsed = [TimeElapsedColumn()] if width >= _WIDE else []
    bar = BarColumn(40 if width >= _WIDE else 4)
    numbers = [MofNCompleteColumn(), RateColumn(), *elapsed, TextColumn("left"), TimeRemainingColumn()]
    return [SpinnerColumn(), TextColumn("{task.description}"), bar, *numbers]


class Bar:
    """One task of a bar on a terminal."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._task = progress, progress.add_task(what, total=None)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def echo(self, line: str) -> None:
        """To the byte, without the bar, which comes back below it."""
        self._progress.stop()
        typer.echo(line)
        self._progress.start()


class RateColumn(ProgressColumn):
    """Items a second, or a minute where they take longer."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else rate(speed))


class PlainLines:
    """``what: 120 of 500, 3.2 a second, 2 min left``, for a log.

    The rate is that of the last half minute: what a search or a comparison kept from an earlier run passes at once, and
    each split of a corpus begins at nothing again.
    """

    def __init__(self, console: Console, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._what, self._clock = console, what, clock
        self._due = clock() + FIRST_LINE
        self._seen = deque[tuple[float, int]]()  # when so much was done, at most one each second
        self._total: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        self._see(now, done, total)
        if now < self._due:
            return
        self._due = now + NEXT_LINE
        speed = self._speed()
        left = f", {span((total - done) / speed)} left" if speed and done < total else ""
        line = f"{self._what}: {done:,} of {total:,}{f', {rate(speed)}' if speed else ''}{left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def echo(self, line: str) -> None:
        typer.echo(line)

    def _see(self, now: float, done: int, total: int) -> None:
        if total != self._total or (self._seen and done < self._seen[-1][1]):
            self._seen.clear()
        self._total = total
        if self._seen and int(now) == int(self._seen[-1][0]):
            self._seen.pop()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= NEXT_LINE:
            self._seen.popleft()

    def _speed(self) -> float:
        (begin, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - begin) if end > begin else 0.0
