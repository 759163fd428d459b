"""What choosing bits costs: searches beside an epoch of training, and the allocation of 200 clusters.

    python benchmarks/search_cost.py --data DIR [--recipe swda-lstm] [--seeds 1] [--quick] [--work DIR] [--results FILE]
        [--table] [--page FILE]

The recipe is trained for one epoch on DIR, and the KL and Hessian sensitivities of all its clusters at 1, 2, 4 and 8
bits are taken as ``sottovoce search`` takes them (32 utterances of training, 16 probes, direct rounding), one thread
each. The allocation is of 200 clusters at 8 widths, 20 random problems a seed; that each is optimal is checked by
dynamic programming over all budgets. Finished cells are not run again; ``--table`` only prints them, ``--page`` puts
them into the page's region ``search_cost RECIPE``.
"""

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import Cells, print_machine, run_script
from options import add_options, kept_cells
from tables import Tables, shown

from sottovoce.errors import DataError
from sottovoce.search import mean_loss, sensitivity
from sottovoce.search.allocation import Budget, allocate
from sottovoce.training.config import load_recipe
from sottovoce.training.searching import epoch_seconds, search_inputs
from sottovoce.training.train import train

HERE = Path(__file__).parent
BITS = (1, 2, 4, 8)
METRICS = ("kl", "hessian")
CLUSTERS, WIDTHS, PROBLEMS = 200, 8, 20
ALLOCATED = {"allocation": [CLUSTERS, WIDTHS, PROBLEMS]}
SEARCH_HOURS, ALLOCATION_HOURS = 0.06, 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="needed unless --table is given")
    parser.add_argument("--recipe", default="swda-lstm", help="of the repository's recipes")
    parser.add_argument("--seeds", type=int, default=1)
    add_options(parser, quick="a small network", work="runs/search_cost")
    options = parser.parse_args()
    if options.data is None and not options.table:
        parser.error("--data is needed")
    cells = kept_cells(options, "search_cost")
    if not options.table:
        run(cells, options)
    with shown(__file__, f"search_cost {options.recipe}", cells, options) as emit:
        show(cells, options, emit)


def run(cells: Cells, options: argparse.Namespace) -> None:
    """Measure what is not there yet."""
    torch.set_num_threads(1)
    tasks: list[tuple[dict[str, Any], int, Callable[[], dict[str, Any]], float]] = []
    for seed in range(options.seeds):
        tasks.append((searched(options), seed, partial(search, options, seed), SEARCH_HOURS))
        tasks.append((ALLOCATED, seed, partial(allocation, seed), ALLOCATION_HOURS))
    due = [task for task in tasks if cells.done(*task[:2]) is None]
    hours = sum(hours for *_, hours in due) * (0.1 if options.quick else 1)
    print(f"estimated: {hours:.2f} CPU hours, {len(due)} cells", flush=True)
    print_machine(torch=torch.__version__)
    for config, seed, measure, _ in due:
        begin = time.perf_counter()
        figures = measure()
        cells.record(config, seed, figures, time.perf_counter() - begin)


def show(cells: Cells, options: argparse.Namespace, emit: Tables) -> None:
    searches, allocations = [], []
    for seed in range(options.seeds):
        if (row := cells.done(searched(options), seed)) is not None:
            found = row["figures"]
            for metric in METRICS:
                share = found[metric] / found["epoch"]
                of = [found["clusters"], f"{found[metric]:.1f}", f"{found['epoch']:.1f}", f"{share:.2f}"]
                searches.append([metric, seed, *of])
        if (row := cells.done(ALLOCATED, seed)) is not None:
            found = row["figures"]
            times = [f"{of(found[key]):.3f}" for key in ("seconds", "cpu_seconds") for of in (statistics.median, max)]
            allocations.append([seed, *times, found["optimal"]])
    what = "QUICK CHECK, no figures: " if options.quick else ""
    columns = ["search", "seed", "clusters", "seconds", "an epoch, seconds", "share"]
    emit(f"{what}{options.recipe}: searches at {', '.join(map(str, BITS))} bits", columns, searches)
    title = f"allocation of {CLUSTERS} clusters at {WIDTHS} widths, {PROBLEMS} problems"
    emit(title, ["seed", "median seconds", "most", "median CPU seconds", "most", "optimal"], allocations)


