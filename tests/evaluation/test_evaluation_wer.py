from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation import ScoredUtterance, WordErrors, align, count_errors, score, total

words = st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=7)


def distance(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Levenshtein's recurrence, word for word."""

    @cache
    def between(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = between(i - 1, j - 1) + (left[i - 1] != right[j - 1])
        return min(same, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(left), len(right))


@given(words, words)
def test_errors_are_the_edit_distance(reference: list[str], hypothesis: list[str]) -> None:
    found = count_errors(reference, hypothesis)
    assert found.errors == distance(tuple(reference), tuple(hypothesis))
    assert found.words == len(reference)
    assert found.words - found.deletions + found.insertions == len(hypothesis)
    assert count_errors(hypothesis, reference).errors == found.errors


@given(words, words)
def test_an_alignment_spells_both_sides(reference: list[str], hypothesis: list[str]) -> None:
    pairs = align(reference, hypothesis)
    assert [left for left, _ in pairs if left is not None] == reference
    assert [right for _, right in pairs if right is not None] == hypothesis
    assert (None, None) not in pairs


def test_counts_apart() -> None:
    assert count_errors(list("abcd"), list("axcd")) == WordErrors(1, 0, 0, 4)
    assert count_errors(list("ab"), list("abc")) == WordErrors(0, 1, 0, 2)
    assert count_errors(list("abc"), list("ac")) == WordErrors(0, 0, 1, 3)


@given(st.lists(st.tuples(words, words), max_size=5))
def test_counts_add_up(pairs: list[tuple[list[str], list[str]]]) -> None:
    parts = [count_errors(*pair) for pair in pairs]
    whole = total(ScoredUtterance(str(number), part) for number, part in enumerate(parts))
    assert whole.errors == sum(part.errors for part in parts)
    assert whole.words == sum(part.words for part in parts)


def test_wer_in_percent() -> None:
    assert WordErrors(1, 1, 1, 12).wer == 25.0
    assert WordErrors().wer == 0.0
    assert WordErrors(insertions=1).wer == float("inf")


def test_score_keeps_the_order_of_the_references() -> None:
    scored = score({"u2": "a b", "u1": "c"}, {"u1": "c", "u2": "a"})
    assert [(one.id, one.errors) for one in scored] == [("u2", WordErrors(0, 0, 1, 2)), ("u1", WordErrors(words=1))]


def test_a_missing_hypothesis_is_named_or_deleted() -> None:
    with pytest.raises(DataError, match="reference 'u2'"):
        score({"u1": "a", "u2": "b c"}, {"u1": "a"})
    scored = score({"u1": "a", "u2": "b c"}, {"u1": "a"}, missing="deletions")
    assert total(scored) == WordErrors(deletions=2, words=3)


def test_a_hypothesis_too_many_is_named() -> None:
    with pytest.raises(DataError, match="hypothesis 'u9'"):
        score({"u1": "a"}, {"u1": "a", "u9": "b"}, missing="deletions")
