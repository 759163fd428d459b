"""Options of the benchmarks whose finished cells are kept, and where these lie."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cells import Cells
from tables import add_page_option

from sottovoce.errors import ConfigError
from sottovoce.settings import read_settings

RESULTS = Path(__file__).parent / "results"


def add_options(
    parser: argparse.ArgumentParser, *, quick: str, work: str, holds: str = "", workers: int | None = None
) -> None:
    """``--quick`` (``quick``: what of it all), ``--table``, ``--page``, ``--work`` (``holds``: what), ``--results``;
    ``--workers`` where a script has them (``workers``: how many)."""
    parser.add_argument("--quick", action="store_true", help=f"{quick}: checks the script only")
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--work", type=Path, default=Path(work), help=holds or "everything but finished cells")
    parser.add_argument("--results", type=Path, help="by default in benchmarks/results, of a quick check under --work")
    if workers is not None:
        parser.add_argument("--workers", type=int, default=workers, help="processes, of one thread each")


def kept_cells(options: argparse.Namespace, name: str) -> Cells:
    """The finished cells of ``--results``, else of ``results/NAME.jsonl``, where a quick check leaves none."""
    kept = options.work / "quick.jsonl" if options.quick else RESULTS / f"{name}.jsonl"
    return Cells(options.results or kept)


def read_plan(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """What a benchmark measures, as its plan file (YAML) says it. Raises ConfigError for a file that cannot be read or
    lacks one of ``keys``."""
    found = read_settings(path, "plan")
    if missing := [key for key in keys if key not in found]:
        raise ConfigError(f"{path}: expected {', '.join(missing)} in the plan, found {', '.join(found) or 'nothing'}")
    return found
