"""``sottovoce demo``: the whole of it in one command, on speech made here or on a corpus of the user's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from sottovoce.cli.bench import write_figures
from sottovoce.cli.progress import progress_bar
from sottovoce.data.prepare import prepare
from sottovoce.errors import ConfigError
from sottovoce.evaluation.bench import bench_in_turns
from sottovoce.evaluation.results import ResultRow
from sottovoce.report.headline import headline, judged
from sottovoce.report.opening import open_runs
from sottovoce.report.runs import BENCH
from sottovoce.report.systems import measured
from sottovoce.training.comparison import Arm, compare, default_arms
from sottovoce.training.config import RnntRecipe, load_rnnt_recipe, shipped_recipes
from sottovoce.training.run import Run, make_folder
from sottovoce.training.train import train

NAMED = "s8bqat-5"  # the arm of the last line


def demo(
    data: Annotated[
        str, typer.Option(help="'synth', or a corpus and its folder as NAME:DIR, such as fsdd:DIR.")
    ] = "synth",
    preset: Annotated[
        Literal["small", "full"], typer.Option(help="small takes minutes on two cores, full hours.")
    ] = "small",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data, the training and the splits.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted demo there goes on.")] = Path(
        "sottovoce-demo"
    ),
) -> None:
    """Train a streaming RNN-T, compress it to 5, 4 and 3 bits by three methods, run every file, and show what was kept.

    Examples:

        sottovoce demo

        sottovoce demo --data fsdd:/path/to/free-spoken-digit-dataset --out runs/fsdd-demo
    """
    console = Console()
    corpus, source = _corpus(data)
    recipe = load_rnnt_recipe(corpus if preset == "full" else f"{corpus}-small", [f"seed={seed}"])
    make_folder(out)
    console.print(f"[bold]1/3[/] preparing speech ({corpus})")
    with progress_bar(console, "utterances") as update:
        prepare(corpus, source, out / "data", recipe.corpus.get("options", {}), seed=seed, progress=update)
    console.print("[bold]2/3[/] training the 32-bit recognizer")
    # More threads gain nothing at this size, and wait for each other many times as long where others use a core.
    base = train(recipe, out / "data", out / "base", threads=1, progress=True)
    console.print("[bold]3/3[/] compressing: every arm starts from it and sees the same batches")
    arms = default_arms(recipe.compression)
    finished: list[str] = []
    with progress_bar(console, "arms") as update:

        def done(name: str) -> None:
            finished.append(name)
            update(len(finished), len(arms))
            console.print(f"  finished {name}", highlight=False)

        rows = compare(recipe, out / "data", base, out, arms, workers=min(2, os.cpu_count() or 1), done=done)
    with progress_bar(console, "latency") as update:
        _measure_once([Run(out / "arms" / arm.name) for arm in arms], update)
    console.print(results_table(rows, recipe))
    console.print(f"written: {out / 'results.json'}", highlight=False, soft_wrap=True)
    console.print(verdict_line(out, arms), highlight=False, soft_wrap=True, markup=False)
    console.print(f"to see it all on one page: sottovoce report {out}", highlight=False, soft_wrap=True, markup=False)


def results_table(rows: list[ResultRow], recipe: RnntRecipe) -> Table:
    """The rows as a table; p is MAPSSWE's against the 32-bit control."""
    title = f"{recipe.name}, {rows[0].split}: {rows[0].words} words, seed {rows[0].seed}"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for name in ("system", "bits", "WER %", "95 % CI", "MB", "smaller", "p", "verdict"):
        table.add_column(name, justify="left" if name in ("system", "verdict") else "right", no_wrap=True)
    for r in rows:
        table.add_row(
            r.system,
            str(r.bits),
            f"{r.wer:.2f}",
            f"{r.ci95[0]:.1f}-{r.ci95[1]:.1f}",
            f"{r.model_bytes / 1e6:.2f}",
            f"{r.fp32_bytes / r.model_bytes:.1f}x",
            "" if r.mapsswe_p is None else f"{r.mapsswe_p:.3f}",
            r.verdict,
        )
    return table


def verdict_line(out: Path, arms: list[Arm]) -> str:
    """What was gained, in the report's words: the S8BQAT model at the paper's five bits, named before any score was
    seen."""
    (group,), _ = measured(open_runs([str(out / "arms" / arm.name) for arm in arms]))
    system = next(s for s in group.systems if s.run.name == NAMED)
    said = judged(group, system) if system.difference else headline(group)  # of one utterance nothing is compared
    return f"named before any score was seen: {said}"


def _measure_once(runs: list[Run], progress: Callable[[int, int], None]) -> None:
    """Latencies of the runs' files on this machine, timed in turns and kept in ``bench.json``; all of them anew where
    one is missing or older than its file."""
    if not all(_is_measured(run) for run in runs):
        found = bench_in_turns([run.model for run in runs], frames=200, progress=progress)
        for run, figures in zip(runs, found, strict=True):
            write_figures(run.folder / BENCH, dataclasses.asdict(figures))


def _is_measured(run: Run) -> bool:
    kept = run.folder / BENCH
    return kept.exists() and kept.stat().st_mtime_ns >= run.model.stat().st_mtime_ns


def _corpus(data: str) -> tuple[str, Path | None]:
    """Name and folder of a corpus that has a recipe for the demo. Raises ConfigError for another form."""
    name, _, folder = data.partition(":")
    names = [recipe.removesuffix("-small") for recipe in shipped_recipes() if recipe.endswith("-small")]
    if name not in names:
        raise ConfigError(f"--data {data}: expected one of {', '.join(names)}, as NAME or NAME:DIR")
    return name, Path(folder) if folder else None
