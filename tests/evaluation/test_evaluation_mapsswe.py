import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation import count_errors, matched_pairs, segment_errors
from sottovoce.evaluation.mapsswe import mapsswe

words = st.lists(st.sampled_from("abc"), max_size=10)


def test_textbook_example() -> None:
    # Jurafsky and Martin, "Speech and Language Processing" (3rd edition), on evaluating recognizers: four segments,
    #   it was | the best of times it was the worst of times | it was    with
    #   I: "it was" by A as "its" (2 errors);  II: B loses "of";  III: "was the worst" is "is the worst" in A,
    #   "won the test" in B;  IV: A inserts "or".   The book's differences are {2, -1, -1, 1}.
    reference = "it was the best of times it was the worst of times it was"
    first = "its the best of times it is the worst of times or it was"
    second = "it was the best times it won the test of times it was"
    segments = segment_errors(reference.split(), first.split(), second.split())
    assert segments == [(2, 0), (0, 1), (1, 2), (1, 0)]
    result = matched_pairs([left - right for left, right in segments])
    # mean 1/4; squared deviations 1.75^2 + 2 * 1.25^2 + 0.75^2 = 6.75, over n - 1 = 3 gives sd 1.5; Z = .25 / (1.5 / 2)
    assert (result.segments, result.mean_difference) == (4, 0.25)
    assert result.z == pytest.approx(1 / 3)
    assert result.p == pytest.approx(0.7389, abs=5e-5)  # 2 (1 - Phi(1/3))


def test_published_numbers_of_the_nist_toolkit() -> None:
    # The reference output of the toolkit's own test "test1a": 3 segments with 9 errors against 7, of which one segment
    # is correct in the second system only. "mean: 0.667, std dev: 0.577, Z Stat: 2.000, Stat Diff: Yes".
    # Three integers with sum 2 and sd 0.577 are 1, 1, 0.
    result = matched_pairs([1, 1, 0])
    assert f"{result.mean_difference:.3f} {result.z:.3f}" == "0.667 2.000"
    assert result.p == pytest.approx(0.0455, abs=5e-5) and result.p < 0.05
    mirrored = matched_pairs([-1, -1, 0])  # "test1b" swaps the systems: mean -0.667, Z -2.000
    assert f"{mirrored.mean_difference:.3f} {mirrored.z:.3f}" == "-0.667 -2.000" and mirrored.p == result.p


@pytest.mark.parametrize(
    ("reference", "first", "second", "segments"),
    [
        ("a b c d", "a b c d", "a b c d", []),
        ("a b c d e f", "x b c d e f", "a b c d e y", [(1, 0), (0, 1)]),
        ("a b c", "x b y", "a b c", [(2, 0)]),  # one word correct in between does not separate
        ("a b c d", "x b c y", "a b c d", [(1, 0), (1, 0)]),  # two do
        ("a b c d", "x b c y", "a b z d", [(2, 1)]),  # two, but not in both systems
        ("a b c d", "x b z c y", "a b c d", [(3, 0)]),  # nor with an insertion between the two
        ("a b c d", "x b c y", "a b z c d", [(2, 1)]),  # wherever the insertion stands
        ("a b c", "a b c z", "z a b c", [(0, 1), (1, 0)]),  # the utterance's ends bound too
        ("", "x y", "z", [(2, 1)]),
        ("a b c d e", "a e", "a b c d e", [(3, 0)]),
    ],
)
def test_segments(reference: str, first: str, second: str, segments: list[tuple[int, int]]) -> None:
    assert segment_errors(reference.split(), first.split(), second.split()) == segments


@given(words, words, words, st.integers(1, 3))
def test_segments_hold_all_errors_and_mirror(
    reference: list[str], first: list[str], second: list[str], boundary: int
) -> None:
    segments = segment_errors(reference, first, second, boundary)
    assert sum(left for left, _ in segments) == count_errors(reference, first).errors
    assert sum(right for _, right in segments) == count_errors(reference, second).errors
    assert all(left or right for left, right in segments)
    assert segment_errors(reference, second, first, boundary) == [(right, left) for left, right in segments]
    assert len(segment_errors(reference, first, second, boundary + 1)) <= len(segments)


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_z_and_p_belong_together(differences: list[int]) -> None:
    result = matched_pairs(differences)
    assert result.segments == len(differences)
    assert result.p == pytest.approx(math.erfc(abs(result.z) / math.sqrt(2)), rel=1e-6)
    assert result.z * result.mean_difference >= 0
    mirrored = matched_pairs([-difference for difference in differences])
    assert (mirrored.p, mirrored.z) == pytest.approx((result.p, -result.z))


@pytest.mark.parametrize(("count", "p"), [(1, 1.0), (2, 0.5), (5, 0.0625), (10, 2 / 1024)])
def test_equal_differences_fall_back_on_the_sign_test(count: int, p: float) -> None:
    result = matched_pairs([-2] * count)
    assert result.p == pytest.approx(p)
    assert result.z < 0 or count == 1


def test_equal_differences_in_thousands_stay_finite() -> None:
    assert 0 < matched_pairs([1] * 5000).p < 1e-200


def test_no_difference() -> None:
    assert (matched_pairs([]).p, matched_pairs([0, 0]).p, matched_pairs([0, 0]).z) == (1.0, 1.0, 0.0)


def test_over_utterances() -> None:
    references = {"u1": "a b c", "u2": "a b c", "u3": "c c"}
    good, bad = references, {"u1": "a b x", "u2": "x b c d", "u3": "c c"}
    result = mapsswe(references, bad, good)
    assert (result.segments, result.mean_difference) == (3, 1.0)
    assert mapsswe(references, good, good).p == 1.0
    with pytest.raises(DataError, match="reference 'u2'"):
        mapsswe(references, good, {"u1": "a"})
