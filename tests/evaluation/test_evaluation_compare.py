import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.decoding.text import NORMALIZATIONS
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation import count_errors, score, wer_interval
from sottovoce.evaluation.bootstrap import wer_difference_interval
from sottovoce.evaluation.changes import Change, aligned, changes, count_changes
from sottovoce.evaluation.compare import compare_systems
from sottovoce.evaluation.mapsswe import mapsswe
from sottovoce.evaluation.mcnemar import mcnemar_test
from sottovoce.evaluation.noninferiority import holm
from sottovoce.evaluation.normalization import TextRules, read_replacements

words = st.lists(st.sampled_from("abc"), max_size=8)


@given(words, words, words)
def test_changes_hold_every_difference_in_errors(reference: list[str], first: list[str], second: list[str]) -> None:
    found = changes(reference, first, second)
    difference = count_errors(reference, second).errors - count_errors(reference, first).errors
    assert sum(change.errors[1] - change.errors[0] for change in found) == difference
    assert all(change.first != change.second or change.errors[0] != change.errors[1] for change in found)
    assert [(c.reference, c.second, c.first) for c in changes(reference, second, first)] == [
        (c.reference, c.first, c.second) for c in found
    ]
    assert changes(reference, first, first) == []


@given(words, words, words)
def test_columns_spell_all_sides(reference: list[str], first: list[str], second: list[str]) -> None:
    columns = aligned(reference, first, second)
    for row, side in enumerate((reference, first, second)):
        assert [column[row].lower() for column in columns if column[row] not in ("", "***")] == side


def test_changes_of_an_utterance() -> None:
    found = changes(
        ["the", "cat", "sat", "on", "it", "now"],
        ["the", "cat", "sat", "it", "now"],
        ["the", "dog", "sat", "on", "it", "uh", "now"],
    )
    assert found == [
        Change(("cat",), ("cat",), ("dog",), (0, 1)),
        Change(("on",), (), ("on",), (1, 0)),
        Change((), (), ("uh",), (0, 1)),
    ]
    assert aligned(["the", "cat"], ["the"], ["the", "5", "cat"]) == [
        ("the", "the", "the"),
        ("", "", "*5"),
        ("cat", "***", "cat"),
    ]


def test_changes_are_counted_over_utterances() -> None:
    references = {"u1": "a b", "u2": "b", "u3": "c"}
    found = count_changes(references, {"u1": "a x", "u2": "x", "u3": "c"}, {"u1": "a b", "u2": "b", "u3": ""})
    assert found == [
        (Change(("b",), ("x",), ("b",), (1, 0)), ["u1", "u2"]),
        (Change(("c",), ("c",), (), (0, 1)), ["u3"]),
    ]


def systems(count: int = 80, seed: int = 0) -> tuple[dict[str, str], dict[str, dict[str, str]], dict[str, str]]:
    rng = random.Random(seed)
    references = {f"u{i}": " ".join(rng.choices("abcdefgh", k=8)) for i in range(count)}

    def spoiled(rate: float) -> dict[str, str]:
        return {
            id: " ".join(w if rng.random() > rate else "x" for w in text.split()) for id, text in references.items()
        }

    found = {"fp32": spoiled(0.1), "same": {}, "worse": spoiled(0.3), "like": spoiled(0.1)}
    found["same"] = found["fp32"]
    return references, found, {id: f"s{i % 10}" for i, id in enumerate(references)}


def test_figures_are_those_of_their_functions() -> None:
    references, texts, speakers = systems(seed=1)
    found = compare_systems(references, texts, margin=0.02, speakers=speakers)
    scored = {name: score(references, hypotheses) for name, hypotheses in texts.items()}
    assert [system.name for system in found.systems] == list(texts)
    assert [system.ci95 for system in found.systems] == [wer_interval(s, speakers) for s in scored.values()]
    same, worse, like = found.differences
    assert (same.points, same.ci95, same.mapsswe.p, same.verdict.kind) == (0.0, (0.0, 0.0), 1.0, "non-inferior")
    assert worse.verdict.kind == "inferior" and worse.p_holm[0] < 0.001 and worse.ci95[0] > 0
    assert like.verdict.kind == "not resolved" and like.verdict.smallest_detectable > 0.02
    assert worse.mapsswe == mapsswe(references, texts["worse"], texts["fp32"]) and worse.mapsswe.z > 0
    assert worse.mcnemar == mcnemar_test(references, texts["worse"], texts["fp32"])
    assert [d.p_holm[0] for d in found.differences] == holm([d.mapsswe.p for d in found.differences]).tolist()
    assert [d.p_holm[1] for d in found.differences] == holm([d.mcnemar.p for d in found.differences]).tolist()
    assert worse.ci95 == wer_difference_interval(scored["fp32"], scored["worse"], speakers)
    assert worse.ci95[0] < worse.points < worse.ci95[1]


def test_the_interval_of_a_difference_is_paired() -> None:
    references, texts, _ = systems(200)
    control, system = (score(references, texts[name]) for name in ("fp32", "worse"))
    low, high = wer_difference_interval(control, system)
    change = [100 * (b.errors.errors - a.errors.errors) / 8 for a, b in zip(control, system, strict=True)]
    assert (low + high) / 2 == pytest.approx(np.mean(change), rel=0.03)
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(change, ddof=1) / math.sqrt(200), rel=0.06)
    with pytest.raises(DataError, match="same utterances"):
        wer_difference_interval(control, system[::-1])


def test_what_cannot_be_compared_is_named() -> None:
    references, texts, _ = systems(4)
    with pytest.raises(DataError, match="at least two systems, found 1"):
        compare_systems(references, {"fp32": texts["fp32"]}, margin=0.02)
    with pytest.raises(DataError, match="worse: reference 'u3': there is no hypothesis"):
        compare_systems(references, {**texts, "worse": {f"u{i}": "a" for i in range(3)}}, margin=0.02)
    with pytest.raises(DataError, match="worse: hypothesis 'v': there is no reference"):
        compare_systems(references, {**texts, "worse": {**texts["worse"], "v": "a"}}, margin=0.02)


def test_text_rules() -> None:
    rules = TextRules("spoken", {("going", "to"): ("gonna",), ("to",): ("2",), ("um", "hm"): ()}, frozenset({"uh"}))
    assert rules.apply("Uh, I'm GOING to go to -- um hm -- uh") == "i'm gonna go 2"
    assert TextRules().apply("  Ä  b ") == "Ä b"
    assert TextRules("lower").apply_to({"u": "A b"}) == {"u": "a b"}
    with pytest.raises(ConfigError, match=f"expected one of {', '.join(NORMALIZATIONS)}, found 'Lower'"):
        TextRules("Lower")


def test_files_of_replacements(tmp_path) -> None:
    path = tmp_path / "map.tsv"
    path.write_text("# a comment\ngoing to\tgonna\n\num\t\n")
    assert read_replacements(path) == {("going", "to"): ("gonna",), ("um",): ()}
    for text, message in (
        ("a b\n", "map.tsv:1: expected words, a tab"),
        ("a\tb\na\tc\n", "map.tsv:2: 'a' is given twice"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_replacements(path)
