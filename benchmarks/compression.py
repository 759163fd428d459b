"""What is kept at 8, 5, 4 and 3 bits: the demo's comparison over several seeds.

    python benchmarks/compression.py --data fsdd:DIR [--quick] [--seeds 3] [--work DIR] [--results FILE]
    python benchmarks/compression.py --data synth
    python benchmarks/compression.py --table [--page FILE]

One cell is one seed of the training and of every arm, on one corpus; each arm forks from the same trained model, sees
the same batches and is scored by running its file. Test scores are written for all arms at once, so nothing can be
chosen by them. Finished cells are not run again; an interrupted one resumes from its folder. Shown: WER of each seed,
mean and standard deviation, and the pooled verdict: errors averaged over seeds, utterances of a speaker kept together,
seeds drawn too. ``--table`` prints what has been measured last of each corpus, whatever the recipe and the schemes were
then; ``--page`` puts it into a page's region ``compression``.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from cells import Cells, print_machine, run_script
from tables import Tables, add_page_option, print_table, shown

import sottovoce as sv
from sottovoce.data.prepare import prepare
from sottovoce.evaluation.bootstrap import relative_wer_difference
from sottovoce.evaluation.hypotheses import read_hypotheses
from sottovoce.evaluation.noninferiority import verdict, wer_margin
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors
from sottovoce.training.comparison import CONTROL, Arm, compare, default_arms
from sottovoce.training.config import load_recipe
from sottovoce.training.train import train

COLUMNS = ["system", "bits", "WER % of seeds", "mean", "sd", "MB", "times smaller"]
COLUMNS += ["relative difference, upper end, margin", "verdict"]
CPU_HOURS_A_SEED = {"small": 0.17, "full": 6.0}
DATA_SEED = 0  # every seed trains on the same corpus and is scored on the same utterances


def run_seed(corpus: str, source: Path | None, preset: str, seed: int, work: Path, quick: bool) -> dict[str, Any]:
    """One comparison: the rows of its results, and the errors of every arm on every test utterance."""
    overrides = [f"seed={seed}"]
    if quick:
        overrides += ["phase.epochs=2", "compression.phase.epochs=1"]
    recipe = load_recipe(corpus if preset == "full" else f"{corpus}-small", overrides)
    data, folder = work / "data", work / f"seed-{seed}"
    prepare(corpus, source, data, recipe.corpus.get("options", {}), seed=DATA_SEED)
    base = train(recipe, data, folder / "base", progress=False)
    arms = default_arms(recipe.compression)
    rows = compare(recipe, data, base, folder, arms)
    return {"rows": [row.to_dict() for row in rows], "utterances": errors_of(folder, arms)}


def errors_of(folder: Path, arms: list[Arm]) -> dict[str, Any]:
    """Speaker and words of each test utterance, and its errors by arm: all that a pooled verdict needs."""
    found = {arm.name: read_hypotheses(folder / "arms" / arm.name / "test.jsonl") for arm in arms}
    scored = {name: score_hypotheses(hypotheses) for name, hypotheses in found.items()}
    control = scored["fp32"]
    return {
        "speaker": [h.speaker for h in found["fp32"]],
        "words": [s.errors.words for s in control],
        "errors": {name: [s.errors.errors for s in results] for name, results in scored.items()},
    }


def scored(cell: dict[str, Any], arm: str) -> list[ScoredUtterance]:
    """The utterances of one arm and seed, numbered in their order."""
    kept = cell["utterances"]
    pairs = zip(kept["errors"][arm], kept["words"], strict=True)
    return [ScoredUtterance(str(i), WordErrors(substitutions=e, words=w)) for i, (e, w) in enumerate(pairs)]


def pooled_verdict(cells: list[dict[str, Any]], row: dict[str, Any]) -> list[str]:
    """Errors averaged over seeds; speakers and seeds drawn. ``row``: of one seed's results."""
    if row["system"] == CONTROL:
        return ["", "reference"]
    arm = row["system"] if row["system"] in cells[0]["utterances"]["errors"] else f"{row['system']}-{row['bits']}"
    speakers = {str(i): name for i, name in enumerate(cells[0]["utterances"]["speaker"])}
    controls, systems = [scored(c, CONTROL) for c in cells], [scored(c, arm) for c in cells]
    judged = verdict(relative_wer_difference(controls, systems, speakers), wer_margin(row["bits"]))
    difference, upper, margin = (100 * x for x in (judged.relative_difference, judged.upper, judged.margin))
    return [f"{difference:+.1f} %, {upper:+.1f} %, {margin:.0f} %", judged.words]


def table(cells: list[dict[str, Any]]) -> list[list[str]]:
    """One line an arm: WER of each seed, mean and deviation, size, pooled verdict."""
    lines = []
    for i, first in enumerate(cells[0]["rows"]):
        wers = [cell["rows"][i]["wer"] for cell in cells]
        lines.append(
            [
                first["system"],
                str(first["bits"]),
                " ".join(f"{w:.2f}" for w in wers),
                f"{statistics.mean(wers):.2f}",
                f"{statistics.stdev(wers):.2f}" if len(wers) > 1 else "",
                f"{first['model_bytes'] / 1e6:.3f}",
                f"{first['fp32_bytes'] / first['model_bytes']:.2f}",
                *pooled_verdict(cells, first),
            ]
        )
    return lines


def show(cells: Cells, emit: Tables) -> None:
    """What was measured last of each corpus and preset."""
    found = cells.latest(lambda config: None if config["quick"] else (config["corpus"], config["preset"]))
    for (corpus, preset), rows in found.items():
        emit(f"{corpus}, {preset}", COLUMNS, table([row["figures"] for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synth", help="synth, or fsdd:DIR")
    parser.add_argument("--preset", choices=("small", "full"), default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs: checks the script, not the method")
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/compression"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "compression.jsonl")
    options = parser.parse_args()
    cells = Cells(options.results)
    if not options.table:
        run(options, cells)
    if options.table or options.page:
        with shown(__file__, "compression", cells, options) as emit:
            show(cells, emit)


def run(options: argparse.Namespace, cells: Cells) -> None:
    """Measure what is not there, and print the table after each seed."""
    corpus, _, folder = options.data.partition(":")
    seeds = 1 if options.quick else options.seeds
    print(f"estimated: {seeds * (0.05 if options.quick else CPU_HOURS_A_SEED[options.preset]):.2f} CPU hours")
    print_machine()
    recipe = load_recipe(corpus if options.preset == "full" else f"{corpus}-small")
    schemes = [repr(scheme) for scheme in (sv.S8BQAT(), sv.linear_qat(), sv.PTQ())]
    config = {
        "corpus": corpus, "preset": options.preset, "quick": options.quick, "recipe": recipe.digest(),
        "schemes": schemes, "data_seed": DATA_SEED,
    }  # fmt: skip
    work = options.work / f"{corpus}-{options.preset}{'-quick' if options.quick else ''}"
    figures = []
    for seed in range(seeds):
        cell = cells.done(config, seed)
        if cell is None:
            begin = time.perf_counter()
            found = run_seed(corpus, Path(folder) if folder else None, options.preset, seed, work, options.quick)
            cell = cells.record(config, seed, found, time.perf_counter() - begin)
        figures.append(cell["figures"])
        print_table(f"{corpus}, {options.preset}, seeds 0 to {seed}", COLUMNS, table(figures))


if __name__ == "__main__":
    run_script(main)
