"""``sottovoce search``: which bits each matrix of a trained run gets."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from sottovoce.cli.outputs import check_folder
from sottovoce.cli.progress import progress_bar
from sottovoce.cli.search_metrics import SETTINGS, batches_for, parse_settings, search_by
from sottovoce.errors import ConfigError
from sottovoce.packed import GROUPINGS
from sottovoce.quant import BandSpec
from sottovoce.quant.spec import KINDS
from sottovoce.search import SensitivityTable, clusters
from sottovoce.search.clustering import LEVELS
from sottovoce.search.drawing import bits_of_layers, check_picture
from sottovoce.search.measuring import sized, widths_of
from sottovoce.training.allocator import keep_freed_memory
from sottovoce.training.searching import epoch_seconds, load_prototypes, search_inputs

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_KNOWN = "; ".join(f"{metric}: {', '.join(known)}" for metric, known in SETTINGS.items()) + "."


class Metric(StrEnum):
    """What a width is judged by."""

    kl = "kl"
    hessian = "hessian"
    nas = "nas"


def search(
    run: Annotated[Path | None, typer.Argument(help="A run folder made by 'sottovoce train'.")] = None,
    models: Annotated[
        str | None, typer.Option(help="Instead of a run: asr=RUN,lm=RUN, for one budget of both.")
    ] = None,
    metric: Annotated[Metric | None, typer.Option(help="What a width is judged by; kl by default.")] = None,
    bits: Annotated[
        str | None, typer.Option(help="Widths to choose from; by default 1,2,4,8, or those of the prototypes.")
    ] = None,
    average_bits: Annotated[float | None, typer.Option(help="Most bits a weight, on average.")] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="Most bytes of the model, everything but the tokenizer counted: 1.3MB, 900KiB.")
    ] = None,
    min_bits: Annotated[int, typer.Option(min=1, max=8, help="No fewer for any cluster.")] = 1,
    by: Annotated[str, typer.Option(help=f"Clusters: {', '.join(LEVELS)}.")] = "gate",
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Bands of rows as clusters of their own: WEIGHT=BORDER,...; repeatable."),
    ] = None,
    bands: Annotated[
        bool,
        typer.Option(
            help="As clusters of their own the bands of rows that the model names: a vocabulary's frequent words."
        ),
    ] = True,
    kind: Annotated[str, typer.Option(help=f"Levels: {', '.join(KINDS)}.")] = "uniform",
    zero: Annotated[
        bool, typer.Option("--zero", help="Zero among evenly spaced levels, as published: ternary at 2 bits.")
    ] = False,
    grouping: Annotated[str, typer.Option(help=f"One scale for each: {', '.join(GROUPINGS)}.")] = "row",
    utterances: Annotated[
        int | None,
        typer.Option(min=1, help="Utterances to measure on: by default 32 of training, or 200 of dev with --models."),
    ] = None,
    nbest: Annotated[int | None, typer.Option(min=2, help="With --models: entries of each list; 8 by default.")] = None,
    probes: Annotated[
        int | None, typer.Option(min=1, help="With --metric hessian: draws for the trace; 16 by default.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="With --metric nas: gradients of each of its six rounds; 200 by default.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help=f"Setting of the metric, KEY=VALUE; repeatable. {_KNOWN}")
    ] = None,
    prototypes: Annotated[
        str | None,
        typer.Option(
            help="BITS=RUN,...: runs compressed from this one at one width each, whose weights are tried in place of "
            "rounded ones."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data; by default the run's own.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the plan goes; by default RUN/plan.json.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="Draw the sensitivities and the front here.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample and the draws.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all cores.")] = None,
) -> None:
    """Choose the bits of each matrix within a budget and write `RUN/plan.json` for `sottovoce compress --plan`.

    What was found is kept in `RUN/search`, so that an interrupted search goes on. For sensitivities (kl, hessian)
    another budget costs nothing; an architecture search (nas) is for one budget.

    With `--models` the budget is one for a recognizer and its language model, split by how far each cluster's rounding
    moves the word errors to be expected of the recognizer's n-best lists of dev, which both score; a plan goes into
    each run, and `--rows` begins with the role (`lm:output.weight=1000`).

    Examples:

        sottovoce search runs/fsdd --metric hessian --average-bits 2.5

        sottovoce search runs/lm --metric hessian --set distribution=gaussian --set probes=50 --average-bits 2

        sottovoce search runs/lm --prototypes 2=runs/lm-2bit,4=runs/lm-4bit --average-bits 3

        sottovoce search --models asr=runs/swda-synth,lm=runs/lm --max-bytes 4MB
    """
    if average_bits is None and max_bytes is None:
        raise ConfigError("a budget is needed: --average-bits, --max-bytes or both")
    if (run is None) == (models is None):
        given = "both" if run else "neither"
        raise ConfigError(f"expected a run folder or else --models asr=RUN,lm=RUN, found {given}")
    check_folder(out, picture)
    if picture is not None:
        check_picture(picture)
    most = None if max_bytes is None else parse_bytes(max_bytes)
    borders, levels = parse_rows(rows or []), BandSpec(8, kind, grouping, zero=zero or None)
    trained = {} if prototypes is None else parse_prototypes(prototypes)
    widths = parse_bits(bits) if bits is not None else sorted(trained) or [1, 2, 4, 8]
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    if run is None:
        _joint(
            str(models),
            {
                "--metric": metric, "--out": out, "--set": settings, "--prototypes": prototypes, "--probes": probes,
                "--steps": steps,
            },
            widths=widths, average_bits=average_bits, max_bytes=most, min_bits=min_bits, by=by, rows=borders,
            bands=bands, levels=levels, data=data, utterances=utterances or 200, nbest=nbest or 8, seed=seed,
            picture=picture,
        )  # fmt: skip
        return
    if nbest is not None:
        raise ConfigError("--nbest is for --models, whose lists it is about")
    metric = metric or Metric.kl
    chosen = parse_settings(metric.value, {"probes": probes, "steps": steps}, settings or [], seed)
    inputs = search_inputs(run, data=data, utterances=utterances or 32, seed=seed, batches=batches_for(chosen))
    found = clusters(inputs.module.model, by, {**(inputs.module.row_borders() if bands else {}), **borders})
    sizes = sized(inputs.module.model, found, widths_of(widths, None), levels, inputs.fields, inputs.tokenizer_bytes)
    sizes.check_budget(average_bits, most, min_bits)
    options: dict[str, Any] = {
        "bits": widths,
        "by": found,
        "levels": levels,
        "prototypes": load_prototypes(trained, run) if trained else None,
        "fields": inputs.fields,
        "tokenizer_bytes": inputs.tokenizer_bytes,
        "cache": run / "search",
    }
    begin = time.perf_counter()
    with progress_bar(Console(stderr=True), metric.value) as update:
        budget = _average_within(sizes, average_bits, most)
        table = search_by(metric.value, inputs.module, inputs.batches, chosen, budget, **options, progress=update)
    searched = time.perf_counter() - begin
    allocated = _write(table, run, out or run / "plan.json", average_bits, most, min_bits, picture)
    tell_seconds(metric.value, table, searched, allocated, [run])


def _joint(models: str, for_one: Mapping[str, object], **options: Any) -> None:
    """Refuses what is for one run; the rest is ``joint_search``."""
    for name, given in for_one.items():
        if given is not None:
            raise ConfigError(f"{name} is for one run: --models judges by word errors and writes a plan into each run")
    from sottovoce.cli.joint_search import joint_search, parse_models  # recognizers take long to import

    runs = parse_models(models)
    folders = list(runs.values())

    def told(table: SensitivityTable, searched: float, allocated: float) -> None:
        tell_seconds(table.metric, table, searched, allocated, folders)

    joint_search(runs, **options, told=told)


def _average_within(sizes: SensitivityTable, average_bits: float | None, max_bytes: int | None) -> float:
    """The average that both budgets allow."""
    given = [] if average_bits is None else [average_bits]
    return min(given + ([] if max_bytes is None else [sizes.average_within(max_bytes)]))


def _write(
    table: SensitivityTable,
    run: Path,
    out: Path,
    average_bits: float | None,
    max_bytes: int | None,
    min_bits: int,
    picture: Path | None,
) -> float:
    """Choose, write and print; the seconds that choosing took."""
    begin = time.perf_counter()
    choice = table.choose(average_bits=average_bits, max_bytes=max_bytes, min_bits=min_bits)
    seconds = time.perf_counter() - begin
    try:
        table.save(run / "sensitivity.json")
        choice.plan.save(out)
    except OSError as error:
        raise ConfigError(f"{out}: the plan cannot be written ({error.strerror})") from error
    console = Console(highlight=False)
    console.print(bits_of_layers(table, choice))
    ratio = 4 * table.parameters / choice.model_bytes
    console.print(f"{out}: at most {choice.model_bytes:,} bytes, {ratio:.1f}x smaller than float32", soft_wrap=True)
    if picture is not None:
        table.plot(picture)
    return seconds


def tell_seconds(metric: str, table: SensitivityTable, searched: float, allocated: float, runs: Sequence[Path]) -> None:
    """What the search took, on the error stream beside an epoch of the runs' training where that is recorded."""
    epochs = [f"{seconds:.1f} s ({run})" for run in runs if (seconds := epoch_seconds(run)) is not None]
    typer.echo(
        f"{metric} of {len(table.clusters)} clusters at {len(table.bits)} widths: {searched:.1f} s"
        + (f"; an epoch of training: {', '.join(epochs)}" if epochs else "")
        + f"; allocation: {allocated:.3f} s",
        err=True,
    )


