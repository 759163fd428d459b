"""The picture in README: word error rate against bits, from the committed cells of ``s8bqat_rnnt.py``.

python benchmarks/figure.py [--data NAME]... [--results FILE] [--out FILE]
"""

import argparse
import statistics
from pathlib import Path

import matplotlib
from arms import Corpus, arm_of, load_plan, place_of
from cells import Cells, run_script
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from s8bqat_rnnt import HERE, Results

from sottovoce.training.comparison import CONTROL, Arm

STYLES = {
    "ptq": ("o", "#999999", "rounded after training"),
    "linear QAT, fitted scale": ("s", "#c08020", "linear QAT, fitted scale"),
    "GQ": ("v", "#8060a0", "GQ"),
    "straight-through": ("^", "#409060", "straight-through"),
    "S8BQAT": ("D", "#2060c0", "S8BQAT"),
}
SEEDS = range(3)


def draw(axes: Axes, results: Results, corpus: Corpus, systems: dict[str, list[Arm]]) -> None:
    """One corpus: a line a system over its widths, bars from the least to the greatest seed, the control across."""
    control = [results.wer(corpus, seed, Arm(CONTROL, None)) for seed in results.seeds([corpus], Arm(CONTROL, None))]
    axes.axhline(statistics.mean(control), color="black", linewidth=1, label="32 bits")
    for place, (name, arms) in enumerate(systems.items()):
        found = {arm.bits: [results.wer(corpus, s, arm) for s in results.seeds([corpus], arm)] for arm in arms}
        found = {bits: wers for bits, wers in found.items() if wers}
        marker, colour, label = STYLES[name]
        means = [statistics.mean(wers) for wers in found.values()]
        spans = [
            [mean - min(wers) for mean, wers in zip(means, found.values(), strict=True)],
            [max(wers) - mean for mean, wers in zip(means, found.values(), strict=True)],
        ]
        beside = [bits + 0.05 * (place - 2) for bits in found]
        axes.errorbar(
            beside, means, spans, fmt=marker + "-", color=colour, label=label, capsize=2, linewidth=1, markersize=4
        )
    axes.set_xlim(4.3, 1.7)
    axes.set_xticks([4, 3, 2], ["4 bits", "3 bits", "2 bits"])
    axes.set_title(f"{corpus.name}: {len(control)} seed{'s' * (len(control) > 1)} in 32 bits", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, out: Path) -> None:
    """The same figures give the same file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "sottovoce"}):
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", help="a corpus of the plan; repeatable; default an4 and synth")
    parser.add_argument("--plan", type=Path, default=HERE / "s8bqat_rnnt.yaml")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "s8bqat_rnnt.jsonl")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "images" / "low_bits.svg")
    options = parser.parse_args()
    corpora, plan = load_plan(options.plan, options.data or ["an4", "synth"], ("widths",))
    work = Path("unused")  # nothing is trained here
    places = tuple(place_of(c, fold, seed, True, work) for seed in SEEDS for c in corpora for fold in c.folds)
    results = Results(Cells(options.results), places, "test")
    systems = {name: [arm_of(name, plan["arms"][name], bits) for bits in plan["widths"]] for name in STYLES}
    figure = Figure(figsize=(3.9 * len(corpora), 3.4), layout="constrained")
    panels = figure.subplots(1, len(corpora), squeeze=False)[0]
    for axes, corpus in zip(panels, corpora, strict=True):
        draw(axes, results, corpus, systems)
    panels[0].set_ylabel("word error rate, %")
    panels[0].legend(fontsize=8, frameon=False)
    save(figure, options.out)


if __name__ == "__main__":
    run_script(main)
