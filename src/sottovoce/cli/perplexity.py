"""``sottovoce evaluate`` of a language model: the perplexity of a packed file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sottovoce.cli.progress import progress_bar
from sottovoce.data.text import TextCorpus
from sottovoce.data.text_folder import open_text
from sottovoce.decoding.vocabulary import read_vocabulary
from sottovoce.errors import ConfigError
from sottovoce.evaluation import SentenceScore, mix_scores, mixture_weights, summarize, write_scores
from sottovoce.evaluation.scores import stream
from sottovoce.ngram import load_ngram
from sottovoce.packed import file_sizes, load_model
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training.perplexity import ngram_scores, score_split
from sottovoce.training.run import Run

Scores = dict[str, list[SentenceScore]]


def corpus_of(model: Path, data: Path) -> TextCorpus:
    """The text in ``data``, as the recipe of the run that the model lies in reads it."""
    run = model if model.is_dir() else model.parent
    corpus = Run.open(run)[1].corpus if (run / "config.yaml").is_file() else {}
    return open_text(data, corpus)


@dataclass(frozen=True)
class Ngram:
    """An n-gram model's file, and the language model's share beside it; None finds the best share on dev by EM."""

    file: Path
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise ConfigError(f"--weight: expected a number from 0 to 1, found {self.weight}")


def perplexity_figures(
    file: Path,
    corpus: TextCorpus,
    split: str | None = None,
    *,
    context: str | None = None,
    arithmetic: Arithmetic = "int8",
    num_threads: int = 1,
    scores: Path | None = None,
    ngram: Ngram | None = None,
) -> dict[str, Any]:
    """Perplexity and sizes of a packed file on a split, by default the one that the corpus reports on; ``scores``: a
    file for the log-probabilities of every token; ``ngram``: the perplexity of the mixture with it, too, and in
    ``weight_fitted_on`` the split that its weight was fitted on, None for a weight that was given."""

    def scored(name: str) -> list[SentenceScore]:
        with progress_bar(Console(stderr=True), name) as update:
            return score_split(
                file, corpus, name, context=context, arithmetic=arithmetic, num_threads=num_threads, progress=update
            )

    chosen = split or corpus.reported
    splits = [chosen] if ngram is None or ngram.weight is not None else list(dict.fromkeys([chosen, "dev"]))
    others = {} if ngram is None else _by_ngram(ngram, file, corpus, splits)  # first: it may be of other words
    found = {name: scored(name) for name in splits}
    figures = {"corpus": corpus.name, "split": chosen, **asdict(summarize(found[chosen])), **asdict(file_sizes(file))}
    if ngram is not None:
        figures |= _mixture(ngram.weight, chosen, found, others)
    if scores is not None:
        write_scores(scores, found[chosen])
    return figures


def _by_ngram(ngram: Ngram, file: Path, corpus: TextCorpus, splits: list[str]) -> Scores:
    model, vocabulary = load_ngram(ngram.file), read_vocabulary(load_model(file).tokenizer or b"")
    return {name: ngram_scores(model, vocabulary, corpus, name) for name in splits}


def _mixture(weight: float | None, split: str, found: Scores, others: Scores) -> dict[str, Any]:
    """Figures of the n-gram model and of both together; a weight that is None is fitted on dev."""
    share = weight
    if share is None:
        share = float(mixture_weights([stream(scores["dev"]) for scores in (found, others)]).weights[0])
    mixed = summarize(mix_scores([found[split], others[split]], [share, 1 - share]))
    return {
        "ngram": asdict(summarize(others[split])),
        "mixed": asdict(mixed),
        "weight": share,
        "weight_fitted_on": "dev" if weight is None else None,
    }


def perplexity_sentence(figures: dict[str, Any]) -> str:
    """The figures in words."""
    f = figures
    by = f"{f['conversations']} conversations" if f["conversations"] >= 8 else f"{f['sentences']:,} sentences"
    pieces = "" if f["tokens"] == f["words"] else f", {f['per_token']:.2f} a piece"
    mixed = f"; with the n-gram (alone {_interval(f['ngram'])}) " if "ngram" in f else ""
    mixed += f"at weights {f['weight']:.2f} and {1 - f['weight']:.2f} {_interval(f['mixed'])}" if mixed else ""
    if f.get("weight_fitted_on") == f["split"]:
        mixed += " (weight fitted on this same text)"
    return (
        f"{f['corpus']} {f['split']}: perplexity {_interval(f)}{pieces}{mixed}, 95 % intervals over {by}; "
        f"{f['words']:,} words with ends of sentences; model {f['model_bytes']:,} bytes, "
        f"{f['fp32_bytes'] / f['model_bytes']:.1f}x smaller than float32"
    )


def _interval(figures: dict[str, Any]) -> str:
    low, high = figures["ci95"]
    return f"{figures['perplexity']:.2f} [{low:.2f}, {high:.2f}]"
