"""What an accelerator's arithmetic costs: the same packed files in int8 and in accelerator arithmetic.

    python benchmarks/accelerator.py MODEL [MODEL ...] --data DIR [--split dev|test] [--blank-penalty NATS]
        [--results FILE] [--table]
    python benchmarks/accelerator.py --table [--page FILE]

MODEL is a packed file or a run folder, DIR a folder made by 'sottovoce data prepare'; all models of a call are scored
on its split. Nothing is trained and nothing calibrated. The verdict is on the paired relative difference with the
project's margin of 2 %: errors are averaged over models, speakers and models are drawn. Finished cells, named by the
file's content, are not run again; ``--table`` only prints those of the models given, or what has been measured of all
files by corpus and split, which ``--page`` puts into a page's region ``accelerator``.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cells, Row, print_machine, run_script
from tables import Tables, add_page_option, print_table, shown

from sottovoce.data.prepared import load_prepared
from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import cluster_ids, relative_difference
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.noninferiority import Verdict, verdict, wer_margin
from sottovoce.evaluation.results import clusters_of, score_hypotheses
from sottovoce.evaluation.wer import total
from sottovoce.packed import PackedMatrix, load_model
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training.run import Run
from sottovoce.training.scoring import transcribe_split

HERE = Path(__file__).parent
ARITHMETICS: tuple[Arithmetic, ...] = ("int8", "accelerator")


def labels_of(paths: Sequence[Path]) -> list[str]:
    """What tells the files apart: their folders, less what all of them share."""
    folders = [path.resolve().parent for path in paths]
    shared = Path(os.path.commonpath(folders)) if len(set(folders)) > 1 else folders[0].parent
    return [str(folder.relative_to(shared)) for folder in folders]


def bits_of(path: Path) -> float:
    """Bits of a code, averaged over the weights of packed matrices."""
    matrices = [tensor for tensor in load_model(path).tensors.values() if isinstance(tensor, PackedMatrix)]
    weights = sum(matrix.rows * matrix.columns for matrix in matrices)
    bits = sum(band.bits * band.rows * matrix.columns for matrix in matrices for band in matrix.bands)
    return bits / weights if weights else 32.0


def cell_config(model: Path, data: Path, split: str, blank_penalty: float) -> dict[str, Any]:
    corpus = load_prepared(data).name
    manifest = hashlib.sha256((data / f"{split}.jsonl.gz").read_bytes()).hexdigest()[:12]
    content = hashlib.sha256(model.read_bytes()).hexdigest()[:12]
    return {
        "corpus": corpus, "manifest": manifest, "split": split, "model": content,
        "blank_penalty": blank_penalty,
    }  # fmt: skip


def measure(model: Path, data: Path, split: str, blank_penalty: float) -> dict[str, Any]:
    """Errors of each cluster of the bootstrap (a speaker, where there are eight) in each arithmetic."""
    figures: dict[str, Any] = {"bits": bits_of(model)}
    for arithmetic in ARITHMETICS:
        found = transcribe_split(model, data, split, arithmetic=arithmetic, blank_penalty=blank_penalty)
        scored = score_hypotheses(found)
        counts = total(scored)
        figures[arithmetic] = {
            "errors": _by_cluster(found, [utterance.errors.errors for utterance in scored]), "wer": counts.wer,
            "substitutions": counts.substitutions, "insertions": counts.insertions, "deletions": counts.deletions,
        }  # fmt: skip
        figures["words"] = counts.words
    return figures


def _by_cluster(hypotheses: Sequence[Hypothesis], errors: Sequence[int]) -> list[int]:
    clusters = cluster_ids([h.id for h in hypotheses], *clusters_of(hypotheses))
    sums: list[int] = np.bincount(clusters, weights=errors).astype(int).tolist()
    return sums


def judged(rows: Sequence[dict[str, Any]]) -> Verdict:
    """Over files that were scored on the same utterances."""
    errors = [np.array([row[name]["errors"] for row in rows], float) for name in ARITHMETICS]
    margin = wer_margin(8)  # the weights are those of the control: the strictest margin
    return verdict(relative_difference(errors[0], errors[1], np.arange(errors[0].shape[1])), margin)


def table(labels: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line for each file, and one for all of them together."""
    lines = []
    for label, row in zip(labels, rows, strict=True):
        lines.append(
            [label, f"{row['bits']:.3g}", *(_wer(row[name]) for name in ARITHMETICS), _sentence(judged([row]))]
        )
    wers = [f"{np.mean([row[name]['wer'] for row in rows]):.2f}" for name in ARITHMETICS]
    return [*lines, [f"all {len(rows)}", "", *wers, _sentence(judged(rows))]]


