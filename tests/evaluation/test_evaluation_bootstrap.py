import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation import (
    ScoredUtterance,
    WordErrors,
    cluster_ids,
    relative_difference,
    relative_perplexity_difference,
    relative_wer_difference,
    share_of_gain_kept,
    wer_interval,
)
from sottovoce.evaluation import bootstrap as bootstrap_module


def scored(errors: list[int], words: int = 10) -> list[ScoredUtterance]:
    return [ScoredUtterance(f"u{place}", WordErrors(substitutions=e, words=words)) for place, e in enumerate(errors)]


def test_clusters_by_speaker_recording_utterance() -> None:
    ids = [f"u{place}" for place in range(20)]
    many = {id: f"s{place % 8}" for place, id in enumerate(ids)}
    few = {id: f"s{place % 7}" for place, id in enumerate(ids)}
    assert cluster_ids(ids, many).tolist() == [place % 8 for place in range(20)]
    assert cluster_ids(ids, few, many).tolist() == [place % 8 for place in range(20)]
    assert cluster_ids(ids, few).tolist() == cluster_ids(ids, few, few).tolist() == list(range(20))
    with pytest.raises(DataError, match="utterance 'u20': no speaker"):
        cluster_ids([*ids, "u20"], many)


@given(st.lists(st.integers(0, 10), min_size=2, max_size=30), st.integers(0, 5))
@settings(max_examples=25)
def test_interval_holds_the_estimate_and_repeats(errors: list[int], seed: int) -> None:
    low, high = wer_interval(scored(errors), draws=500, seed=seed)
    assert 10.0 * min(errors) <= low <= 10.0 * float(np.mean(errors)) + 1e-9 and low <= high <= 10.0 * max(errors)
    assert wer_interval(scored(errors), draws=500, seed=seed) == (low, high)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for run in range(200):
        low, high = wer_interval(scored(rng.binomial(10, 0.2, 40).tolist()), draws=400, seed=run)
        covered += low <= 20.0 <= high
    assert 0.88 * 200 <= covered <= 199


def test_speakers_widen_the_interval() -> None:
    # Ten speakers of ten utterances each, all utterances of a speaker alike: ten independent values, not a hundred.
    errors = [speaker % 5 for speaker in range(10) for _ in range(10)]
    speakers = {f"u{place}": f"s{place // 10}" for place in range(100)}
    low, high = wer_interval(scored(errors))
    wide_low, wide_high = wer_interval(scored(errors), speakers)
    assert 2.5 < (wide_high - wide_low) / (high - low) < 3.8  # sqrt(10) = 3.2


def test_interval_against_the_normal_approximation() -> None:
    errors = np.random.default_rng(0).binomial(10, 0.3, 400).tolist()
    low, high = wer_interval(scored(errors))
    half = 1.96 * 10 * np.std(errors, ddof=1) / math.sqrt(400)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [1, 0, 3, 2, 5, 0]
    whole = wer_interval(scored(errors), draws=300)
    monkeypatch.setattr(bootstrap_module, "_BLOCK", 60)
    assert wer_interval(scored(errors), draws=300) == whole


@pytest.mark.parametrize("errors", [[], [1]])
def test_one_utterance_has_no_interval(errors: list[int]) -> None:
    with pytest.raises(DataError, match="at least 2 utterances"):
        wer_interval(scored(errors))


def test_relative_difference_of_paired_systems() -> None:
    # The system makes 10 % more errors in every segment: paired, nothing is left to chance.
    control = np.arange(1, 41) * 10.0
    difference = relative_difference(control, control * 1.1, np.arange(40))
    assert difference.estimate == pytest.approx(0.1)
    assert difference.lower() == pytest.approx(0.1) and difference.upper() == pytest.approx(0.1)
    assert difference.standard_error == pytest.approx(0.0, abs=1e-12)


def test_seeds_add_their_spread() -> None:
    # The second seed doubles the errors of the system; the estimate is over the mean of both seeds.
    control = np.full((2, 30), 5.0)
    system = np.stack([np.full(30, 5.0), np.full(30, 10.0)])
    difference = relative_difference(control, system, np.arange(30), draws=4000)
    assert difference.estimate == pytest.approx(0.5)
    assert set(np.round(difference.draws, 9)) == {0.0, 0.5, 1.0}
    assert np.mean(difference.draws == difference.draws.max()) == pytest.approx(0.25, abs=0.03)
    assert (difference.lower(), difference.upper()) == pytest.approx((0.0, 1.0))


