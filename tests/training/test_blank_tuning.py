"""The blank penalty: what tuning counts is what scoring counts, and a recipe carries the choice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blank_model import blank_model
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.utterances import split_utterances
from sottovoce.errors import ConfigError
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import WordErrors, total
from sottovoce.runtime import PackedRnnt, Recognizer
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training import blank
from sottovoce.training.blank import (
    best_blank_penalty,
    parse_penalties,
    transcribe_with_penalties,
    tune_blank_penalty,
)
from sottovoce.training.config import load_recipe
from sottovoce.training.scoring import scored_once, transcribe_split

PENALTIES = [0.0, 1.5, -1.0, 3.0]


@pytest.fixture(scope="module")
def model(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blank_model(tones, tmp_path_factory.mktemp("blank") / "model.safetensors")


@pytest.mark.parametrize("options", [{}, {"method": "beam", "beam": 2}])
def test_counts_are_those_of_scoring_with_each_penalty(
    model: Path, tones: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setattr(blank, "_BATCH", 5)  # 8 utterances: several batches, one of them not full
    tuned = tune_blank_penalty(model, tones, "dev", PENALTIES, **options)  # type: ignore[arg-type]
    assert [penalty for penalty, _ in tuned] == PENALTIES
    for penalty, counts in tuned:
        found = transcribe_split(model, tones, "dev", blank_penalty=penalty, **options)  # type: ignore[arg-type]
        assert counts == total(score_hypotheses(found))
    by_penalty = dict(tuned)
    assert by_penalty[-1.0].deletions > by_penalty[3.0].deletions
    assert len({counts.errors for counts in by_penalty.values()}) > 1


def test_every_utterance_is_encoded_once(model: Path, tones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, seen = PackedRnnt.encode, []
    monkeypatch.setattr(PackedRnnt, "encode", lambda self, f, n: seen.append(len(f)) or encode(self, f, n))
    tune_blank_penalty(model, tones, "dev", PENALTIES)
    assert seen == [8]


@pytest.mark.parametrize("arithmetic", ["int8", "float"])
def test_hypotheses_are_those_of_each_penalty_in_the_order_of_the_utterances(
    model: Path, tones: Path, monkeypatch: pytest.MonkeyPatch, arithmetic: Arithmetic
) -> None:
    monkeypatch.setattr(blank, "_BATCH", 5)
    recognizer = Recognizer(model, arithmetic=arithmetic)
    utterances = split_utterances(tones, "dev", recognizer.input)
    found = transcribe_with_penalties(recognizer, utterances[::-1], PENALTIES)
    for penalty, heard in zip(PENALTIES, found, strict=True):
        assert heard[::-1] == transcribe_split(model, tones, "dev", arithmetic=arithmetic, blank_penalty=penalty)
    assert transcribe_with_penalties(recognizer, [], PENALTIES) == [[], [], [], []]
    with pytest.raises(ConfigError, match="given twice"):
        transcribe_with_penalties(recognizer, utterances, [1.0, 1.0])


def test_the_best_has_the_fewest_errors_and_is_nearest_zero() -> None:
    errors = {-1.0: 4, -0.5: 3, 0.5: 3, 2.0: 3, 0.0: 5}
    tuned = [(penalty, WordErrors(substitutions=count, words=10)) for penalty, count in errors.items()]
    assert best_blank_penalty(tuned) == best_blank_penalty(tuned[::-1]) == 0.5
    assert best_blank_penalty(tuned[:2]) == -0.5


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8, unique=True))
def test_penalties_are_read_as_they_are_written(values: list[float]) -> None:
    assert parse_penalties(",".join(map(repr, values))) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,x", "found 'x'"),
        ("", "found ''"),
        ("1,,2", "found ''"),
        ("0,inf", "found inf"),
        ("1,1.0", "1 is given twice"),
    ],
)
def test_penalties_that_cannot_be_used_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_penalties(text)


def test_no_penalties_are_refused(model: Path, tones: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        tune_blank_penalty(model, tones, "dev", [])


def test_kept_hypotheses_belong_to_one_penalty(model: Path, tones: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dev.jsonl"
    plain = scored_once(model, tones, "dev", kept)
    changed = scored_once(model, tones, "dev", kept, blank_penalty=3.0)
    assert plain != changed == transcribe_split(model, tones, "dev", blank_penalty=3.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev-blank3.0.jsonl", "dev.jsonl"]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert scored_once(model, tones, "dev", kept) == plain
    assert scored_once(model, tones, "dev", kept, blank_penalty=3.0) == changed
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    os.utime(kept, ns=(0, 0))
    scored_once(model, tones, "dev", kept)
    assert kept.stat().st_mtime_ns > 0


def test_a_recipe_carries_the_penalty() -> None:
    assert load_recipe("fsdd").decoding.blank_penalty == 0
    assert load_recipe("fsdd", ["decoding.blank_penalty=1.5"]).decoding.blank_penalty == 1.5
    for bad in ("decoding.blank_penalty=.inf", "decoding.blank_penalty=much", "decoding.penalty=1"):
        with pytest.raises(ConfigError, match=bad.split("=")[0]):
            load_recipe("fsdd", [bad])