def summary(cells: Cells, emit: Tables) -> None:
    """All files that were scored alike, in a line a corpus and split."""

    def scored(config: dict[str, Any]) -> tuple[str, ...]:
        return config["corpus"], config["split"], config["manifest"], str(config["blank_penalty"])

    groups: dict[tuple[str, ...], list[Row]] = {}
    for (key, _), rows in cells.latest(lambda config: (scored(config), config["model"])).items():
        groups.setdefault(key, []).extend(rows)
    columns = ["corpus, split", "words", "files", *(f"{name}: WER %" for name in ARITHMETICS)]
    lines = [_pooled(key, [row["figures"] for row in rows]) for key, rows in sorted(groups.items())]
    emit("", [*columns, "difference", "margin", "verdict"], lines)


def _pooled(key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> list[str]:
    found = judged(rows)
    wers = [f"{np.mean([row[name]['wer'] for row in rows]):.2f}" for name in ARITHMETICS]
    words, margin = f"{rows[0]['words']:,}", f"{100 * found.margin:.0f} %"
    return [f"{key[0]}, {key[1]}", words, str(len(rows)), *wers, _interval(found), margin, found.words]


def _wer(counts: dict[str, Any]) -> str:
    return f"{counts['wer']:.2f} ({counts['substitutions']}/{counts['insertions']}/{counts['deletions']})"


def _sentence(found: Verdict) -> str:
    return f"{_interval(found)}, {found.words}"


def _interval(found: Verdict) -> str:
    return f"{100 * found.relative_difference:+.2f} % [{100 * found.lower:+.2f}, {100 * found.upper:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--blank-penalty", type=float, default=0.0, help="what these models are decoded with, nats")
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "accelerator.jsonl")
    options = parser.parse_args()
    cells = Cells(options.results)
    if options.table and not options.models:
        with shown(__file__, "accelerator", cells, options) as emit:
            summary(cells, emit)
        return
    if not (options.models and options.data) or options.page:
        parser.error("MODEL and --data are needed, or --table alone; --page goes with --table alone")
    measured(options, cells)


def measured(options: argparse.Namespace, cells: Cells) -> None:
    """The table of the models given, those measured first that are not there."""
    models = [Run(path).model if path.is_dir() else path for path in options.models]
    rows, labels = [], []
    if not options.table:
        print_machine()
    for label, model in zip(labels_of(models), models, strict=True):
        config = cell_config(model, options.data, options.split, options.blank_penalty)
        row = cells.done(config, 0)
        if row is None and not options.table:
            start = time.perf_counter()
            figures = measure(model, options.data, options.split, options.blank_penalty)
            row = cells.record(config, 0, {"label": label, **figures}, time.perf_counter() - start)
        if row is not None:
            rows.append(row["figures"])
            labels.append(label)
    if not rows:
        raise DataError("nothing has been measured for these models")
    columns = ["model", "bits", *(f"{name}: WER % (sub/ins/del)" for name in ARITHMETICS), "difference, 5 % bounds"]
    print_table(f"{config['corpus']}, {options.split}", columns, table(labels, rows))


if __name__ == "__main__":
    run_script(main)
