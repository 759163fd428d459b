"""What is kept at 8, 5, 4 and 3 bits: the demo's comparison over several seeds.

    python benchmarks/compression.py --data fsdd:DIR [--quick] [--seeds 3] [--work DIR] [--results FILE]
    python benchmarks/compression.py --data synth

One cell is one seed: data, training and every arm; each arm forks from the same trained model, sees the same batches
and is scored by running its file. Test scores are written for all arms at once, so nothing can be chosen by them.
Finished cells are not run again; an interrupted one resumes from its folder. Shown: WER of each seed, mean and standard
deviation, and the pooled verdict: errors averaged over seeds, utterances of a speaker kept together, seeds drawn too.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from cells import Cells, print_machine, print_table

from sottovoce.data.prepare import prepare
from sottovoce.evaluation.bootstrap import relative_wer_difference
from sottovoce.evaluation.hypotheses import read_hypotheses
from sottovoce.evaluation.noninferiority import verdict, wer_margin
from sottovoce.evaluation.results import score_hypotheses, speakers_of
from sottovoce.training.comparison import compare, default_arms
from sottovoce.training.config import load_recipe
from sottovoce.training.train import train

CPU_HOURS_A_SEED = {"small": 0.17, "full": 6.0}


def run_seed(corpus: str, source: Path | None, preset: str, seed: int, work: Path, quick: bool) -> list[dict[str, Any]]:
    """One comparison; the rows of its results, hypotheses left in ``work``."""
    overrides = [f"seed={seed}"]
    if quick:
        overrides += ["phase.epochs=2", "compression.phase.epochs=1"]
    recipe = load_recipe(corpus if preset == "full" else f"{corpus}-small", overrides)
    prepare(corpus, source, work / "data", recipe.corpus.get("options", {}), seed=seed)
    base = train(recipe, work / "data", work / "base", progress=False)
    return [row.to_dict() for row in compare(recipe, work / "data", base, work, default_arms())]


def hypotheses_of(work: Path) -> dict[str, list[dict[str, Any]]]:
    """Errors of every test utterance, by arm: what pooled verdicts need, small enough to keep in the results."""
    kept = {}
    for arm in default_arms():
        found = read_hypotheses(work / "arms" / arm.name / "test.jsonl")
        speakers = speakers_of(found) or {}
        kept[arm.name] = [
            {"id": s.id, "speaker": speakers.get(s.id, ""), "errors": s.errors.errors, "words": s.errors.words}
            for s in score_hypotheses(found)
        ]
    return kept


def table(cells: list[dict[str, Any]], work: list[Path]) -> list[list[str]]:
    """One line an arm: WER of each seed, mean and deviation, size, pooled verdict."""
    arms, lines = default_arms(), []
    scored = {
        a.name: [score_hypotheses(read_hypotheses(w / "arms" / a.name / "test.jsonl")) for w in work] for a in arms
    }
    speakers: dict[str, str] = {}
    for w in work:
        speakers |= speakers_of(read_hypotheses(w / "arms" / "fp32" / "test.jsonl")) or {}
    for i, arm in enumerate(arms):
        rows = [cell["rows"][i] for cell in cells]
        wers = [row["wer"] for row in rows]
        pooled = "reference"
        if arm.system != "fp32":
            difference = relative_wer_difference(scored["fp32"], scored[arm.name], speakers or None)
            judged = verdict(difference, wer_margin(arm.bits))
            pooled = (
                f"{judged.kind} ({100 * judged.relative_difference:+.1f} %, upper {100 * judged.upper:+.1f} %, "
                f"margin {100 * judged.margin:.0f} %)"
            )
        deviation = statistics.stdev(wers) if len(wers) > 1 else float("nan")
        lines.append(
            [
                arm.system,
                str(arm.bits),
                " ".join(f"{w:.2f}" for w in wers),
                f"{statistics.mean(wers):.2f}",
                f"{deviation:.2f}",
                f"{rows[0]['model_bytes'] / 1e6:.3f}",
                f"{rows[0]['fp32_bytes'] / rows[0]['model_bytes']:.2f}",
                pooled,
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
    rows, works = [], []
    for seed in range(seeds):
        work = options.work / f"{corpus}-{options.preset}{'-quick' if options.quick else ''}-{seed}"
        recipe = load_recipe(corpus if options.preset == "full" else f"{corpus}-small")
        config = {"corpus": corpus, "preset": options.preset, "quick": options.quick, "recipe": recipe.digest()}
        begin = time.perf_counter()
        found = run_seed(corpus, Path(folder) if folder else None, options.preset, seed, work, options.quick)
        cell = cells.done(config, seed) or cells.record(config, seed, {"rows": found}, time.perf_counter() - begin)
        rows.append(cell["figures"])
        works.append(work)
        columns = ["system", "bits", "WER % of each seed", "mean", "sd", "MB", "times smaller", "pooled verdict"]
        print_table(f"{corpus}, {options.preset}, {len(works)} seeds", columns, table(rows, works))


if __name__ == "__main__":
    main()
