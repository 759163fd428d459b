"""``sottovoce data``: prepare corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sottovoce.cli.progress import progress_bar
from sottovoce.data.prepare import CORPORA, TEXT_CORPORA
from sottovoce.data.prepare import prepare as run
from sottovoce.training.config import apply_override

app = typer.Typer(help="Prepare speech or text for training.", add_completion=False, rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  sottovoce data prepare synth --out data/synth --set train=3000
  sottovoce data prepare swda-synth --source swda --out data/swda-synth --set jobs=4
  sottovoce data prepare fsdd --source fsdd --out data/fsdd --set split=official
  sottovoce data prepare an4 --source an4 --out data/an4 --set audio=mfc
  sottovoce data prepare librispeech --source LibriSpeech --out data/libri --set train_parts=train-clean-100
  sottovoce data prepare kaldi --source kaldi/data --out data/mine
  sottovoce data prepare swda --source swda --out data/swda
  sottovoce data prepare table --source corpus.tsv --out data/mine --strict
"""


@app.callback()
def _data() -> None:
    """Prepare speech or text for training."""


@app.command(epilog=_EXAMPLES)
def prepare(
    name: Annotated[str, typer.Argument(help=f"Speech: {', '.join(CORPORA)}. Text: {', '.join(TEXT_CORPORA)}.")],
    out: Annotated[Path, typer.Option(help="Folder to fill.")],
    source: Annotated[Path | None, typer.Option(help="Folder (or table) with the corpus; synth needs none.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Option of the corpus, key=value.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    strict: Annotated[bool, typer.Option(help="Refuse unusable audio, instead of skipping it.")] = False,
) -> None:
    """Turn a corpus of speech into checked manifests (and audio, where strings are joined or synthesized), or one of
    text into normalized sentences. Splits of text are those of its corpus."""
    console = Console(stderr=True)
    with progress_bar(console, name) as update:
        prepared = run(
            name,
            source,
            out,
            parse_settings(settings or []),
            seed=seed,
            strict=strict,
            progress=update,
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
        apply_override(values, item)
    return values
