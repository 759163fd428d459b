"""``sottovoce evaluate`` of a language model: the perplexity of a packed file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sottovoce.data.text import TextCorpus
from sottovoce.data.text_folder import open_text
from sottovoce.evaluation import summarize, write_scores
from sottovoce.packed import file_sizes
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training.perplexity import score_split
from sottovoce.training.run import Run


def corpus_of(model: Path, data: Path) -> TextCorpus:
    """The text in ``data``, as the recipe of the run that the model lies in reads it."""
    run = model if model.is_dir() else model.parent
    corpus = Run.open(run)[1].corpus if (run / "config.yaml").is_file() else {}
    return open_text(data, corpus)


def perplexity_figures(
    file: Path,
    corpus: TextCorpus,
    split: str | None = None,
    *,
    context: str | None = None,
    arithmetic: Arithmetic = "int8",
    num_threads: int = 1,
    scores: Path | None = None,
) -> dict[str, Any]:
    """Perplexity and sizes of a packed file on a split, by default the one that the corpus reports on; ``scores``: a
    file for the log-probabilities of every token."""
    chosen = split or corpus.reported
    found = score_split(file, corpus, chosen, context=context, arithmetic=arithmetic, num_threads=num_threads)
    if scores is not None:
        write_scores(scores, found)
    return {"corpus": corpus.name, "split": chosen, **asdict(summarize(found)), **asdict(file_sizes(file))}


def perplexity_sentence(figures: dict[str, Any]) -> str:
    """The figures in words."""
    f = figures
    low, high = f["ci95"]
    by = f"{f['conversations']} conversations" if f["conversations"] >= 8 else f"{f['sentences']:,} sentences"
    pieces = "" if f["tokens"] == f["words"] else f", {f['per_token']:.2f} a piece"
    return (
        f"{f['corpus']} {f['split']}: perplexity {f['perplexity']:.2f}{pieces} (95 % interval {low:.2f} to {high:.2f} "
        f"over {by}), {f['words']:,} words with ends of sentences; model {f['model_bytes']:,} bytes, "
        f"{f['fp32_bytes'] / f['model_bytes']:.1f}x smaller than float32"
    )