def searched(options: argparse.Namespace) -> dict[str, Any]:
    """What names the cell of a recipe's searches."""
    digest = hashlib.sha256(_file(options).read_bytes()).hexdigest()[:12]
    return {"recipe": options.recipe, "digest": digest, "quick": options.quick}


def _file(options: argparse.Namespace) -> Path:
    return HERE.parent / "recipes" / f"{options.recipe}.yaml"


def search(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Seconds of an epoch and of both searches."""
    changes = [f"seed={seed}", "phase.epochs=1"]
    changes += ["model.units=32", "model.embedding=32"] if options.quick else []
    recipe = load_recipe(_file(options), changes)
    folder = options.work / f"{options.recipe}{'-quick' if options.quick else ''}-{seed}"
    run = train(recipe, options.data, folder, threads=1, progress=False)
    epoch = epoch_seconds(run.folder)
    if epoch is None:
        raise DataError(f"{run.folder}: no seconds in metrics.jsonl: remove the folder to train it anew")
    inputs = search_inputs(run.folder, utterances=4 if options.quick else 32, seed=seed)
    module, found = inputs.module, dict[str, Any]({"epoch": epoch})
    for metric in METRICS:
        begin = time.perf_counter()
        table = sensitivity(
            module.model, inputs.batches, metric, BITS, by="gate", rows=module.row_borders(), logits=module.logits,
            loss=mean_loss(module, inputs.batches), position_weights=module.position_weights, fields=inputs.fields,
            seed=seed,
        )  # fmt: skip
        found |= {metric: round(time.perf_counter() - begin, 2), "clusters": len(table.clusters)}
    return found


def allocation(seed: int) -> dict[str, Any]:
    """Seconds of each problem, and of how many the choice was as good as dynamic programming's."""
    rng = np.random.default_rng(seed)
    seconds, cpu, optimal = list[float](), list[float](), 0
    for _ in range(PROBLEMS):
        size = np.maximum(1, rng.lognormal(2.0, 1.0, CLUSTERS)).astype(np.int64)
        fall = 4.0 ** -np.arange(1, WIDTHS + 1) * np.exp(rng.normal(0, 0.5, (CLUSTERS, WIDTHS)))
        omega = size[:, None] * fall * rng.lognormal(0, 1.0, (CLUSTERS, 1))
        cost = size[:, None] * np.arange(1, WIDTHS + 1)
        most = int(rng.uniform(1.5, 5.0) * size.sum())
        begin, begin_cpu = time.perf_counter(), time.process_time()
        choice = allocate(omega, [Budget(cost, most)], np.ones(omega.shape, bool))
        seconds.append(round(time.perf_counter() - begin, 4))
        cpu.append(round(time.process_time() - begin_cpu, 4))
        rows = np.arange(CLUSTERS)
        if choice is not None and int(cost[rows, choice].sum()) <= most:
            best = least(omega, cost, most)
            optimal += bool(omega[rows, choice].sum() <= best * (1 + 1e-9))
    return {"seconds": seconds, "cpu_seconds": cpu, "optimal": f"{optimal} of {PROBLEMS}"}


def least(omega: np.ndarray, cost: np.ndarray, most: int) -> float:
    """The least sum of omega that costs at most ``most``, by dynamic programming, cluster after cluster."""
    best = np.zeros(most + 1)
    for row, price in zip(omega, cost, strict=True):
        after = np.full(most + 1, np.inf)
        for value, c in zip(row.tolist(), price.tolist(), strict=True):
            np.minimum(after[c:], best[: most + 1 - c] + value, out=after[c:])
        best = after
    return float(best[most])


if __name__ == "__main__":
    run_script(main)
