"""``sottovoce data``: prepare corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sottovoce.errors import ConfigError

app = typer.Typer(help="Prepare speech corpora.", no_args_is_help=True, rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  sottovoce data prepare synth --out data/synth --set train=3000
  sottovoce data prepare fsdd --source fsdd --out data/fsdd --set split=official
  sottovoce data prepare kaldi --source kaldi/data --out data/mine
  sottovoce data prepare table --source corpus.tsv --out data/mine --strict
"""


@app.callback()
def _data() -> None:
    """Prepare speech corpora."""


@app.command(epilog=_EXAMPLES)
def prepare(
    name: Annotated[str, typer.Argument(help="Corpus: synth, fsdd, kaldi or table.")],
    out: Annotated[Path, typer.Option(help="Folder to fill.")],
    source: Annotated[Path | None, typer.Option(help="Folder (or table) with the corpus; synth needs none.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Option of the corpus, key=value.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    strict: Annotated[bool, typer.Option(help="Refuse unusable audio, instead of skipping it.")] = False,
) -> None:
    """Turn a corpus into checked manifests (and audio, where strings are joined or synthesized)."""
    from sottovoce.data.prepare import prepare as run

    console = Console(stderr=True)
    with _progress(console) as progress:
        task = progress.add_task(name, total=None)
        prepared = run(
            name,
            source,
            out,
            parse_settings(settings or []),
            seed=seed,
            strict=strict,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    table = Table("split", "utterances", "words", title=str(prepared.folder))
    for split, count in prepared.counts.items():
        table.add_row(split, str(count), str(prepared.words[split]))
    Console().print(table)
    for item in prepared.skipped[:20]:
        console.print(f"skipped {item.id}: {item.reason}", markup=False, highlight=False)
    if prepared.skipped:
        console.print(f"skipped in all: {len(prepared.skipped)}")


def parse_settings(items: list[str]) -> dict[str, Any]:
    """``["train=30", "snr_db=[0, 20]"]`` as a mapping, values read as YAML. Raises ConfigError."""
    values: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set expects key=value, found {item!r}")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {key.strip()}: {text!r} is not a YAML value") from None
    return values


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
