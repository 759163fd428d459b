"""Training a language model with the sampled softmax and with the full one: final perplexity, and words a second.

    python benchmarks/sampled_softmax.py --data DIR [--recipe swda-lstm] [--epochs N] [--seeds 3] [--quick]
        [--work DIR] [--results FILE] [--table] [--page FILE]

Both forms see the same batches, rates and steps, one thread each; only the sum over words differs: the recipe's exact
and drawn words, or all. Perplexity is that of dev after the last epoch, always over all words. Words count the ends of
sentences; seconds are those of training, validation left out. ``--epochs`` shortens the recipe's phase, its schedule
with it. ``--quick`` is one epoch of a small network. Finished cells are not run again; ``--table`` only prints them,
``--page`` puts them into the page's region ``sampled_softmax RECIPE``.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from cells import Cells, config_hash, print_machine, run_script
from options import add_options, kept_cells
from tables import Tables, shown

from sottovoce.settings import read_settings
from sottovoce.training.config import LmRecipe, load_recipe
from sottovoce.training.lm_task import LmTask
from sottovoce.training.train import train

HERE = Path(__file__).parent
FORMS: dict[str, list[str]] = {"sampled": [], "full": ["training.softmax=null"]}
EPOCH_HOURS = {"sampled": 0.02, "full": 0.06}  # of the LSTM
QUICK = ["phase.epochs=1", "model.units=32", "model.embedding=32"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="needed unless --table is given")
    parser.add_argument("--recipe", default="swda-lstm", help="of the repository's recipes")
    parser.add_argument("--epochs", type=int, help="by default the recipe's")
    parser.add_argument("--seeds", type=int, default=3)
    add_options(parser, quick="one epoch of a small network", work="runs/sampled_softmax")
    options = parser.parse_args()
    if options.data is None and not options.table:
        parser.error("--data is needed")
    cells = kept_cells(options, "sampled_softmax")
    if not options.table:
        run(cells, options)
    with shown(__file__, f"sampled_softmax {options.recipe}", cells, options) as emit:
        show(cells, options, emit)


def run(cells: Cells, options: argparse.Namespace) -> None:
    """Train what is not there yet."""
    torch.set_num_threads(1)
    wanted = [(form, seed) for seed in range(1 if options.quick else options.seeds) for form in FORMS]
    due = [(form, seed) for form, seed in wanted if cells.done(cell_config(options, form), seed) is None]
    epochs = options.epochs or load_recipe(_file(options)).phase.epochs
    hours = sum(EPOCH_HOURS[form] for form, _ in due) * (0.2 if options.quick else epochs)
    print(f"estimated: {hours:.2f} CPU hours, {len(due)} cells", flush=True)
    print_machine(torch=torch.__version__)
    for form, seed in due:
        measure(cells, options, form, seed)


def changes_of(options: argparse.Namespace, form: str) -> list[str]:
    """What the arm has other than the recipe."""
    epochs = [f"phase.epochs={options.epochs}"] if options.epochs else []
    return [*FORMS[form], *(QUICK if options.quick else epochs)]


def cell_config(options: argparse.Namespace, form: str) -> dict[str, Any]:
    """What names a cell: the recipe as its file says it, but for its compression."""
    recipe = read_settings(_file(options), "recipe")
    recipe.pop("compression", None)
    return {"recipe": config_hash(recipe), "form": form, "changes": changes_of(options, form)}


def measure(cells: Cells, options: argparse.Namespace, form: str, seed: int) -> None:
    config = cell_config(options, form)
    begin = time.perf_counter()
    recipe = load_recipe(_file(options), [f"seed={seed}", *changes_of(options, form)])
    assert isinstance(recipe, LmRecipe)
    run = train(recipe, options.data, options.work / f"{form}-{config_hash(config)}-{seed}", threads=1, progress=False)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    words = sum(len(s.split()) + 1 for s in LmTask(recipe).corpus(options.data).sentences("train"))
    figures = {
        "perplexity": rows[-1]["dev_perplexity"],
        "each_epoch": [row["dev_perplexity"] for row in rows],
        "words_per_second": round(words / statistics.median(row["seconds"] for row in rows), 1),
    }
    cells.record(config, seed, figures, time.perf_counter() - begin)
    print(f"{form}, seed {seed}: {figures}", flush=True)


def show(cells: Cells, options: argparse.Namespace, emit: Tables) -> None:
    """A line a form: perplexities and words a second of all seeds, and beside those of the full form of the same."""
    lines = []
    for form in FORMS:
        found = [(_figures(cells, options, form, s), _figures(cells, options, "full", s)) for s in range(options.seeds)]
        figures = [own for own, _ in found if own]
        if not figures:
            continue
        pairs = [(own, full) for own, full in found if own and full]
        change = [100 * (a["perplexity"] / b["perplexity"] - 1) for a, b in pairs]
        speed = [a["words_per_second"] / b["words_per_second"] for a, b in pairs]
        lines.append(
            [
                form,
                " ".join(f"{x['perplexity']:.2f}" for x in figures),
                " ".join(f"{x['words_per_second']:,.0f}" for x in figures),
                " ".join(f"{x:+.2f} %" for x in change),
                " ".join(f"{x:.2f}" for x in speed),
            ]
        )
    columns = ["softmax", "dev perplexity", "words/s", "perplexity, to full", "speed, to full"]
    what = "QUICK CHECK, no figures" if options.quick else "a figure a seed"
    emit(f"{options.recipe}, {what}", columns, lines)


def _figures(cells: Cells, options: argparse.Namespace, form: str, seed: int) -> dict[str, Any] | None:
    cell = cells.done(cell_config(options, form), seed)
    return None if cell is None else cell["figures"]


def _file(options: argparse.Namespace) -> Path:
    return HERE.parent / "recipes" / f"{options.recipe}.yaml"


if __name__ == "__main__":
    run_script(main)
