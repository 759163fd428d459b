"""What is kept at 8, 5, 4 and 3 bits: the demo's comparison over several seeds.

    python benchmarks/compression.py --data fsdd:DIR [--quick] [--seeds 3] [--work DIR] [--results FILE]
    python benchmarks/compression.py --data synth

One cell is one seed of the training and of every arm, on one corpus; each arm forks from the same trained model, sees
the same batches and is scored by running its file. Test scores are written for all arms at once, so nothing can be
chosen by them. Finished cells are not run again; an interrupted one resumes from its folder. Shown: WER of each seed,
mean and standard deviation, and the pooled verdict: errors averaged over seeds, utterances of a speaker kept together,
seeds drawn too.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from cells import Cells, print_machine, print_table

import sottovoce as sv
from sottovoce.data.prepare import prepare
from sottovoce.evaluation.bootstrap import relative_wer_difference
from sottovoce.evaluation.hypotheses import read_hypotheses
from sottovoce.evaluation.noninferiority import verdict, wer_margin
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors
from sottovoce.training.comparison import Arm, compare, default_arms
from sottovoce.training.config import load_recipe
from sottovoce.training.train import train

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


def pooled_verdict(cells: list[dict[str, Any]], arm: str, bits: int) -> str:
    """Errors averaged over seeds; speakers and seeds drawn."""
    speakers = {str(i): name for i, name in enumerate(cells[0]["utterances"]["speaker"])}
    difference = relative_wer_difference([scored(c, "fp32") for c in cells], [scored(c, arm) for c in cells], speakers)
    judged = verdict(difference, wer_margin(bits))
    return (
        f"{judged.kind} ({100 * judged.relative_difference:+.1f} %, upper {100 * judged.upper:+.1f} %, "
        f"margin {100 * judged.margin:.0f} %)"
    )


def table(cells: list[dict[str, Any]], arms: list[Arm]) -> list[list[str]]:
    """One line an arm: WER of each seed, mean and deviation, size, pooled verdict."""
    lines = []
    for i, arm in enumerate(arms):
        rows = [cell["rows"][i] for cell in cells]
        wers = [row["wer"] for row in rows]
        lines.append(
            [
                arm.system,
                str(arm.bits),
                " ".join(f"{w:.2f}" for w in wers),
                f"{statistics.mean(wers):.2f}",
                f"{statistics.stdev(wers):.2f}" if len(wers) > 1 else "",
                f"{rows[0]['model_bytes'] / 1e6:.3f}",
                f"{rows[0]['fp32_bytes'] / rows[0]['model_bytes']:.2f}",
                "reference" if arm.system == "fp32" else pooled_verdict(cells, arm.name, arm.bits),
            ]
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synth", help="synth, or fsdd:DIR")
    parser.add_argument("--preset", choices=("small", "full"), default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs: checks the script, not the method")
    parser.add_argument("--work", type=Path, default=Path("runs/compression"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "compression.jsonl")
    options = parser.parse_args()
    corpus, _, folder = options.data.partition(":")
    seeds = 1 if options.quick else options.seeds
    print(f"estimated: {seeds * (0.05 if options.quick else CPU_HOURS_A_SEED[options.preset]):.2f} CPU hours")
    print_machine()
    cells = Cells(options.results)
    recipe = load_recipe(corpus if options.preset == "full" else f"{corpus}-small")
    schemes = [repr(scheme) for scheme in (sv.S8BQAT(), sv.linear_qat(), sv.PTQ())]
    config = {
        "corpus": corpus, "preset": options.preset, "quick": options.quick, "recipe": recipe.digest(),
        "schemes": schemes, "data_seed": DATA_SEED,
    }  # fmt: skip
    arms = default_arms(recipe.compression)
    work = options.work / f"{corpus}-{options.preset}{'-quick' if options.quick else ''}"
    figures = []
    for seed in range(seeds):
        cell = cells.done(config, seed)
        if cell is None:
            begin = time.perf_counter()
            found = run_seed(corpus, Path(folder) if folder else None, options.preset, seed, work, options.quick)
            cell = cells.record(config, seed, found, time.perf_counter() - begin)
        figures.append(cell["figures"])
        columns = ["system", "bits", "WER % of each seed", "mean", "sd", "MB", "times smaller", "pooled verdict"]
        print_table(f"{corpus}, {options.preset}, seeds 0 to {seed}", columns, table(figures, arms))


if __name__ == "__main__":
    main()
