"""``sottovoce evaluate``: the word error rate of a packed file on prepared data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sottovoce.decoding.search import Method
from sottovoce.evaluation.bootstrap import wer_interval
from sottovoce.evaluation.hypotheses import write_hypotheses
from sottovoce.evaluation.results import clusters_of, score_hypotheses
from sottovoce.evaluation.wer import total
from sottovoce.packed import file_sizes
from sottovoce.training.run import Run
from sottovoce.training.scoring import transcribe_split


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file, or a run folder.")],
    data: Annotated[Path, typer.Option(help="A folder made by 'sottovoce data prepare'.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    float_activations: Annotated[bool, typer.Option("--float-activations", help="Weight-only figures.")] = False,
    method: Annotated[Method, typer.Option(help="greedy or beam.")] = "greedy",
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses of the beam search.")] = 4,
    blank_penalty: Annotated[float, typer.Option(help="Nats taken from the blank's log-probability.")] = 0.0,
    hypotheses: Annotated[Path | None, typer.Option(help="Write the hypotheses to this .jsonl file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Run a packed file on a split and count its word errors, with a 95 % interval from a bootstrap by speaker.

    Example: `sottovoce evaluate runs/fsdd-4bit --data fsdd-data --split test`
    """
    file = Run(model).model if model.is_dir() else model
    found = transcribe_split(
        file, data, split, float_activations=float_activations, method=method, beam=beam, blank_penalty=blank_penalty
    )
    if hypotheses is not None:
        write_hypotheses(hypotheses, found)
    scored = score_hypotheses(found)
    counts, sizes = total(scored), file_sizes(file)
    low, high = wer_interval(scored, *clusters_of(found))
    figures = {
        "wer": round(counts.wer, 4), "errors": counts.errors, "words": counts.words,
        "substitutions": counts.substitutions, "insertions": counts.insertions, "deletions": counts.deletions,
        "ci95": [low, high], "file_bytes": sizes.file_bytes, "model_bytes": sizes.model_bytes, "fp32_bytes":
        sizes.fp32_bytes,
    }  # fmt: skip
    text = json.dumps(figures) if as_json else _sentence(split, figures)
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def _sentence(split: str, f: dict[str, object]) -> str:
    low, high = f["ci95"]  # type: ignore[misc]
    return (
        f"{split}: WER {f['wer']:.2f} % [{low:.2f}, {high:.2f}], {f['errors']} errors in {f['words']} words "  # type: ignore[has-type]
        f"({f['substitutions']} substitutions, {f['insertions']} insertions, {f['deletions']} deletions); "
        f"{f['model_bytes']:,} bytes"
    )
