"""``sottovoce evaluate``: the word error rate, or the perplexity, of a packed file on data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sottovoce.cli.inputs import model_file
from sottovoce.cli.outputs import check_file, json_text
from sottovoce.cli.perplexity import Ngram, corpus_of, perplexity_figures, perplexity_sentence
from sottovoce.cli.progress import progress_bar
from sottovoce.decoding.nbest_files import write_nbest
from sottovoce.decoding.search import Method
from sottovoce.errors import ConfigError
from sottovoce.evaluation.bootstrap import wer_interval
from sottovoce.evaluation.hypotheses import Hypothesis, write_hypotheses
from sottovoce.evaluation.results import clusters_of, score_hypotheses
from sottovoce.evaluation.wer import WordErrors, total
from sottovoce.packed import file_sizes, is_language_model, load_model
from sottovoce.runtime.fusion import LM_WEIGHT
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training.blank import best_blank_penalty, parse_penalties, tune_blank_penalty
from sottovoce.training.config import Recipe, RnntRecipe
from sottovoce.training.run import Run
from sottovoce.training.scoring import SearchOptions, nbest_split, transcribe_split


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file, or a run folder.")],
    data: Annotated[
        Path | None, typer.Option(help="The data's folder, as 'train' takes it; by default that of the run.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, dev, test; by default test, or what the text corpus reports on.")
    ] = None,
    arithmetic: Annotated[Arithmetic, typer.Option(help="int8, float (weight-only figures) or accelerator.")] = "int8",
    method: Annotated[Method, typer.Option(help="greedy or beam.")] = "greedy",
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses of the beam search.")] = 4,
    blank_penalty: Annotated[
        float | None,
        typer.Option(
            help="Nats taken from the blank's log-probability; by default what a run's recipe, or the file says."
        ),
    ] = None,
    blank_penalties: Annotated[
        str | None, typer.Option(help="Values to try, commas between; tells which is best. Not on test.")
    ] = None,
    lm: Annotated[
        Path | None,
        typer.Option(help="Of a recognizer with --method beam: a language model's file or run folder, n-grams too."),
    ] = None,
    lm_weight: Annotated[
        float | None, typer.Option(min=0, help="Factor of its log-probabilities; 0.3 by default.")
    ] = None,
    internal_lm_weight: Annotated[
        float, typer.Option(min=0, help="Factor of the recognizer's internal language model, which is taken off.")
    ] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the compiled kernels.")] = 1,
    hypotheses: Annotated[Path | None, typer.Option(help="Write the hypotheses to this .jsonl file.")] = None,
    nbest_out: Annotated[
        Path | None,
        typer.Option(help="Write n-best lists with acoustic scores to this .jsonl file, with --method beam."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Of a language model: sentence or conversation; by default as it was trained."),
    ] = None,
    ngram: Annotated[
        Path | None, typer.Option(help="An n-gram model to mix a language model with, as 'sottovoce ngram' writes it.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(help="Share of the language model in that mixture; by default the best on dev.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Write a language model's log-probabilities to this .jsonl file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; a list with --blank-penalties.")] = False,
) -> None:
    """Run a packed file on a split: a recognizer's word errors, with a 95 % interval from a bootstrap by speaker, a
    language model's perplexity, with one by conversation.

    Examples:

        sottovoce evaluate runs/lm --split dev

        sottovoce evaluate runs/lm --ngram swda.arpa.gz

        sottovoce evaluate runs/fsdd-4bit --data fsdd-data --split test

        sottovoce evaluate runs/fsdd --data fsdd-data --split dev --blank-penalties 0,0.5,1,1.5,2

        sottovoce evaluate runs/swda-synth --split dev --method beam --beam 32 --nbest-out dev.jsonl

        sottovoce evaluate runs/swda-synth --split dev --method beam --lm runs/lm --lm-weight 0.2
    """
    check_file(hypotheses, scores, nbest_out)
    file, own_data, recipe = _opened(model)
    of_language = is_language_model(load_model(file).architecture)
    data = data or own_data
    if data is None:
        raise ConfigError(f"{model}: expected --data, the folder of data to run it on")
    if of_language:
        _check_lm(
            method, beam, blank_penalty, blank_penalties, lm, lm_weight, internal_lm_weight, hypotheses, nbest_out
        )
        if weight is not None and ngram is None:
            raise ConfigError("--weight is the share in a mixture: expected --ngram beside it")
        found = perplexity_figures(
            file,
            corpus_of(model, data),
            split,
            context=context,
            arithmetic=arithmetic,
            num_threads=threads,
            scores=scores,
            ngram=None if ngram is None else Ngram(ngram, weight),
        )
        _show(json_text(found) if as_json else perplexity_sentence(found))
        return
    for name, value in (("--context", context), ("--scores", scores), ("--ngram", ngram), ("--weight", weight)):
        if value is not None:
            raise ConfigError(f"{name} is for language models; {file} is a recognizer")
    split = split or "test"
    if method != "beam" and beam != 4:
        raise ConfigError("--beam: a greedy search keeps one hypothesis: expected --method beam")
    _check_fusion(method, lm, lm_weight, internal_lm_weight)
    own = load_model(file).architecture.get("blank_penalty", 0.0)
    frozen = recipe.decoding.blank_penalty if isinstance(recipe, RnntRecipe) else own
    if blank_penalties is not None:
        _check_tuning(split, blank_penalty, lm, hypotheses, nbest_out)
        values = parse_penalties(blank_penalties)
        with progress_bar(Console(stderr=True), split) as update:
            tuned = tune_blank_penalty(
                file,
                data,
                split,
                values,
                arithmetic=arithmetic,
                method=method,
                beam=beam,
                num_threads=threads,
                progress=update,
            )
        _show(_table_json(tuned) if as_json else _table(split, tuned))
        return
    penalty = frozen if blank_penalty is None else blank_penalty
    search: SearchOptions = {
        "method": method, "beam": beam, "arithmetic": arithmetic, "blank_penalty": penalty, "num_threads": threads,
        "lm": lm, "lm_weight": lm_weight, "internal_lm_weight": internal_lm_weight,
    }  # fmt: skip
    if nbest_out is not None:
        _check_nbest(method, lm)
        with progress_bar(Console(stderr=True), split) as update:
            lists = nbest_split(file, data, split, update, **search)
        write_nbest(nbest_out, lists)
        transcribed = [Hypothesis(x.id, x.best.text, x.speaker, x.recording, x.reference) for x in lists]
    else:
        with progress_bar(Console(stderr=True), split) as update:
            transcribed = transcribe_split(file, data, split, update, **search)
    if hypotheses is not None:
        write_hypotheses(hypotheses, transcribed)
    scored = score_hypotheses(transcribed)
    sizes = file_sizes(file)
    interval = wer_interval(scored, *clusters_of(transcribed)) if len(scored) > 1 else None
    factor = LM_WEIGHT if lm_weight is None else lm_weight
    fusion = {} if lm is None else {"lm": str(lm), "lm_weight": factor, "internal_lm_weight": internal_lm_weight}
    figures = {
        **_counts(total(scored)), "blank_penalty": penalty, **fusion, "ci95": interval and list(interval),
        "file_bytes": sizes.file_bytes, "model_bytes": sizes.model_bytes, "fp32_bytes": sizes.fp32_bytes,
    }  # fmt: skip
    _show(json_text(figures) if as_json else _sentence(split, figures))


def _opened(model: Path) -> tuple[Path, Path | None, Recipe | None]:
    """The file to run, and the data and the recipe of the run folder that it lies in."""
    if not (model / "config.yaml").exists():
        return model_file(model), None, None
    _, recipe, data = Run.open(model)
    return model_file(model), data, recipe


def _check_lm(
    method: Method,
    beam: int,
    blank_penalty: float | None,
    blank_penalties: str | None,
    lm: Path | None,
    lm_weight: float | None,
    internal_lm_weight: float,
    hypotheses: Path | None,
    nbest_out: Path | None,
) -> None:
    given = (
        ("--method", method != "greedy"),
        ("--beam", beam != 4),
        ("--blank-penalty", blank_penalty is not None),
        ("--blank-penalties", blank_penalties is not None),
        ("--lm", lm is not None),
        ("--lm-weight", lm_weight is not None),
        ("--internal-lm-weight", internal_lm_weight > 0),
        ("--hypotheses", hypotheses is not None),
        ("--nbest-out", nbest_out is not None),
    )
    for name, used in given:
        if used:
            raise ConfigError(f"{name} is for recognizers; this file is a language model")


def _check_fusion(method: Method, lm: Path | None, lm_weight: float | None, internal_lm_weight: float) -> None:
    if lm is not None and method != "beam":
        raise ConfigError("--lm: a language model needs a beam search: expected --method beam")
    if lm is None and lm_weight is not None:
        raise ConfigError("--lm-weight: expected --lm, the language model that it is the weight of")
    if lm is None and internal_lm_weight:
        raise ConfigError("--internal-lm-weight: expected --lm, a language model in the place of the internal one")


def _check_nbest(method: Method, lm: Path | None) -> None:
    if method != "beam":
        raise ConfigError("--nbest-out: a greedy search has one transcript: expected --method beam")
    if lm is not None:
        raise ConfigError("--nbest-out keeps acoustic scores, for 'rescore': it does not go with --lm")


def _check_tuning(
    split: str, blank_penalty: float | None, lm: Path | None, hypotheses: Path | None, nbest_out: Path | None
) -> None:
    if split == "test":
        raise ConfigError("--blank-penalties chooses a value, which a test set must not: expected --split dev")
    given = (
        ("--blank-penalty", blank_penalty), ("--lm", lm), ("--hypotheses", hypotheses), ("--nbest-out", nbest_out),
    )  # fmt: skip
    for name, value in given:
        if value is not None:
            raise ConfigError(f"--blank-penalties tries several values: it does not go with {name}")


def _counts(counts: WordErrors) -> dict[str, Any]:
    return {
        "wer": round(counts.wer, 4), "errors": counts.errors, "words": counts.words,
        "substitutions": counts.substitutions, "insertions": counts.insertions, "deletions": counts.deletions,
    }  # fmt: skip


def _sentence(split: str, f: dict[str, Any]) -> str:
    interval = f" [{f['ci95'][0]:.2f}, {f['ci95'][1]:.2f}]" if f["ci95"] else ""
    decoded = f", blank penalty {f['blank_penalty']:g}" if f["blank_penalty"] else ""
    decoded += f", language model's weight {f['lm_weight']:g}" if "lm" in f else ""
    return f"{split}: WER {f['wer']:.2f} %{interval}, {_errors(f)}{decoded}; {f['model_bytes']:,} bytes"


def _errors(f: dict[str, Any]) -> str:
    return (
        f"{f['errors']} errors in {f['words']} words "
        f"({f['substitutions']} substitutions, {f['insertions']} insertions, {f['deletions']} deletions)"
    )


def _table(split: str, tuned: list[tuple[float, WordErrors]]) -> str:
    lines = [f"{split}, blank penalty {p:g}: WER {c.wer:.2f} %, {_errors(_counts(c))}" for p, c in tuned]
    best = f"best: {best_blank_penalty(tuned):g}; the recipe keeps it as decoding.blank_penalty"
    return "\n".join([*lines, best])


def _table_json(tuned: list[tuple[float, WordErrors]]) -> str:
    best = best_blank_penalty(tuned)
    return json_text([{"blank_penalty": p, **_counts(c), "best": p == best} for p, c in tuned])


def _show(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
