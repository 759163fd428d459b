"""``sottovoce report``: runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sottovoce import __version__
from sottovoce.cli.outputs import check_file
from sottovoce.errors import ConfigError
from sottovoce.report import write_report
from sottovoce.report.headline import counted


def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run folders, or a folder of runs, the control first; NAME=FOLDER gives another name."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page; by default report.html in the first folder that is given.")
    ] = None,
    utterances: Annotated[int, typer.Option(min=0, help="Utterances with errors to show, aligned.")] = 30,
    recordings: Annotated[int, typer.Option(min=0, help="Of them, how many with their sound.")] = 10,
) -> None:
    """Write one page about runs: errors with intervals and significance, bytes, latency, bits of each layer, weights
    and their levels, sensitivities, what was heard, provenance. It needs no network, and shows what the folders hold;
    what they lack it names with the command that makes it.

    Examples:

        sottovoce report sottovoce-demo

        sottovoce report runs/fsdd runs/fsdd-4bit tiny=runs/fsdd-2bit --out fsdd.html
    """
    page = out or _default(runs[0])
    check_file(page)
    shown = write_report(runs, page, utterances=utterances, recordings=recordings, made_by=f"sottovoce {__version__}")
    size = page.stat().st_size
    text = f"{page}: {counted(len(shown), 'run')}, {size / 1e6:.1f} MB"
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def _default(first: str) -> Path:
    folder = Path(first if Path(first).exists() else first.partition("=")[2])
    if not folder.is_dir():
        raise ConfigError(f"{first}: expected a run folder, found {'a file' if folder.exists() else 'none'}")
    return folder / "report.html"
