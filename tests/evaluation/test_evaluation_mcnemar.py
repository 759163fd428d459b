import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation.mcnemar import McNemar, mcnemar_test, sign_test


def test_counts_sentences_that_one_system_gets_wrong() -> None:
    references = {"u1": "a b", "u2": "c", "u3": "d", "u4": "e", "u5": ""}
    first = {"u1": "a", "u2": "x", "u3": "d", "u4": "e f", "u5": ""}
    second = {"u1": "a  b", "u2": "y", "u3": "", "u4": "e", "u5": ""}
    # u1 and u4 in the first only, u3 in the second only: 2 (C(3,0) + C(3,1)) / 8 = 1.
    assert mcnemar_test(references, first, second) == McNemar(2, 1, 1.0)
    with pytest.raises(DataError, match="reference 'u5'"):
        mcnemar_test(references, first, dict.fromkeys(list(references)[:4], ""))


def test_published_tails() -> None:
    # Sign test tables: 1 of 10 has a two-tailed p of 22 / 1024, 0 of 6 of 2 / 64.
    assert sign_test(1, 9) == sign_test(9, 1) == 22 / 1024
    assert sign_test(0, 6) == 2 / 64 and sign_test(0, 0) == sign_test(7, 7) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_is_a_probability_that_falls_as_counts_part(left: int, right: int) -> None:
    p = sign_test(left, right)
    assert 0 < p <= 1 and p == sign_test(right, left)
    if right > left:
        assert sign_test(left, right + 1) < p or p == 1
