import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.line_search import Features, best_points, errors_along, upper_envelope
from sottovoce.evaluation.weight_search import tune_weights

numbers = st.integers(-12, 12).map(lambda n: n / 3)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12))
def test_the_envelope_is_the_highest_line_everywhere(lines) -> None:
    a, b = (np.array(values) for values in zip(*lines, strict=True))
    corners, top = upper_envelope(a, b)
    assert len(top) == len(corners) + 1 and np.all(np.diff(corners) > 0)
    for t in np.concatenate([np.linspace(-100, 100, 401), corners]).tolist():
        winner = top[np.searchsorted(corners, t)]
        assert a[winner] + b[winner] * t == pytest.approx((a + b * t).max(), abs=1e-9)


def test_of_equal_lines_the_first_wins() -> None:
    corners, top = upper_envelope(np.array([1.0, 2.0, 2.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert corners.tolist() == [2.0] and top.tolist() == [1, 3]


@st.composite
def features(draw: st.DrawFn, size: int = 3):
    count = draw(st.integers(1, 6))
    values = draw(st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=count, max_size=count))
    errors = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    return Features(np.array(values, np.float64), np.array(errors, np.int64))


def errors_at(lists, weights) -> int:
    return sum(int(item.errors[np.argmax(item.values @ weights)]) for item in lists)


@given(st.lists(features(), min_size=1, max_size=6), st.lists(numbers, min_size=6, max_size=6))
def test_the_line_search_has_what_a_fine_grid_has(lists, point) -> None:
    weights, direction = np.array(point[:3]), np.array(point[3:])
    steps = errors_along(lists, weights, direction)
    grid = np.linspace(-49.5, 49.5, 991) + 0.00123
    away = np.abs(grid[:, None] - steps.corners).min(axis=1, initial=np.inf) > 1e-6
    for t in grid[away].tolist():
        scores = [item.values @ weights + t * (item.values @ direction) for item in lists]
        # Entries that score the same along all of the line may take each other's place.
        if all(np.sum(np.abs(s - s.max()) < 1e-9) == 1 for s in scores):
            assert steps.at(t) == errors_at(lists, weights + t * direction)
    least = min(steps.at(t) for t in grid.tolist())
    for t in best_points(steps, -50.0, 50.0).tolist():
        assert -50 <= t <= 50 and steps.at(t) <= least


def nbest(rng: np.random.Generator, lists: int, entries: int) -> tuple[list[NBestList], dict[str, str]]:
    """Entries with more errors have lower scores, with noise; the second score needs a factor of about 3."""
    found, references = [], {}
    for i in range(lists):
        reference = ["w"] * 6
        items = []
        for _ in range(entries):
            wrong = int(rng.integers(0, 6))
            words = ["x"] * wrong + ["w"] * (6 - wrong + int(rng.integers(-1, 2)))
            noise = rng.normal(0, 4)
            scores = {"acoustic": -wrong + 3 * noise, "lm": -noise - wrong / 2 + rng.normal(0, 0.7)}
            items.append(NBestEntry(tuple(words), scores))
        references[f"u{i}"] = " ".join(reference)
        found.append(NBestList(f"u{i}", tuple(items)))
    return found, references


@pytest.mark.parametrize("seed", range(4))
def test_tuned_weights_are_no_worse_than_a_fine_grid(seed: int) -> None:
    lists, references = nbest(np.random.default_rng(seed), 30, 8)
    tuned = tune_weights(lists, references, ScoreWeights({"acoustic": 1.0, "lm": 1.0}))
    values = [np.stack([*item.columns().values(), item.lengths()], axis=1) for item in lists]
    from sottovoce.evaluation import count_errors

    errors = [
        np.array([count_errors(references[item.id].split(), e.words).errors for e in item.entries]) for item in lists
    ]
    grid = [
        sum(int(e[np.argmax(v @ np.array([1.0, lm, penalty]))]) for v, e in zip(values, errors, strict=True))
        for lm, penalty in itertools.product(np.linspace(0, 8, 81), np.linspace(-5, 5, 41))
    ]
    assert tuned.errors <= min(grid)
    assert tuned.oracle_errors <= tuned.errors <= tuned.initial_errors and tuned.words == 180
    assert tuned.weights.factors["acoustic"] == 1.0 and 2 < tuned.weights.factors["lm"] < 5
    again = [item.reordered(tuned.weights).best for item in lists]
    assert tuned.errors == sum(
        count_errors(references[item.id].split(), best.words).errors for item, best in zip(lists, again, strict=True)
    )


def test_the_same_seed_gives_the_same_weights() -> None:
    lists, references = nbest(np.random.default_rng(9), 20, 6)
    initial = ScoreWeights({"acoustic": 1.0, "lm": 1.0})
    assert tune_weights(lists, references, initial, seed=3) == tune_weights(lists, references, initial, seed=3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100))
def test_what_is_fixed_stays_and_bounds_hold(seed: int) -> None:
    lists, references = nbest(np.random.default_rng(seed), 6, 5)
    initial = ScoreWeights({"acoustic": 0.5, "lm": 1.0}, -0.25)
    tuned = tune_weights(
        lists, references, initial, fixed=["acoustic", "word_penalty"], bounds={"lm": (0.5, 2.0)}, starts=3
    )
    assert tuned.weights.factors["acoustic"] == 0.5 and tuned.weights.word_penalty == -0.25
    assert 0.5 <= tuned.weights.factors["lm"] <= 2.0 and tuned.errors <= tuned.initial_errors


@pytest.mark.parametrize(
    ("initial", "bounds", "message"),
    [
        (ScoreWeights({"acoustic": 1.0, "lm": -1.0}), {}, "expected lm to begin from 0 to 100, found -1"),
        (ScoreWeights({"acoustic": 1.0, "lm": 3.0}), {"lm": (0.5, 2.0)}, "expected lm to begin from 0.5 to 2, found 3"),
        (ScoreWeights({"acoustic": 1.0, "lm": 1.0}, 200.0), {}, "expected word_penalty to begin from -100 to 100"),
    ],
)
def test_a_start_outside_the_bounds_is_refused(initial: ScoreWeights, bounds: dict, message: str) -> None:
    lists, references = nbest(np.random.default_rng(0), 4, 4)
    with pytest.raises(ConfigError, match=message):
        tune_weights(lists, references, initial, bounds=bounds)


def test_what_is_fixed_stays_outside_the_bounds_too() -> None:
    lists, references = nbest(np.random.default_rng(1), 12, 6)
    initial = ScoreWeights({"acoustic": 0.01, "lm": 150.0})
    tuned = tune_weights(lists, references, initial, fixed=["lm"])
    assert tuned.weights.factors["lm"] == 150.0 and tuned.errors < tuned.initial_errors


def test_ties_go_to_the_smaller_loss() -> None:
    # One list, right at any factor above 1: the larger, the surer.
    item = NBestList("u", (NBestEntry(("x",), {"a": 1.0, "b": 0.0}), NBestEntry(("w",), {"a": 0.0, "b": 1.0})))
    tuned = tune_weights([item], {"u": "w"}, ScoreWeights({"a": 1.0, "b": 1.5}), starts=1)
    assert tuned.errors == 0 and tuned.weights.factors["b"] >= 1.5 and tuned.loss < 0.4


def test_what_cannot_be_tuned() -> None:
    lists, references = nbest(np.random.default_rng(0), 2, 2)
    weights = ScoreWeights({"acoustic": 1.0, "lm": 1.0})
    with pytest.raises(DataError, match="expected n-best lists to tune on"):
        tune_weights([], references, weights)
    with pytest.raises(DataError, match="'u0': there is no reference of that name"):
        tune_weights(lists, {}, weights)
    with pytest.raises(DataError, match="'u0': expected the score 'ngram', found acoustic, lm"):
        tune_weights(lists, references, ScoreWeights({"acoustic": 1.0, "ngram": 1.0}))
    with pytest.raises(ConfigError, match="expected acoustic, lm, word_penalty, found 'lmm'"):
        tune_weights(lists, references, weights, fixed=["lmm"])
    with pytest.raises(ConfigError, match="expected finite bounds that rise"):
        tune_weights(lists, references, weights, bounds={"lm": (1.0, 1.0)})
