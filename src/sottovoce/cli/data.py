"""``sottovoce data``: prepare corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sottovoce.cli.progress import progress_bar
from sottovoce.data.confusions.files import ConfusionOptions, LatticeForm, write_confusions
from sottovoce.data.prepare import CORPORA, TEXT_CORPORA
from sottovoce.data.prepare import prepare as run
from sottovoce.data.text_folder import open_text
from sottovoce.errors import ConfigError
from sottovoce.training.config import apply_override, load_recipe

app = typer.Typer(help="Prepare speech or text for training.", add_completion=False, rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  sottovoce data prepare synth --out data/synth --set train=3000
  sottovoce data prepare swda-synth --source swda --out data/swda-synth --set jobs=4
  sottovoce data prepare fsdd --source fsdd --out data/fsdd --set split=official
  sottovoce data prepare fsdd --recipe fsdd-speakers --source fsdd --out data/theo --set test_speakers=theo
  sottovoce data prepare an4 --source an4 --out data/an4 --set audio=mfc
  sottovoce data prepare librispeech --source LibriSpeech --out data/libri --set train_parts=train-clean-100
  sottovoce data prepare kaldi --source kaldi/data --out data/mine
  sottovoce data prepare swda --source swda --out data/swda
  sottovoce data prepare table --source corpus.tsv --out data/mine --strict
"""

_CONFUSE_EXAMPLES = """\b
Examples:
  sottovoce data confuse swda --source swda --split dev --wer 30 --out heard/dev
  sottovoce data confuse swda --source swda --noise 0.45 --out heard/test --lattices slf
"""


@app.callback()
def _data() -> None:
    """Prepare speech or text for training."""


@app.command(epilog=_EXAMPLES)
def prepare(
    name: Annotated[str, typer.Argument(help=f"Speech: {', '.join(CORPORA)}. Text: {', '.join(TEXT_CORPORA)}.")],
    out: Annotated[Path, typer.Option(help="Folder to fill.")],
    source: Annotated[Path | None, typer.Option(help="Folder (or table) with the corpus; synth needs none.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Take the corpus's options from a recipe: a file, or a name that ships.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Option of the corpus, key=value; goes before the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    strict: Annotated[bool, typer.Option(help="Refuse unusable audio, instead of skipping it.")] = False,
) -> None:
    """Turn a corpus of speech into checked manifests (and audio, where strings are joined or synthesized), or one of
    text into normalized sentences. Splits of text are those of its corpus."""
    console = Console(stderr=True)
    options = recipe_options(name, recipe) | parse_settings(settings or [])
    with progress_bar(console, name) as update:
        prepared = run(
            name,
            source,
            out,
            options,
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


@app.command(epilog=_CONFUSE_EXAMPLES)
def confuse(
    name: Annotated[str, typer.Argument(help=f"A text corpus: {', '.join(TEXT_CORPORA)}.")],
    source: Annotated[Path, typer.Option(help="Folder (or file) with the text, prepared or as it comes.")],
    out: Annotated[Path, typer.Option(help="Folder to fill: nbest.jsonl, references.tsv, lattices, confusions.json.")],
    split: Annotated[str | None, typer.Option(help="By default the one that the corpus reports on.")] = None,
    wer: Annotated[
        float | None, typer.Option(help="Words that are to be wrong, percent; the noise is found on this text.")
    ] = None,
    noise: Annotated[float | None, typer.Option(help="The noise instead, as found on another split.")] = None,
    nbest: Annotated[int, typer.Option(help="Texts an utterance.")] = 20,
    lattices: Annotated[LatticeForm, typer.Option(help="none, slf or kaldi.")] = "none",
    words: Annotated[
        Path | None, typer.Option(help="Vocabulary, word<TAB>count; by default the training text's, 3 times and more.")
    ] = None,
    utterances: Annotated[int | None, typer.Option(help="Only the first so many.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Option of the corpus, key=value.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
) -> None:
    """Mishear text: n-best lists and lattices as a recognizer with a chosen error rate would give them.

    Words become espeak-ng's phonemes; a channel loses, adds and blurs these by how they are articulated; a decoder over
    the vocabulary finds what can have been said, word boundaries included. Scores: "acoustic", the channel's own
    log-likelihood ratio, and "ngram", the word's unigram log-probability.
    """
    console = Console(stderr=True)
    options = ConfusionOptions(
        split=split,
        utterances=utterances,
        wer=wer,
        noise=noise,
        nbest=nbest,
        lattices=lattices,
        words=words,
        seed=seed,
    )
    corpus = open_text(source, {"name": name, "options": parse_settings(settings or [])})
    with progress_bar(console, name) as update:
        found = write_confusions(corpus, out, options, update)
    asked = "" if wer is None else f" ({wer:g} asked for)"
    typer.echo(
        f"{found.folder}: noise {found.noise:g}, WER {found.wer:.2f} %{asked}, oracle {found.oracle_wer:.2f} %, "
        f"{found.utterances} utterances, {found.words} words, {found.links} links, nothing heard of {found.silent}"
    )


def recipe_options(name: str, recipe: Path | None) -> dict[str, Any]:
    """Options of the corpus ``name`` in a recipe; none without one. Raises ConfigError for one of another corpus."""
    if recipe is None:
        return {}
    corpus = load_recipe(recipe).corpus
    if corpus.get("name") != name:
        raise ConfigError(f"--recipe {recipe}: expected one for the corpus {name!r}, found {corpus.get('name')!r}")
    return dict(corpus.get("options") or {})


def parse_settings(items: list[str]) -> dict[str, Any]:
    """``["train=30", "snr_db=[0, 20]"]`` as a mapping, values read as YAML. Raises ConfigError."""
    values: dict[str, Any] = {}
    for item in items:
        apply_override(values, item)
    return values
