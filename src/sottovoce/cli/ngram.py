"""``sottovoce ngram``: back-off language models; nothing here needs PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from sottovoce.cli.outputs import check_file
from sottovoce.cli.progress import progress_bar
from sottovoce.errors import ConfigError
from sottovoce.evaluation import perplexity_interval, segment_losses
from sottovoce.evaluation.perplexity import perplexity
from sottovoce.ngram import (
    UNK,
    Vocabulary,
    frequent_words,
    load_ngram,
    read_text,
    read_word_list,
    save_ngram,
    train_kneser_ney,
)
from sottovoce.ngram.files import check_name

app = typer.Typer(
    help="Train, measure and convert n-gram language models.", add_completion=False, rich_markup_mode=None
)

_TEXT = "UTF-8 files, one sentence a line, words between spaces; .gz too."
_TRAIN = """\b
Examples:
  sottovoce ngram train train.txt --order 4 --vocabulary words.txt --out lm.arpa.gz
  sottovoce ngram train a.txt b.txt.gz --order 3 --min-count 3 --prune 0,0,1 --out lm.safetensors
"""
_EVALUATE = """\b
Example:
  sottovoce ngram evaluate lm.arpa.gz dev.txt
"""
_CONVERT = """\b
Example:
  sottovoce ngram convert lm.arpa.gz lm.safetensors
"""


@app.callback()
def _ngram() -> None:
    """Train, measure and convert n-gram language models."""


@app.command(epilog=_TRAIN)
def train(
    text: Annotated[list[Path], typer.Argument(help=_TEXT)],
    out: Annotated[Path, typer.Option(help="File to write: .arpa, .arpa.gz, or .safetensors, which loads at once.")],
    order: Annotated[int, typer.Option(min=1, help="Longest n-gram.")] = 4,
    vocabulary: Annotated[Path | None, typer.Option(help="Word list, one a line; else the words of the text.")] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Without a word list: how often a word must occur.")] = 1,
    prune: Annotated[str, typer.Option(help="Leave out n-grams that occur no more often, by order: 0,0,1.")] = "0",
) -> None:
    """Estimate an interpolated modified Kneser-Ney model."""
    check_name(out)
    check_file(out)
    if vocabulary is not None and min_count > 1:
        raise ConfigError("--min-count chooses words of the text: it does not go with --vocabulary")
    cutoffs = _cutoffs(prune)
    sentences = read_text(text)
    given = frequent_words(sentences, min_count) if vocabulary is None else read_word_list(vocabulary)
    words = Vocabulary.of(given)
    with progress_bar(Console(stderr=True), "orders") as update:
        model, discounts = train_kneser_ney(words.encode(sentences), words, order, cutoffs, update)
    save_ngram(out, model)
    for k, (count, discount) in enumerate(zip(model.counts, discounts, strict=False), start=1):
        values = ", ".join(f"{value:.3f}" for value in discount.values)
        _show(
            f"{k}-grams: {count:,}, discounts {values}" + (" (fallback: too few counts)" if discount.fallback else "")
        )
    if model.order < order:
        _show(f"no sentence is long enough for {model.order + 1}-grams: the model's order is {model.order}")
    _show(f"{out}: {out.stat().st_size:,} bytes")


@app.command(epilog=_EVALUATE)
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file: ARPA, .gz too, or .safetensors.")],
    text: Annotated[list[Path], typer.Argument(help=_TEXT)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Perplexity of a text, </s> and <unk> counted, with a 95 % interval from a bootstrap by sentence."""
    found = load_ngram(model)
    sentences = found.vocabulary.encode(read_text(text))
    scores = found.score(sentences)
    losses = segment_losses(scores, sentences.tokens)
    # Fewer draws for a large text, whose interval is narrow anyway: 10,000 of 200,000 sentences take minutes.
    draws = max(1000, min(10_000, 10**8 // len(losses)))
    interval = None
    if len(losses) > 1:
        with progress_bar(Console(stderr=True), "draws of the interval") as update:
            interval = perplexity_interval(losses, sentences.tokens, draws=draws, progress=update)
    figures = {
        "perplexity": perplexity(scores), "ci95": interval, "sentences": len(losses), "tokens": len(scores),
        "unknown": int(np.count_nonzero(sentences.ids == found.vocabulary.unk)), "order": found.order,
    }  # fmt: skip
    _show(json.dumps(figures) if as_json else _sentence(figures))


@app.command(epilog=_CONVERT)
def convert(
    source: Annotated[Path, typer.Argument(help="A model file: ARPA, .gz too, or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="File to write: .arpa, .arpa.gz or .safetensors.")],
) -> None:
    """Write a model in another form, number for number the same."""
    check_name(out)
    check_file(out)
    save_ngram(out, load_ngram(source))
    _show(f"{out}: {out.stat().st_size:,} bytes")


def _cutoffs(prune: str) -> list[int]:
    parts = prune.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"--prune: expected whole numbers, commas between, found {prune!r}")
    return [int(part) for part in parts]


def _sentence(f: dict[str, Any]) -> str:
    interval = "" if f["ci95"] is None else " [{:.2f}, {:.2f}]".format(*f["ci95"])
    counts = f"{f['tokens']:,} tokens in {f['sentences']:,} sentences, {f['unknown']:,} {UNK}"
    return f"perplexity {f['perplexity']:.2f}{interval}, {counts}, order {f['order']}"


def _show(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
