"""``sottovoce compress``: a trained run to a packed file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from pydantic import ValidationError
from rich.console import Console

from sottovoce.cli.perplexity import corpus_of, perplexity_figures, perplexity_sentence
from sottovoce.errors import ConfigError
from sottovoce.packed import file_sizes, load_model
from sottovoce.quant import BitPlan
from sottovoce.quant.spec import KINDS, PLAN_GROUPINGS
from sottovoce.settings import first_invalid
from sottovoce.training.arms import Job, carry_out, new_module, plan_for
from sottovoce.training.config import CompressionConfig, LmRecipe, Recipe, apply_override, parse_recipe, with_scheme
from sottovoce.training.rounding import round_file
from sottovoce.training.run import Run
from sottovoce.training.searching import not_trained

_SCHEMES = get_args(CompressionConfig.model_fields["scheme"].annotation)


def compress(
    run: Annotated[
        Path, typer.Argument(help="A run folder made by 'sottovoce train', or, with --scheme ptq, a model file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the compressed run; an interrupted one is resumed. By default RUN-SCHEME-BITSbit, "
            "or RUN-SCHEME-plan-HASH with a plan."
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="A bit plan (plan.json), in place of --bits, --kind and --grouping.")
    ] = None,
    bits: Annotated[int | None, typer.Option(min=1, max=8, help="Bits a weight.")] = None,
    scheme: Annotated[str | None, typer.Option(help=f"One of {', '.join(_SCHEMES)}.")] = None,
    kind: Annotated[str | None, typer.Option(help=f"Levels: {', '.join(KINDS)}.")] = None,
    grouping: Annotated[str | None, typer.Option(help=f"One scale for each: {', '.join(PLAN_GROUPINGS)}.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override of the recipe's compression section; repeatable.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data; by default the run's own.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed; by default the run's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all cores.")] = None,
) -> None:
    """Compress a trained run and write `OUT/model.safetensors`. A language model is then run on the text that its
    corpus reports on. A model file, imported for one, can be rounded without data.

    Example: `sottovoce compress runs/fsdd --bits 4 --out runs/fsdd-4bit --set phase.epochs=3`
    """
    if plan is not None:
        _check_plan_alone(bits, kind, grouping)
    choices: dict[str, Any] = {
        "plan": None if plan is None else _plan(plan),
        "bits": bits,
        "scheme": scheme,
        "kind": kind,
        "grouping": grouping,
    }
    choices = {k: v for k, v in choices.items() if v is not None}
    if run.is_file():
        for name, value in (("--data", data), ("--seed", seed)):
            if value is not None:
                raise ConfigError(f"{name} is for runs: a model file alone is rounded without data")
        torch.set_num_threads(threads or os.cpu_count() or 1)
        _report_sizes(_rounded(run, choices, settings or [], out))
        return
    trained, made_by, folder = Run.open(run)
    recipe = _with(made_by, choices, settings or [])
    forks = recipe.fork_epoch is not None and recipe.compression.scheme != "ptq"
    if forks:
        _check_fork(run, made_by, recipe, data is not None, seed)
    start = trained.fork if forks else trained.module
    for needed in (trained.model, trained.module, start):
        if not needed.is_file():
            raise not_trained(trained, needed)
    plan_for(recipe.compression, new_module(recipe, load_model(trained.model)).model)  # before anything is written
    job = Job(
        recipe=recipe,
        data=data or folder,
        base=trained.folder,
        module=start,
        folder=out or _folder(run, recipe),
        compression=recipe.compression,
        seed=recipe.seed if seed is None else seed,
        threads=threads or os.cpu_count() or 1,
        validate=True,
        progress=True,
    )
    made = carry_out(job)
    _report_sizes(made)
    if isinstance(recipe, LmRecipe):
        figures = perplexity_figures(made, corpus_of(made, job.data), num_threads=job.threads)
        Console(highlight=False, soft_wrap=True).print(perplexity_sentence(figures), markup=False)


def _report_sizes(made: Path) -> None:
    sizes = file_sizes(made)
    ratio = sizes.fp32_bytes / sizes.model_bytes
    found = f"{sizes.file_bytes:,} bytes, the model {sizes.model_bytes:,}: {ratio:.1f}x smaller than float32"
    Console(highlight=False, soft_wrap=True).print(f"{made}: {found}", markup=False)


def _rounded(path: Path, choices: dict[str, Any], overrides: list[str], out: Path | None) -> Path:
    """A model file alone, by its own plan, or the defaults of one."""
    section: dict[str, Any] = {"scheme": "ptq", **choices}
    for override in overrides:
        apply_override(section, override)
    try:
        settings = CompressionConfig.model_validate(section)
    except ValidationError as error:
        where, why = first_invalid(error)
        raise ConfigError(f"compression.{where}: {why}") from error
    width = f"{settings.bits}bit" if settings.plan is None else f"plan-{_digest(settings.plan)}"
    return round_file(path, settings, out or path.parent / f"{path.stem}-{settings.scheme}-{width}")


def _folder(run: Path, recipe: Recipe) -> Path:
    """Beside the run, named by what is done to it."""
    section = recipe.compression
    width = f"{section.bits}bit" if section.plan is None else f"plan-{_digest(section.plan)}"
    return run.resolve().parent / f"{run.resolve().name}-{section.scheme}-{width}"


def _digest(plan: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]


def _plan(path: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(BitPlan.load(path).to_json())
    return plan


def _check_plan_alone(bits: int | None, kind: str | None, grouping: str | None) -> None:
    for name, value in (("--bits", bits), ("--kind", kind), ("--grouping", grouping)):
        if value is not None:
            raise ConfigError(f"--plan says bits, kind and grouping of every weight: it does not go with {name}")


def _with(recipe: Recipe, choices: dict[str, object], overrides: list[str]) -> Recipe:
    """The recipe with another compression section, checked. What belongs to one scheme is not handed to another."""
    data = recipe.model_dump(mode="json")
    chosen: dict[str, Any] = dict(choices)
    for override in overrides:
        apply_override(chosen, override)
    scheme = chosen.get("scheme", recipe.compression.scheme)
    section = with_scheme(recipe.compression, str(scheme)).model_dump(mode="json")
    spoken = [key for key in ("bits", "kind", "grouping", "zero") if key in chosen]
    if spoken and chosen.get("plan") is not None:
        raise ConfigError(f"--set {spoken[0]}: the plan says it of every weight; leave one of them out")
    if spoken:
        section["plan"] = None  # the recipe's, which says these of every weight
    section.update(choices)
    for override in overrides:
        apply_override(section, override)
    data["compression"] = section
    return parse_recipe(data, "compress")


def _check_fork(run: Path, made_by: Recipe, recipe: Recipe, data: bool, seed: int | None) -> None:
    """A fork goes on with its own training: the same data, batches and schedule. Raises ConfigError otherwise."""
    own, asked = made_by.compression, recipe.compression
    if recipe.fork_epoch != made_by.fork_epoch:
        raise ConfigError(
            f"{run}: expected compression.fork_at as in its own training ({own.fork_at}), found {asked.fork_at}"
        )
    changed = "compression.phase" if asked.phase != own.phase else "--data" if data else "--seed"
    if asked.phase != own.phase or data or seed not in (None, made_by.seed):
        raise ConfigError(
            f"{run}: {changed} is for the trained model; this recipe forks at {asked.fork_at} of its training and goes "
            "on with the rest of it (--set fork_at=null starts from the end)"
        )
