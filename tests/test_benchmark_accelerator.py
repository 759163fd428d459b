"""The tables of benchmarks/accelerator.py from made-up figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
from accelerator import judged, labels_of, summary, table
from cells import Cells
from tables import Tables


def figures(int8: list[int], accelerator: list[int]) -> dict[str, Any]:
    def counts(errors: list[int]) -> dict[str, Any]:
        wer = 100.0 * sum(errors) / (10 * len(errors))
        return {"errors": errors, "wer": wer, "substitutions": sum(errors), "insertions": 0, "deletions": 0}

    return {"bits": 4.0, "words": 10 * len(int8), "int8": counts(int8), "accelerator": counts(accelerator)}


def test_the_accelerator_is_judged_against_int8() -> None:
    errors = np.random.default_rng(0).integers(1, 4, 200).tolist()
    assert judged([figures(errors, errors)]).kind == "non-inferior"
    worse = judged([figures(errors, [e + 1 for e in errors])])
    assert worse.kind == "inferior" and worse.relative_difference == len(errors) / sum(errors)
    assert worse.margin == 0.02


def test_a_line_for_each_file_and_one_for_all() -> None:
    rows = [figures([1] * 20, [1] * 20), figures([3] * 20, [2] * 20)]
    lines = table(["a", "b"], rows)
    assert [line[0] for line in lines] == ["a", "b", "all 2"]
    assert lines[1][2:4] == ["30.00 (60/0/0)", "20.00 (40/0/0)"]
    assert lines[2][2:4] == ["20.00", "15.00"] and lines[2][4].startswith("-25.00 %")


def test_labels_tell_files_apart() -> None:
    paths = [Path(f"/runs/seed-{seed}/{arm}/model.safetensors") for seed in (0, 1) for arm in ("int8", "ptq-4")]
    assert labels_of(paths) == ["seed-0/int8", "seed-0/ptq-4", "seed-1/int8", "seed-1/ptq-4"]
    assert labels_of(paths[:1]) == ["int8"]


def test_all_files_that_were_scored_alike_are_one_line(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    for model, errors in (("a", 1), ("b", 3)):
        for split, manifest in (("test", "x"), ("dev", "y")):
            config = {"corpus": "an4", "split": split, "manifest": manifest, "blank_penalty": 0.0, "model": model}
            cells.record(config, 0, figures([errors] * 20, [errors + (split == "test")] * 20), 1.0)
    tables = Tables(keep=True)
    summary(cells, tables)
    dev, test = (line.split(" | ") for line in tables.parts[0].splitlines()[2:])
    assert dev[:5] == ["| an4, dev", "200", "2", "20.00", "20.00"] and dev[-1] == "non-inferior |"
    assert test[:5] == ["| an4, test", "200", "2", "20.00", "30.00"] and test[5].startswith("+50.00 % [")
