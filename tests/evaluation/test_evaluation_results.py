"""Rows of a results file: counts, intervals, tests and verdicts against the control."""

from __future__ import annotations

import json

import pytest

from sottovoce.errors import DataError
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.results import System, clusters_of, result_rows
from sottovoce.packed import FileSizes

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero"]


def system(name: str, bits: int, wrong: int, count: int = 40, speakers: int = 10, seed: int = 0) -> System:
    """Every utterance says ten words; the first ``wrong`` utterances end with a wrong one."""
    said = [" ".join(WORDS[:-1] + (["oh"] if i < wrong else WORDS[-1:])) for i in range(count)]
    found = [
        Hypothesis(f"u{i}", text, f"s{i % speakers}" if speakers else None, f"r{i}", " ".join(WORDS))
        for i, text in enumerate(said)
    ]
    return System(name, bits, seed, found, FileSizes(1100, 1000, 6000))


def test_rows_carry_counts_sizes_and_the_comparison_with_the_control() -> None:
    rows = result_rows([system("fp32", 32, 8), system("same", 5, 8), system("worse", 3, 30)], "test")
    control, same, worse = rows
    assert (control.wer, control.errors, control.words, control.substitutions) == (2.0, 8, 400, 8)
    assert control.verdict == "reference" and control.mapsswe_p is None and control.margin is None
    assert same.verdict == "non-inferior" and same.mapsswe_p == 1.0 and same.relative_difference == 0.0
    assert worse.verdict == "inferior" and worse.mapsswe_p is not None and worse.mapsswe_p < 0.001
    assert worse.mapsswe_p_holm == pytest.approx(2 * worse.mapsswe_p) and worse.margin == 0.03
    assert all(row.ci95[0] <= row.wer <= row.ci95[1] for row in rows)
    assert (worse.file_bytes, worse.model_bytes, worse.fp32_bytes) == (1100, 1000, 6000)
    json.dumps([row.to_dict() for row in rows], allow_nan=False)


def test_each_seed_has_a_control_of_its_own() -> None:
    found = [system("fp32", 32, 20), system("fp32", 32, 2, seed=1), system("low", 4, 20, seed=1)]
    first, second, low = result_rows(found, "test")
    assert first.verdict == second.verdict == "reference" and second.mapsswe_p is None
    assert low.verdict == "inferior" and low.relative_difference == pytest.approx(9.0)
    assert low.mapsswe_p == low.mapsswe_p_holm  # one test, not two


def test_a_control_without_errors_has_no_relative_difference() -> None:
    rows = result_rows([system("fp32", 32, 0), system("worse", 5, 3)], "test")
    assert rows[1].relative_difference is None and rows[1].relative_upper is None and rows[1].verdict == "inferior"
    json.dumps([row.to_dict() for row in rows], allow_nan=False)


def test_clusters_are_speakers_and_recordings_where_all_have_one() -> None:
    speakers, recordings = clusters_of(system("a", 5, 1, speakers=0).hypotheses)
    assert speakers is None and recordings is not None and len(recordings) == 40
    speakers, _ = clusters_of(system("a", 5, 1).hypotheses)
    assert speakers is not None and len(set(speakers.values())) == 10


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(DataError, match="named 'fp32' of seed 0, as that of same; found same"):
        result_rows([system("same", 5, 8)], "test")
    with pytest.raises(DataError, match="named 'fp32' of seed 1"):
        result_rows([system("fp32", 32, 8), system("same", 5, 8, seed=1)], "test")
    bare = System("fp32", 32, 0, [Hypothesis("u", "one")], FileSizes(1, 1, 1))
    with pytest.raises(DataError, match="'u': expected its reference text"):
        result_rows([bare], "test")
    with pytest.raises(DataError):
        result_rows([system("fp32", 32, 8), system("short", 5, 8, count=39)], "test")
