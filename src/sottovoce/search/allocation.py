"""Which option each cluster takes: exactly, by integer programming, and the front of what a budget buys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Options = NDArray[np.bool_]


@dataclass(frozen=True)
class Join:
    """Two clusters that cost less where they take the same option: ``saved`` int64 (B,), by option."""

    first: int
    second: int
    saved: Integers


@dataclass(frozen=True, eq=False)
class Budget:
    """Costs of each option, int64 (C, B), the most that their sum may be, and what is saved by joining."""

    cost: Integers
    most: int
    joins: tuple[Join, ...] = ()

    def spent(self, choice: Integers) -> int:
        """Cost of a choice (C,)."""
        saved = sum(int(j.saved[choice[j.first]]) for j in self.joins if choice[j.first] == choice[j.second])
        return int(_pick(self.cost, choice).sum()) - saved

    def margins(self) -> Integers:
        """The most that each cluster's joins can save, (C,)."""
        found = np.zeros(len(self.cost), np.int64)
        for join in self.joins:
            found[[join.first, join.second]] += int(join.saved.max())
        return found

    def spare(self) -> int:
        """The most that all joins together can save."""
        return sum(int(join.saved.max()) for join in self.joins)


def allocate(omega: Floats, budgets: Sequence[Budget], allowed: Options) -> Integers | None:
    """The option of each of C clusters, int64 (C,), with the least sum of ``omega`` within every budget.

    omega: (C, B), not negative; allowed: (C, B). None where nothing fits. Optimal to one part in 10**9: a
    multiple-choice knapsack, solved by HiGHS once options that no optimum can hold are gone.
    """
    options = _useful(omega, budgets, allowed)
    known = _feasible(omega, budgets, options)
    if known is None:
        return None
    best = _sum(omega, known)
    if best <= 0:
        return known
    for budget in budgets:
        options &= _within_reach(omega, budget, options, best)
    return _solve(omega / best * 1e3, budgets, options, known)


def front(omega: Floats, cost: Integers, allowed: Options) -> list[Integers]:
    """Choices (C,) along the lower convex hull of (summed cost, summed omega), cheapest first.

    Each is optimal for its own cost. They follow from each cluster's own hull: steps with the steepest fall come first.
    """
    choice = np.zeros(len(omega), np.int64)
    steps: list[tuple[float, int, int]] = []
    for c in range(len(omega)):
        hull = _hull(omega[c], cost[c], np.flatnonzero(allowed[c]))
        choice[c] = hull[0]
        for a, b in pairwise(hull):
            steps.append((_slope(omega[c], cost[c], a, b), c, b))
    found = [choice.copy()]
    for _, c, b in sorted(steps):
        choice[c] = b
        found.append(choice.copy())
    return found


def _hull(omega: Floats, cost: Integers, options: NDArray[np.intp]) -> list[int]:
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


def _useful(omega: Floats, budgets: Sequence[Budget], allowed: Options) -> Options:
    """Allowed options that no other one of the cluster beats in omega at no more cost, whatever is joined."""
    kept = allowed.copy()
    count = omega.shape[1]
    margins = [budget.margins() for budget in budgets]
    for a in range(count):
        for b in range(count):
            if a != b:
                no_worse = omega[:, a] <= omega[:, b]
                better = omega[:, a] < omega[:, b]
                for budget, margin in zip(budgets, margins, strict=True):
                    no_worse &= budget.cost[:, a] + margin <= budget.cost[:, b]
                    better |= budget.cost[:, a] + margin < budget.cost[:, b]
                kept[no_worse & (better | (a < b)) & kept[:, a], b] = False
    return kept


def _within_reach(omega: Floats, budget: Budget, options: Options, best: float) -> Options:
    """Options that some choice better than ``best`` may hold: the others' price at the budget's own multiplier is above
    what is left to gain. Few remain, which is what makes the program small."""
    multiplier, most = 0.0, budget.most + budget.spare()
    for cheap, dear in pairwise(front(omega, budget.cost, options)):
        if int(_pick(budget.cost, dear).sum()) > most:
            spent = int(_pick(budget.cost, dear).sum() - _pick(budget.cost, cheap).sum())
            multiplier = (_sum(omega, cheap) - _sum(omega, dear)) / spent
            break
    price = np.where(options, omega + multiplier * budget.cost, np.inf)
    least = price.min(1)
    bound = float(least.sum()) - multiplier * most  # of every choice within the budget
    reachable: Options = bound + price - least[:, None] <= best * (1 + 1e-9)
    return reachable


