"""Exact allocation against brute force and dynamic programming; the front; budgets that nothing fits."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.search.allocation import Budget, Join, allocate, front


def total(values: np.ndarray, choice: np.ndarray) -> float:
    return float(values[np.arange(len(values)), choice].sum())


def problem(rng: np.random.Generator, count: int, widths: int) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivities that mostly fall with the bits, and costs that grow."""
    size = rng.integers(1, 60, count)
    omega = size[:, None] * 4.0 ** -np.arange(1, widths + 1) * np.exp(rng.normal(0, 1.0, (count, widths)))
    return omega, size[:, None] * np.arange(1, widths + 1) + rng.integers(0, 3, (count, 1))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 5), st.integers(1, 4), st.floats(0.0, 1.2), st.booleans(), st.booleans())
def test_nothing_fits_better(seed: int, count: int, widths: int, place: float, two: bool, joined: bool) -> None:
    rng = np.random.default_rng(seed)
    omega, cost = problem(rng, count, widths)
    allowed = np.ones_like(cost, bool)
    allowed[:, :-1] = rng.random((count, widths - 1)) < 0.8
    most = int(cost.min(1).sum() + place * (cost.max(1) - cost.min(1)).sum())
    pairs = [(a, b) for a, b in pairwise(range(count)) if rng.random() < 0.6] if joined else []
    budgets = [Budget(cost, most, tuple(Join(a, b, rng.integers(0, 40, widths)) for a, b in pairs))]
    if two:
        other = rng.integers(1, 50, cost.shape)
        budgets.append(Budget(other, int(other.mean(1).sum())))
    best = np.inf
    for options in product(range(widths), repeat=count):
        choice = np.array(options)
        if allowed[np.arange(count), choice].all() and all(b.spent(choice) <= b.most for b in budgets):
            best = min(best, total(omega, choice))
    found = allocate(omega, budgets, allowed)
    if found is None:
        assert best == np.inf
        return
    assert all(b.spent(found) <= b.most for b in budgets) and allowed[np.arange(count), found].all()
    assert total(omega, found) == pytest.approx(best, rel=1e-8)


def dynamic_program(omega: np.ndarray, cost: np.ndarray, most: int) -> float:
    """The least sum of omega over all budgets up to ``most``, cluster after cluster."""
    best = np.zeros(most + 1)
    for row, price in zip(omega, cost, strict=True):
        trial = np.full((len(row), most + 1), np.inf)
        for b in range(len(row)):
            trial[b, price[b] :] = best[: most + 1 - price[b]] + row[b]
        best = trial.min(0)
    return float(best[most])


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_clusters_at_eight_widths_are_optimal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    omega, cost = problem(rng, 200, 8)
    most = int(2.3 * cost[:, 0].sum())
    found = allocate(omega, [Budget(cost, most)], np.ones_like(cost, bool))
    assert found is not None and total(cost, found) <= most
    assert total(omega, found) == pytest.approx(dynamic_program(omega, cost, most), rel=1e-9)


def test_sizes_of_real_models_are_no_difficulty() -> None:
    rng = np.random.default_rng(7)
    size = (10 ** rng.uniform(3, 6.5, 200)).astype(np.int64)
    omega = size[:, None] ** 0.7 * 4.0 ** -np.arange(1, 9) * np.exp(rng.normal(0, 0.3, (200, 8)))
    cost = size[:, None] * np.arange(1, 9)
    most = int(2.3 * size.sum())
    found = allocate(omega, [Budget(cost, most)], np.ones_like(cost, bool))
    assert found is not None and total(cost, found) <= most
    # No budget a thousandth larger buys more than the price at the margin: the solution is at the bound.
    corners = [(total(cost, x), total(omega, x)) for x in front(omega, cost, np.ones_like(cost, bool))]
    (c0, o0), (c1, o1) = next((a, b) for a, b in pairwise(corners) if b[0] > most)
    bound = o0 + (o1 - o0) * (most - c0) / (c1 - c0)
    assert bound <= total(omega, found) <= bound * 1.001


def test_bands_that_join_are_no_difficulty_either() -> None:
    rng = np.random.default_rng(8)
    size = (10 ** rng.uniform(3, 5, 200)).astype(np.int64)
    omega = size[:, None] ** 0.7 * 4.0 ** -np.arange(1, 9) * np.exp(rng.normal(0, 0.3, (200, 8)))
    cost = size[:, None] * np.arange(1, 9) // 8
    joins = tuple(Join(i, i + 1, 540 + 2 ** np.arange(1, 9)) for i in range(199) if i % 4 < 3)
    budget = Budget(cost, int(2.3 * size.sum() / 8), joins)
    found = allocate(omega, [budget], np.ones_like(cost, bool))
    apart = allocate(omega, [Budget(cost, budget.most)], np.ones_like(cost, bool))
    assert found is not None and apart is not None and budget.spent(found) <= budget.most
    assert total(omega, found) < total(omega, apart)


def test_the_solver_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        size = (10 ** rng.uniform(3, 6.5, 200)).astype(np.int64)
        omega = size[:, None] ** 0.7 * 4.0 ** -np.arange(1, 9) * np.exp(rng.normal(0, 0.3, (200, 8)))
        allocate(omega, [Budget(size[:, None] * np.arange(1, 9), int(2.3 * size.sum()))], np.ones_like(omega, bool))
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 5), st.integers(1, 4))
def test_every_point_of_the_front_is_the_best_for_its_cost(seed: int, count: int, widths: int) -> None:
    omega, cost = problem(np.random.default_rng(seed), count, widths)
    allowed = np.ones_like(cost, bool)
    points = front(omega, cost, allowed)
    assert total(cost, points[0]) == cost.min(1).sum()
    assert total(omega, points[-1]) == pytest.approx(omega.min(1).sum())
    for a, b in pairwise(points):
        assert total(cost, a) < total(cost, b) and total(omega, a) > total(omega, b)
    for point in points:
        best = allocate(omega, [Budget(cost, int(total(cost, point)))], allowed)
        assert best is not None and total(omega, point) == pytest.approx(total(omega, best), rel=1e-8)


def test_zero_sensitivity_and_nothing_that_fits() -> None:
    cost = np.array([[1, 2], [1, 2]])
    assert allocate(np.zeros((2, 2)), [Budget(cost, 2)], np.ones((2, 2), bool)).tolist() == [0, 0]  # type: ignore[union-attr]
    assert allocate(np.ones((2, 2)), [Budget(cost, 1)], np.ones((2, 2), bool)) is None
