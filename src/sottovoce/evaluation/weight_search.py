"""Weights of a log-linear mix of scores, tuned for the fewest word errors on n-best lists of a development set.

Each line of weights is searched exactly (``line_search``); lines are the axes and, as in Powell's method, the way that
a round over them went; several starts guard against local minima. Among weights of equal errors the one with the
smallest loss is taken: the errors that are expected when entries are drawn by the softmax of their scores (Och 2003,
equation 7).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.decoding.nbest_lists import NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.line_search import Features, Floats, Integers, best_points, errors_along
from sottovoce.evaluation.wer import count_errors

WORD_PENALTY = "word_penalty"
LARGEST = 100.0
_TIES = 16  # points of equal errors whose losses are compared


@dataclass(frozen=True)
class TunedWeights:
    """The weights, their word errors against ``words`` reference words, the errors of the weights that the search began
    from and those of the best entry of each list; ``loss`` is the expected number of errors."""

    weights: ScoreWeights
    errors: int
    initial_errors: int
    oracle_errors: int
    words: int
    loss: float


def tune_weights(
    lists: Sequence[NBestList],
    references: Mapping[str, str],
    initial: ScoreWeights,
    *,
    fixed: Sequence[str] = (),
    bounds: Mapping[str, tuple[float, float]] | None = None,
    starts: int = 8,
    rounds: int = 20,
    seed: int = 0,
) -> TunedWeights:
    """Tune the factors of ``initial`` and the word penalty on lists with their reference texts.

    ``fixed`` names what stays ("word_penalty" too); a common factor of all weights changes no choice, so one should,
    and without ``fixed`` the first factor does. ``bounds``: lowest and highest value of a weight, 0 to 100 for factors
    and -100 to 100 for the penalty if not given; what is fixed may lie outside. The search starts from ``initial`` and
    from starts - 1 random points. Raises DataError for a list without its reference, ConfigError for names or bounds
    that do not fit, and for a weight to tune that begins outside its bounds.
    """
    names = [*initial.factors, WORD_PENALTY]
    held = set(fixed or names[:1])
    limits = _limits(names, held, bounds or {})
    begin = np.array([*initial.factors.values(), initial.word_penalty])
    free = [i for i, name in enumerate(names) if name not in held]
    limits = _around(begin, names, free, limits)
    features, words = features_of(lists, references, names)
    rng = np.random.default_rng(seed)
    found = [
        _descend(features, weights, free, limits, rounds)
        for weights in (begin, *(_random(rng, begin, free, limits) for _ in range(starts - 1)))
    ]
    best = min(found, key=lambda weights: _objective(features, weights))
    errors, loss = _objective(features, best)
    return TunedWeights(
        ScoreWeights(dict(zip(names[:-1], best[:-1].tolist(), strict=True)), float(best[-1])),
        errors,
        _objective(features, begin)[0],
        sum(int(item.errors.min()) for item in features),
        words,
        loss,
    )


def _limits(names: Sequence[str], held: set[str], bounds: Mapping[str, tuple[float, float]]) -> Floats:
    unknown = next((name for name in (*held, *bounds) if name not in names), None)
    if unknown is not None:
        raise ConfigError(f"weights: expected {', '.join(names)}, found {unknown!r}")
    limits = np.array([bounds.get(name, (-LARGEST if name == WORD_PENALTY else 0.0, LARGEST)) for name in names])
    if not (limits[:, 0] < limits[:, 1]).all() or not np.isfinite(limits).all():
        raise ConfigError(f"weights: expected finite bounds that rise, found {dict(bounds)}")
    return limits


def _around(begin: Floats, names: Sequence[str], free: Sequence[int], limits: Floats) -> Floats:
    """The limits, those of what is fixed being where it is. Raises ConfigError for a start outside of them."""
    for i in free:
        low, high = limits[i].tolist()
        if not low <= begin[i] <= high:
            raise ConfigError(f"weights: expected {names[i]} to begin from {low:g} to {high:g}, found {begin[i]:g}")
    around = np.stack([begin, begin], axis=1)
    around[free] = limits[free]
    return around


def features_of(
    lists: Sequence[NBestList], references: Mapping[str, str], names: Sequence[str]
) -> tuple[list[Features], int]:
    """Lists as numbers, with a column for each score but the last of ``names``, and then the words of each entry; and
    the words of all references. Raises DataError for no list, or one without its reference or a score."""
    if not lists:
        raise DataError("weights: expected n-best lists to tune on, found none")
    features, words = [], 0
    for item in lists:
        if item.id not in references:
            raise DataError(f"n-best list {item.id!r}: there is no reference of that name")
        reference = references[item.id].split()
        words += len(reference)
        columns = item.columns()
        missing = next((name for name in names[:-1] if name not in columns), None)
        if missing is not None:
            raise DataError(f"n-best list {item.id!r}: expected the score {missing!r}, found {', '.join(columns)}")
        values = np.stack([*(columns[name] for name in names[:-1]), item.lengths().astype(np.float64)], axis=1)
        errors = [count_errors(reference, entry.words).errors for entry in item.entries]
        features.append(Features(values, np.array(errors, np.int64)))
    return features, words


def _random(rng: np.random.Generator, begin: Floats, free: Sequence[int], limits: Floats) -> Floats:
    """The start with each free weight between a tenth and ten times itself (1 where it is 0), the penalty around 0."""
    weights = begin.copy()
    for i in free:
        if i == len(begin) - 1:
            weights[i] = rng.normal(0.0, 2.0)
        else:
            weights[i] = (begin[i] or 1.0) * 10.0 ** rng.uniform(-1, 1)
    return np.clip(weights, limits[:, 0], limits[:, 1])


def _descend(features: Sequence[Features], weights: Floats, free: Sequence[int], limits: Floats, rounds: int) -> Floats:
    """Line after line until a round brings nothing."""
    reached = _objective(features, weights)
    axes = np.eye(len(weights))
    for _ in range(rounds):
        before, start = weights, reached
        for i in free:
            weights, reached = _along(features, weights, axes[i], limits, reached)
        if np.any(weights != before):
            weights, reached = _along(features, weights, weights - before, limits, reached)
        if reached >= start:
            break
    return weights


def _along(
    features: Sequence[Features], weights: Floats, direction: Floats, limits: Floats, reached: tuple[int, float]
) -> tuple[Floats, tuple[int, float]]:
    """The best point on a line, or where it began if that is as good."""
    origin, (low, high) = weights, _reach(weights, direction, limits)
    if not low < high:
        return weights, reached
    points = best_points(errors_along(features, weights, direction), low, high)
    points = points[np.unique(np.linspace(0, len(points) - 1, min(len(points), _TIES)).astype(np.int64))]
    for t in points.tolist():
        candidate = np.clip(origin + t * direction, limits[:, 0], limits[:, 1])
        objective = _objective(features, candidate)
        if objective < reached:
            weights, reached = candidate, objective
    return weights, reached


def _reach(weights: Floats, direction: Floats, limits: Floats) -> tuple[float, float]:
    """How far the line stays within the limits, both ways."""
    low, high = -math.inf, math.inf
    for w, d, (first, last) in zip(weights.tolist(), direction.tolist(), limits.tolist(), strict=True):
        if d:
            ends = sorted(((first - w) / d, (last - w) / d))
            low, high = max(low, ends[0]), min(high, ends[1])
    return low, high


def _objective(features: Sequence[Features], weights: Floats) -> tuple[int, float]:
    """Errors of the best entries, and of all entries by the softmax of their scores."""
    errors, loss = 0, 0.0
    for item in features:
        scores = item.values @ weights
        errors += int(item.errors[np.argmax(scores)])
        loss += expected_errors(scores, item.errors)
    return errors, loss


def expected_errors(scores: Floats, errors: Integers) -> float:
    """Errors (K,) of a list's entries, drawn by the softmax of their scores (K,)."""
    shares = np.exp(scores - scores.max())
    return float(shares @ errors / shares.sum())