def _feasible(omega: Floats, budgets: Sequence[Budget], options: Options) -> Integers | None:
    """Some choice within every budget, and a good one where that is easy: from the front by one cost, or the same
    option everywhere; else whatever the solver finds."""
    tried = [choice for budget in budgets for choice in front(omega, budget.cost, options)]
    tried += [np.full(len(omega), b) for b in range(omega.shape[1]) if options[:, b].all()]
    fitting = sorted((x for x in tried if _fits(x, budgets)), key=lambda x: _sum(omega, x))
    if fitting:
        return min((_filled(omega, budgets, options, x) for x in fitting[:4]), key=lambda x: _sum(omega, x))
    return _solve(np.zeros_like(omega), budgets, options, None)


def _filled(omega: Floats, budgets: Sequence[Budget], options: Options, choice: Integers) -> Integers:
    """What is left of the budgets spent on single changes, the largest fall of omega first."""
    rows, usable = np.arange(len(omega)), options.copy()
    while True:
        gain = np.where(usable, omega[rows, choice][:, None] - omega, 0.0)
        for budget in budgets:
            more = budget.cost - _pick(budget.cost, choice)[:, None]
            gain[more > budget.most - budget.spent(choice)] = 0.0
        c, b = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[c, b] <= 0:
            return choice
        trial = choice.copy()
        trial[c] = b
        if _fits(trial, budgets):
            choice = trial
        usable[c, b] = False  # taken, or a join is lost that makes it too dear


def _solve(omega: Floats, budgets: Sequence[Budget], options: Options, known: Integers | None) -> Integers | None:
    """The best of the options left, ``known`` where the solver finds nothing better.

    Variables: one a cluster and option; and for each join and option one that is bounded by both sides' own.
    """
    c, b = np.nonzero(options)
    number = np.full(omega.shape, -1)
    number[c, b] = np.arange(len(c))
    joined = [
        (k, i, option)
        for k, budget in enumerate(budgets)
        for i, join in enumerate(budget.joins)
        for option in range(omega.shape[1])
        if options[join.first, option] and options[join.second, option]
    ]
    size = len(c) + len(joined)
    constraints = [LinearConstraint(csr_array((np.ones(len(c)), (c, np.arange(len(c)))), (len(omega), size)), 1, 1)]
    for k, budget in enumerate(budgets):
        row = np.zeros(size)
        row[: len(c)] = budget.cost[c, b]
        for y, (of, i, option) in enumerate(joined, start=len(c)):
            row[y] = -float(budget.joins[i].saved[option]) if of == k else 0.0
        scale = max(float(np.abs(row).max()) / 1e3, 1e-30)  # the solver's tolerances are absolute
        # Half a unit: sums are whole, so that rounding inside the solver decides nothing.
        constraints.append(LinearConstraint(row[None] / scale, -np.inf, (budget.most + 0.5) / scale))
    if joined:
        at, columns, values = [], [], []
        for y, (k, i, option) in enumerate(joined):
            join = budgets[k].joins[i]
            for side, cluster in enumerate((join.first, join.second)):
                at += [2 * y + side] * 2
                columns += [len(c) + y, int(number[cluster, option])]
                values += [1.0, -1.0]
        constraints.append(LinearConstraint(csr_array((values, (at, columns)), (2 * len(joined), size)), -np.inf, 0))
    with _quiet():
        result = milp(
            np.concatenate([omega[c, b], np.zeros(len(joined))]),
            integrality=np.concatenate([np.ones(len(c)), np.zeros(len(joined))]),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "presolve": False},  # what presolving finds is gone already
        )
    if result.x is None:
        return known
    choice = np.zeros(len(omega), np.int64)
    chosen = result.x[: len(c)] > 0.5
    choice[c[chosen]] = b[chosen]
    good = _fits(choice, budgets) and (known is None or _sum(omega, choice) <= _sum(omega, known))
    return choice if good else known


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


def _fits(choice: Integers, budgets: Sequence[Budget]) -> bool:
    return all(budget.spent(choice) <= budget.most for budget in budgets)


def _sum(omega: Floats, choice: Integers) -> float:
    return float(_pick(omega, choice).sum())


def _pick(values: NDArray[Any], choice: Integers) -> NDArray[Any]:
    return values[np.arange(len(values)), choice]
