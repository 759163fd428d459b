"""The picture in README: word error rate against size, from the committed cells of ``compression.py``.

python benchmarks/figure.py [--results FILE] [--out FILE]
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

STYLES = {"ptq": ("o", "#888888"), "linear_qat": ("s", "#c08020"), "s8bqat": ("D", "#2060c0")}
LABELS = {"ptq": "rounded after training", "linear_qat": "linear QAT", "s8bqat": "S8BQAT"}


Point = tuple[float, float, list[list[float]], int]


def points(rows: list[list[dict[str, Any]]], system: str) -> list[Point]:
    """(megabytes, mean WER, distance to the least and the greatest of the seeds, bits) of one system, widest first."""
    found = []
    for bits in sorted({r["bits"] for r in rows[0] if r["system"] == system}, reverse=True):
        same = [next(r for r in seed if r["system"] == system and r["bits"] == bits) for seed in rows]
        wers = [r["wer"] for r in same]
        mean = statistics.mean(wers)
        found.append((same[0]["model_bytes"] / 1e6, mean, [[mean - min(wers)], [max(wers) - mean]], bits))
    return found


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=here / "results" / "compression.jsonl")
    parser.add_argument("--corpus", default="fsdd")
    parser.add_argument("--out", type=Path, default=here.parent / "docs" / "images" / "compression.svg")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.results.read_text().splitlines()]
    cells = [c for c in lines if c["config"]["corpus"] == options.corpus and not c["config"]["quick"]]
    rows = [cell["figures"]["rows"] for cell in cells]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    control = points(rows, "fp32")[0]
    axes.axhline(control[1], color="black", linewidth=1)
    axes.annotate(f"32 bits, {control[0]:.1f} MB", (1.2, control[1]), (0, 4), textcoords="offset points", ha="center")
    eight = points(rows, "int8")[0]
    axes.errorbar(eight[0], eight[1], eight[2], fmt="^", color="black", label="8 bits, rounded", capsize=3)
    for shift, (system, (marker, colour)) in enumerate(STYLES.items()):
        found = points(rows, system)
        megabytes = [p[0] * (1 + 0.012 * (shift - 1)) for p in found]  # side by side
        spans = [[p[2][end][0] for p in found] for end in (0, 1)]
        axes.errorbar(
            megabytes, [p[1] for p in found], spans, fmt=marker + "-", color=colour, capsize=3, label=LABELS[system],
            linewidth=1,
        )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * (high - low), high)
    for megabytes_, _, _, bits in points(rows, "s8bqat"):
        axes.annotate(f"{bits} bits", (megabytes_, axes.get_ylim()[0]), (0, 3), textcoords="offset points", ha="center")
    axes.set_xlabel("model, MB (tokenizer not counted)")
    axes.set_ylabel("word error rate, %")
    axes.set_title(f"{options.corpus}: mean of {len(rows)} seeds, bars span the seeds", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "sottovoce"}):  # the same figures give the same file
        figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
