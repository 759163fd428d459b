"""Tables on the terminal, or in Markdown in the region of a page that is theirs, with what they rest on.

A region of a page lies between two comments, ``<!-- tables: NAME -->`` and ``<!-- end of tables: NAME -->``; all that
is between them is replaced. Its last line is made from the cells that were read while the tables were shown.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cells import Cells
from rich.console import Console
from rich.table import Table

from sottovoce.errors import ConfigError
from sottovoce.packed.replacing import replacing

Rows = Sequence[Sequence[Any]]


def add_page_option(parser: argparse.ArgumentParser) -> None:
    """``--page FILE``: with ``--table``, where the tables go instead of the terminal."""
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables into their region of this page")


class Tables:
    """What a script shows, called with each table in turn: printed as it comes, or kept in Markdown for a page."""

    def __init__(self, keep: bool = False) -> None:
        self.keep = keep
        self.parts: list[str] = []

    def __call__(self, title: str, columns: Sequence[str], rows: Rows) -> None:
        if rows and not self.keep:
            print_table(title, columns, rows)
        elif rows:
            self.parts.append("\n\n".join(part for part in (title, markdown(columns, rows)) if part))

    def text(self, sentence: str) -> None:
        """A line between the tables."""
        if self.keep:
            self.parts.append(sentence)
        else:
            print(sentence)


@contextmanager
def shown(script: str, region: str, cells: Cells, options: argparse.Namespace) -> Iterator[Tables]:
    """Tables that the block shows, and below them what they rest on: the finished rows that ``cells`` gave meanwhile.

    Printed, or with ``--page`` put into the page's region when the block ends well. Raises ConfigError for a page that
    has no such region, or several, and for a quick check, whose figures are none.
    """
    page: Path | None = options.page
    if page is not None and getattr(options, "quick", False):
        raise ConfigError("--page: expected to go without --quick, which only checks the script")
    if page is not None:
        _region(_read(page), page, region)
    tables = Tables(keep=page is not None)
    with cells.read() as used:
        yield tables
    tables.text(provenance(Path(script).name, list(used.values())))
    if page is not None:
        put(page, region, "\n\n".join(tables.parts))


def provenance(script: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One line: the script, seeds, commits in the order in which they were measured at, hours, machines."""
    if not rows:
        return f"benchmarks/{script}: nothing is measured yet."
    seeds = sorted({row["seed"] for row in rows})
    commits = list(dict.fromkeys(row.get("commit", "unknown") for row in rows))
    machines = list(dict.fromkeys(_machine(row.get("machine", {})) for row in rows))
    hours = sum(row.get("seconds", 0.0) for row in rows) / 3600
    return (
        f"benchmarks/{script}: {len(rows)} cell{'s' * (len(rows) > 1)}, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}; commit{'s' * (len(commits) > 1)} {', '.join(commits)}; "
        f"{hours:.2f} hours of measuring; {'; '.join(machines)}."
    )


def _machine(facts: Mapping[str, Any]) -> str:
    threads = facts.get("threads") or "default"
    parts = [facts.get("cpu", "unknown processor"), f"{facts.get('cores', '?')} cores", f"OMP_NUM_THREADS {threads}"]
    return ", ".join([*parts, facts.get("system", ""), f"Python {facts.get('python', '?')}"])


def put(page: Path, region: str, text: str) -> None:
    """Replace what stands in the region; the page is written whole or not at all."""
    whole = _read(page)
    start, stop = _region(whole, page, region)
    with replacing(page) as file:
        file.write(f"{whole[:start]}\n\n{text.strip()}\n\n{whole[stop:]}".encode())


def marks(region: str) -> tuple[str, str]:
    """The comments around a region."""
    return f"<!-- tables: {region} -->", f"<!-- end of tables: {region} -->"


def _read(page: Path) -> str:
    try:
        return page.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{page}: expected a page of text: {error}") from error


def _region(whole: str, page: Path, region: str) -> tuple[int, int]:
    """Where the text between its marks starts and stops."""
    counts = tuple(whole.count(mark) for mark in marks(region))
    start, stop = (whole.find(mark) for mark in marks(region))
    if counts != (1, 1) or start > stop:
        first, last = marks(region)
        found = "them in the other order" if counts == (1, 1) else f"{counts[0]} and {counts[1]} of them"
        raise ConfigError(f"{page}: expected '{first}' and after it '{last}', once each, found {found}")
    return start + len(marks(region)[0]), stop


def markdown(columns: Sequence[str], rows: Rows) -> str:
    """The table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(value).replace('|', chr(92) + '|') for value in line)} |" for line in lines)


def print_table(title: str, columns: Sequence[str], rows: Rows) -> None:
    """A table on standard output; the first column is text, the others are right-aligned."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row))
    console().print(table)


def console() -> Console:
    """The terminal's width on a terminal; in a file or a pipe, wide enough that no row wraps."""
    return Console(width=None if sys.stdout.isatty() else 200)
