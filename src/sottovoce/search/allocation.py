"""Which option each cluster takes: exactly, by integer programming, and the front of what a budget buys."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def allocate(omega: Floats, budgets: Sequence[tuple[Integers, int]], allowed: NDArray[np.bool_]) -> Integers | None:
    """The option of each of C clusters, int64 (C,), with the least sum of ``omega`` within every budget.

    omega: (C, B), not negative; budgets: pairs of costs, int64 (C, B), and the most that their sum may be; allowed:
    (C, B). None where nothing fits. Optimal to one part in 10**9: a multiple-choice knapsack, solved by HiGHS.
    """
    options = _useful(omega, budgets, allowed)
    start = _feasible(omega, budgets, options)
    if start is None:
        return None
    best = _sum(omega, start)
    if best <= 0:
        return start
    for cost, most in budgets:
        options &= _within_reach(omega, cost, most, options, best)
    return _solve(omega / best * 1e3, budgets, options, start)


def front(omega: Floats, cost: Integers, allowed: NDArray[np.bool_]) -> list[Integers]:
    """Choices (C,) along the lower convex hull of (summed cost, summed omega), cheapest first.

    Each is optimal for its own cost. They follow from each cluster's own hull: steps with the steepest fall come first.
    """
    choice = np.zeros(len(omega), np.int64)
    steps: list[tuple[float, int, int]] = []
    for c in range(len(omega)):
        hull = _hull(omega[c], cost[c], np.flatnonzero(allowed[c]))
        choice[c] = hull[0]
        for a, b in itertools.pairwise(hull):
            steps.append(((omega[c, b] - omega[c, a]) / (cost[c, b] - cost[c, a]), c, int(b)))
    found = [choice.copy()]
    for _, c, b in sorted(steps):
        choice[c] = b
        found.append(choice.copy())
    return found


def _hull(omega: Floats, cost: Integers, options: NDArray[np.int64]) -> list[int]:
    """Options on the lower hull of one cluster, by growing cost and falling omega."""
    hull: list[int] = []
    for b in sorted(options.tolist(), key=lambda i: (cost[i], omega[i])):
        if hull and omega[b] >= omega[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(omega, cost, hull[-2], hull[-1]) >= _slope(omega, cost, hull[-1], b):
            hull.pop()
        hull.append(b)
    return hull


def _slope(omega: Floats, cost: Integers, a: int, b: int) -> float:
    return float((omega[b] - omega[a]) / (cost[b] - cost[a]))


def _useful(omega: Floats, budgets: Sequence[tuple[Integers, int]], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Allowed options that no other one of the cluster beats in omega at no more cost."""
    kept = allowed.copy()
    count = omega.shape[1]
    for a in range(count):
        for b in range(count):
            if a != b:
                no_worse = omega[:, a] <= omega[:, b]
                better = omega[:, a] < omega[:, b]
                for cost, _ in budgets:
                    no_worse &= cost[:, a] <= cost[:, b]
                    better |= cost[:, a] < cost[:, b]
                kept[no_worse & (better | (a < b)) & kept[:, a], b] = False
    return kept


def _within_reach(
    omega: Floats, cost: Integers, most: int, options: NDArray[np.bool_], best: float
) -> NDArray[np.bool_]:
    """Options that some choice better than ``best`` may hold: the others' price at the budget's own multiplier is above
    what is left to gain. Few remain, which is what makes the program small."""
    multiplier = 0.0
    choices = front(omega, cost, options)
    for cheap, dear in itertools.pairwise(choices):
        if int(_pick(cost, dear).sum()) > most:
            spent = int(_pick(cost, dear).sum() - _pick(cost, cheap).sum())
            multiplier = (_sum(omega, cheap) - _sum(omega, dear)) / spent
            break
    price = np.where(options, omega + multiplier * cost, np.inf)
    least = price.min(1)
    bound = float(least.sum()) - multiplier * most  # of every choice within the budget
    reachable: NDArray[np.bool_] = bound + price - least[:, None] <= best * (1 + 1e-9)
    return reachable


def _feasible(omega: Floats, budgets: Sequence[tuple[Integers, int]], options: NDArray[np.bool_]) -> Integers | None:
    """Some choice within every budget: the best point of a front by one cost, else whatever the solver finds."""
    for cost, _ in budgets:
        fitting = [x for x in front(omega, cost, options) if _fits(x, budgets)]
        if fitting:
            return min((_filled(omega, budgets, options, x) for x in fitting[-4:]), key=lambda x: _sum(omega, x))
    return _solve(np.zeros_like(omega), budgets, options, None)


def _filled(
    omega: Floats, budgets: Sequence[tuple[Integers, int]], options: NDArray[np.bool_], choice: Integers
) -> Integers:
    """What is left of the budgets spent on single changes, the largest fall of omega first."""
    rows = np.arange(len(omega))
    while True:
        gain = np.where(options, omega[rows, choice][:, None] - omega, -np.inf)
        for cost, most in budgets:
            left = most - int(cost[rows, choice].sum())
            gain[cost - cost[rows, choice][:, None] > left] = -np.inf
        c, b = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[c, b] <= 0:
            return choice
        choice = choice.copy()
        choice[c] = b


def _solve(
    omega: Floats, budgets: Sequence[tuple[Integers, int]], options: NDArray[np.bool_], known: Integers | None
) -> Integers | None:
    c, b = np.nonzero(options)
    rows = np.zeros((len(omega), len(c)))
    rows[c, np.arange(len(c))] = 1
    constraints = [LinearConstraint(rows, 1, 1)]
    for cost, most in budgets:
        unit = gcd(*cost[c, b].tolist())
        scale = max(float(cost[c, b].max()) / 1e3, 1e-30)  # the solver's tolerances are absolute
        # Half a unit: sums are whole, so that rounding inside the solver decides nothing.
        constraints.append(LinearConstraint(cost[c, b][None] / scale, -np.inf, (most // unit + 0.5) * unit / scale))
    with _quiet():
        result = milp(
            omega[c, b],
            integrality=np.ones(len(c)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "presolve": False},  # what presolving finds is gone already
        )
    found = known
    if result.x is not None:
        choice = np.zeros(len(omega), np.int64)
        chosen = result.x > 0.5
        choice[c[chosen]] = b[chosen]
        if _fits(choice, budgets) and (known is None or _sum(omega, choice) <= _sum(omega, known)):
            found = choice
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing from the solver on the standard output: HiGHS 1.12 prints a line of debugging there, whatever it is
    told, which would be in the midst of a command's own."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _fits(choice: Integers, budgets: Sequence[tuple[Integers, int]]) -> bool:
    return all(int(_pick(cost, choice).sum()) <= most for cost, most in budgets)


def _sum(omega: Floats, choice: Integers) -> float:
    return float(_pick(omega, choice).sum())


def _pick(values: NDArray, choice: Integers) -> NDArray:  # type: ignore[type-arg]
    return values[np.arange(len(values)), choice]