def parse_bytes(text: str) -> int:
    """``1.3MB``, ``900KiB``, ``4000`` as bytes. Raises ConfigError for anything else."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?)?b?\s*", text, re.IGNORECASE)
    if not found:
        raise ConfigError(f"--max-bytes {text}: expected a size like 1.3MB, 900KiB or 4000")
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def parse_bits(text: str) -> list[int]:
    """``1,2,4`` as numbers. Raises ConfigError for anything else."""
    try:
        return [int(item) for item in text.split(",")]
    except ValueError:
        raise ConfigError(f"--bits {text}: expected whole numbers with commas between") from None


def parse_prototypes(text: str) -> dict[int, Path]:
    """``2=RUN,4=RUN`` as folders by bits. Raises ConfigError for anything else."""
    found: dict[int, Path] = {}
    for item in text.split(","):
        bits, equals, folder = item.strip().partition("=")
        if not (equals and folder and bits in "12345678" and len(bits) == 1) or int(bits) in found:
            raise ConfigError(
                f"--prototypes {text}: expected BITS=RUN,... with bits from 1 to 8, found {item.strip()!r}"
            )
        found[int(bits)] = Path(folder)
    return found


def parse_rows(items: list[str]) -> dict[str, list[int]]:
    """``output.weight=1000,4000`` as borders by weight. Raises ConfigError for anything else."""
    found = {}
    for item in items:
        name, equals, text = item.partition("=")
        try:
            if not (name and equals):
                raise ValueError
            found[name] = [int(border) for border in text.split(",")]
        except ValueError:
            raise ConfigError(f"--rows {item}: expected WEIGHT=BORDER,... as in output.weight=1000") from None
    return found