def test_seed_weights_are_shared_by_both_systems() -> None:
    # Seeds differ greatly, but alike in both systems: no spread may be left.
    control = np.array([[1.0] * 20, [9.0] * 20, [4.0] * 20])
    difference = relative_difference(control, control * 1.5, np.arange(20), draws=500)
    assert np.allclose(difference.draws, 0.5)


def test_standard_error_of_the_relative_difference() -> None:
    # Delta method, independent segments: sd(d) / (sqrt(n) mean(control)) where control is constant.
    rng = np.random.default_rng(3)
    change = rng.normal(0.0, 2.0, 500)
    difference = relative_difference(np.full(500, 10.0), 10.0 + change, np.arange(500))
    assert difference.standard_error == pytest.approx(np.std(change) / math.sqrt(500) / 10, rel=0.05)


def test_from_scored_utterances() -> None:
    control, system = scored([1, 2, 3, 4]), scored([2, 2, 3, 5])
    assert relative_wer_difference([control], [system]).estimate == pytest.approx(0.2)
    assert relative_wer_difference([control, control], [system, control]).estimate == pytest.approx(0.1)
    with pytest.raises(DataError, match="as many runs"):
        relative_wer_difference([control], [system, system])
    with pytest.raises(DataError, match="as many runs"):
        relative_wer_difference([], [])
    with pytest.raises(DataError, match="same utterances"):
        relative_wer_difference([control], [list(reversed(system))])


def test_a_control_without_errors() -> None:
    equal = relative_difference(np.zeros(5), np.zeros(5), np.arange(5), draws=50)
    assert equal.estimate == 0.0 and equal.upper() == 0.0
    worse = relative_difference(np.zeros(5), np.ones(5), np.arange(5), draws=50)
    assert worse.estimate == worse.upper() == worse.lower() == math.inf == worse.standard_error


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"expected segments \(3,\)"):
        relative_difference(np.zeros(4), np.zeros(4), np.arange(3))
    with pytest.raises(DataError, match="found"):
        relative_difference(np.zeros((2, 3)), np.zeros((1, 3)), np.arange(3))


def test_perplexity() -> None:
    tokens = np.array([10, 20, 30, 40])
    control = tokens * 4.0
    difference = relative_perplexity_difference(control, control + tokens * math.log(1.02), tokens, np.arange(4))
    assert difference.estimate == pytest.approx(0.02)
    assert difference.draws == pytest.approx(np.full(len(difference.draws), 0.02))
    seeds = relative_perplexity_difference([control, control * 1.1], [control, control * 1.1], tokens, np.arange(4))
    assert np.allclose(seeds.draws, 0.0)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_the_share_of_a_gain_is_that_of_each_draw(seed: int) -> None:
    rng = np.random.default_rng(seed)
    without, control, system = (rng.integers(low, low + 6, (2, 15)) for low in (6, 0, 1))
    clusters = np.arange(15) // 2
    found = share_of_gain_kept(without, control, system, clusters, draws=200, seed=seed)
    lost = relative_difference(control, system, clusters, draws=200, seed=seed)
    gained = relative_difference(control, without, clusters, draws=200, seed=seed)
    good = np.isfinite(gained.draws) & (gained.draws > 0)
    assert found.estimate == pytest.approx(1 - lost.estimate / gained.estimate)
    np.testing.assert_allclose(found.draws[good], 1 - lost.draws[good] / gained.draws[good])
    low, high = found.interval()
    assert low <= np.median(found.draws) <= high


def test_draws_without_a_gain_make_the_interval_unbounded() -> None:
    clusters = np.arange(10)
    control = [1] * 9 + [20]
    found = share_of_gain_kept([3] * 10, control, control, clusters, draws=1000)
    assert found.estimate == 1.0 and np.isnan(found.draws).mean() > 0.025
    assert found.interval() == (-math.inf, math.inf)
    assert share_of_gain_kept([1] * 10, [1] * 10, control, clusters, draws=10).estimate is None
