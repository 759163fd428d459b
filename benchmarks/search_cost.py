"""What choosing bits costs: searches beside an epoch of training, and the allocation of 200 clusters.

    python benchmarks/search_cost.py --data DIR [--recipe swda-lstm] [--seeds 1] [--quick] [--work DIR] [--results FILE]

The recipe is trained for one epoch on DIR, and the KL and Hessian sensitivities of all its clusters at 1, 2, 4 and 8
bits are taken as ``sottovoce search`` takes them (32 utterances of training, 16 probes, direct rounding), one thread
each. The allocation is of 200 clusters at 8 widths, 20 random problems a seed; that each is optimal is checked by
dynamic programming over all budgets. Finished cells are not run again.
"""

import argparse
import hashlib
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import Cells, print_machine
from tables import print_table

from sottovoce.search import sensitivity
from sottovoce.search.allocation import Budget, allocate
from sottovoce.training.config import load_recipe
from sottovoce.training.searching import epoch_seconds, search_inputs
from sottovoce.training.train import train

HERE = Path(__file__).parent
BITS = (1, 2, 4, 8)
CLUSTERS, WIDTHS, PROBLEMS = 200, 8, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="swda-lstm", help="of the repository's recipes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small network: checks the script only")
    parser.add_argument("--work", type=Path, default=Path("runs/search_cost"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "search_cost.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_machine(torch=torch.__version__)
    cells = Cells(options.results)
    digest = hashlib.sha256(_file(options).read_bytes()).hexdigest()[:12]
    searched = {"recipe": options.recipe, "digest": digest, "quick": options.quick}
    searches, allocations = [], []
    for seed in range(options.seeds):
        found = _done(cells, searched, seed, lambda s: search(options, s))
        for metric in ("kl", "hessian"):
            seconds, epoch = found[metric], found["epoch"]
            searches.append(
                [metric, seed, found["clusters"], f"{seconds:.1f}", f"{epoch:.1f}", f"{seconds / epoch:.2f}"]
            )
        found = _done(cells, {"allocation": [CLUSTERS, WIDTHS, PROBLEMS]}, seed, allocation)
        times = [f"{of(found[key]):.3f}" for key in ("seconds", "cpu_seconds") for of in (statistics.median, max)]
        allocations.append([seed, *times, found["optimal"]])
    columns = ["search", "seed", "clusters", "seconds", "an epoch, seconds", "share"]
    what = "QUICK CHECK, no figures: " if options.quick else ""
    print_table(f"{what}{options.recipe}: searches at {BITS} bits", columns, searches)
    title = f"allocation of {CLUSTERS} clusters at {WIDTHS} widths, {PROBLEMS} problems"
    print_table(title, ["seed", "median seconds", "most", "median CPU seconds", "most", "optimal"], allocations)


def _done(cells: Cells, config: dict[str, Any], seed: int, run: Any) -> dict[str, Any]:
    """The cell's figures, measured now if they are not there."""
    row = cells.done(config, seed)
    if row is None:
        begin = time.perf_counter()
        figures = run(seed)
        row = cells.record(config, seed, figures, time.perf_counter() - begin)
    found: dict[str, Any] = row["figures"]
    return found


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
        raise SystemExit(f"{run.folder}: no seconds in metrics.jsonl: remove the folder to train it anew")
    inputs = search_inputs(run.folder, utterances=4 if options.quick else 32, seed=seed)
    module, found = inputs.module, dict[str, Any]({"epoch": epoch})
    for metric in ("kl", "hessian"):
        begin = time.perf_counter()
        table = sensitivity(
            module.model, inputs.batches, metric, BITS, by="gate", rows=module.row_borders(), logits=module.logits,
            loss=module.loss, position_weights=module.position_weights, fields=inputs.fields, seed=seed,
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
    main()
