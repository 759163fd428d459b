import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation import RelativeDifference, holm, relative_difference, verdict, wer_margin


def spread(centre: float, error: float) -> RelativeDifference:
    draws = np.random.default_rng(0).normal(centre, error, 20_000)
    return RelativeDifference(centre, draws)


@pytest.mark.parametrize(
    ("bits", "margin"), [(8, 0.02), (5, 0.02), (4, 0.02), (3.9, 0.03), (3, 0.03), (2.5, 0.05), (2, 0.05), (1, 0.05)]
)
def test_margins(bits: float, margin: float) -> None:
    assert wer_margin(bits) == margin


@pytest.mark.parametrize(
    ("centre", "error", "kind"),
    [
        (0.0, 0.01, "non-inferior"),  # upper bound 0.0164
        (-0.05, 0.03, "non-inferior"),
        (0.01, 0.002, "non-inferior"),  # a loss for certain, and for certain a small one
        (0.0, 0.02, "not resolved"),  # upper bound 0.033, lower below 0
        (0.03, 0.03, "not resolved"),
        (0.05, 0.01, "inferior"),
        (0.02, 0.005, "worse"),  # a loss for certain, and whether it is more than the margin is not
        (0.05, 0.02, "worse"),
    ],
)
def test_kinds(centre: float, error: float, kind: str) -> None:
    found = verdict(spread(centre, error), 0.02)
    assert found.kind == kind
    assert found.upper == pytest.approx(centre + 1.6449 * error, abs=0.04 * error)
    assert found.lower == pytest.approx(centre - 1.6449 * error, abs=0.04 * error)
    # z(0.95) + z(0.80) = 1.6449 + 0.8416
    assert found.smallest_detectable == pytest.approx(2.4865 * error, rel=0.02)
    assert (found.relative_difference, found.margin) == (centre, 0.02)
    resolved = kind in ("non-inferior", "inferior")
    assert found.words == kind if resolved else found.words.startswith(f"{kind} (sees ")


def test_no_significance_is_no_proof() -> None:
    # Three utterances with equal totals: the difference is 0, and nothing is shown.
    found = verdict(relative_difference([4.0, 5.0, 6.0], [6.0, 5.0, 4.0], np.arange(3)), 0.02)
    assert found.kind == "not resolved" and found.relative_difference == 0.0 and found.smallest_detectable > 0.02


def test_a_control_without_errors_resolves_a_loss_only() -> None:
    found = verdict(relative_difference(np.zeros(9), np.ones(9), np.arange(9)), 0.02)
    assert found.kind == "inferior" and found.smallest_detectable == math.inf
    assert verdict(relative_difference(np.zeros(9), np.zeros(9), np.arange(9)), 0.02).kind == "non-inferior"


def test_power_is_what_it_says() -> None:
    # At a true difference of smallest_detectable a one-sided 5 % test rejects in four of five samples.
    rng = np.random.default_rng(5)
    error = 0.01
    centres = rng.normal(verdict(spread(0.0, error), 0.02).smallest_detectable, error, 4000)
    assert np.mean(centres > 1.6449 * error) == pytest.approx(0.8, abs=0.03)


def test_holm_published_example() -> None:
    # The usual worked example: 0.01, 0.04, 0.03, 0.005 at 5 % reject the first and the fourth only.
    # Sorted: 4 x 0.005 = 0.02, 3 x 0.01 = 0.03, 2 x 0.03 = 0.06, 1 x 0.04 -> 0.06 (never below its predecessor).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_bounds(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    count = len(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, count * p)
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)


@pytest.mark.parametrize("wrong", [[0.1, 1.5], [-0.1], [float("nan")]])
def test_holm_refuses_what_is_no_probability(wrong: list[float]) -> None:
    with pytest.raises(DataError, match="p-values"):
        holm(wrong)
