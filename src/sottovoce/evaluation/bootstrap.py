"""Percentile bootstrap over clusters of utterances, and over training seeds.

Utterances of one speaker are alike, so speakers are drawn, with replacement, and not utterances (Bisani and Ney,
"Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004, for the bootstrap of WER).
A draw is a vector of counts, so that all draws are a matrix product. Bounds are order statistics rounded outwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import DataError
from sottovoce.evaluation.wer import ScoredUtterance
from sottovoce.progress import Progress

MIN_CLUSTERS = 8
DRAWS = 10_000
_BLOCK = 1 << 21  # counts drawn at once

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RelativeDifference:
    """(system - control) / control as a fraction: the estimate, and float64 (B,) bootstrap draws of it."""

    estimate: float
    draws: Floats

    @property
    def standard_error(self) -> float:
        """Standard deviation of the draws; infinite where a draw is, that is, where the control made no error."""
        return float(np.std(self.draws, ddof=1)) if np.all(np.isfinite(self.draws)) else math.inf

    def lower(self, confidence: float = 0.95) -> float:
        """Lower end of the one-sided interval."""
        return _order_statistic(self.draws, 1 - confidence, math.floor)

    def upper(self, confidence: float = 0.95) -> float:
        """Upper end of the one-sided interval."""
        return _order_statistic(self.draws, confidence, math.ceil)


@dataclass(frozen=True, eq=False)
class ShareKept:
    """(without - system) / (without - control): the estimate, None where the control gained nothing, and float64 (B,)
    bootstrap draws of it, NaN where it gained nothing in a draw."""

    estimate: float | None
    draws: Floats

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided; a draw without a gain says nothing and stands at both ends: many of them make an end infinite."""
        tail = (1 - confidence) / 2
        least, most = (np.where(np.isnan(self.draws), end, self.draws) for end in (-math.inf, math.inf))
        return _order_statistic(least, tail, math.floor), _order_statistic(most, 1 - tail, math.ceil)


def cluster_ids(
    ids: Sequence[str], speakers: Mapping[str, str] | None = None, recordings: Mapping[str, str] | None = None
) -> Integers:
    """Cluster number of each utterance, (N,): by speaker where there are 8 or more, else by recording, else its own.

    Raises DataError naming an utterance that a given mapping lacks.
    """
    for label, mapping in (("speaker", speakers), ("recording", recordings)):
        if not mapping:
            continue
        missing = next((id for id in ids if id not in mapping), None)
        if missing is not None:
            raise DataError(f"utterance {missing!r}: no {label} is known for it")
        names, clusters = np.unique([mapping[id] for id in ids], return_inverse=True)
        if len(names) >= MIN_CLUSTERS:
            return clusters.astype(np.intp)
    return np.arange(len(ids), dtype=np.intp)


def wer_interval(
    scored: Sequence[ScoredUtterance],
    speakers: Mapping[str, str] | None = None,
    recordings: Mapping[str, str] | None = None,
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Two-sided interval of the WER in percent, clusters as in ``cluster_ids``.

    Raises DataError for fewer than two utterances.
    """
    clusters = cluster_ids([utterance.id for utterance in scored], speakers, recordings)
    counts = np.array([[utterance.errors.errors, utterance.errors.words] for utterance in scored], np.float64)
    rates = 100.0 * _drawn_ratios(counts.reshape(-1, 2).T, clusters, draws, seed)
    return _interval(rates, confidence)


def perplexity_interval(
    losses: ArrayLike,
    tokens: ArrayLike,
    clusters: Integers | None = None,
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> tuple[float, float]:
    """Two-sided interval of the perplexity from negative log-likelihoods in nats (N,) over ``tokens`` (N,) of segments.

    Segments are drawn one by one unless ``clusters`` (N,) joins them; ``progress`` is told how many draws of how many
    are done. Raises DataError for fewer than two, or for losses and tokens that do not match.
    """
    left, right = np.asarray(losses, np.float64), np.asarray(tokens, np.float64)
    groups = np.arange(len(left)) if clusters is None else clusters
    if left.ndim != 1 or left.shape != right.shape or left.shape != groups.shape:
        raise DataError(f"perplexity: expected losses and tokens of segments (N,), found {left.shape}, {right.shape}")
    with np.errstate(over="ignore"):
        return _interval(np.exp(_drawn_ratios(np.stack([left, right]), groups, draws, seed, progress)), confidence)


def wer_difference_interval(
    control: Sequence[ScoredUtterance],
    system: Sequence[ScoredUtterance],
    speakers: Mapping[str, str] | None = None,
    recordings: Mapping[str, str] | None = None,
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Two-sided interval of the system's WER less the control's, in percent points, paired; clusters as in
    ``cluster_ids``.

    Raises DataError for fewer than two utterances, or others in the system than in the control.
    """
    ids = [utterance.id for utterance in control]
    if ids != [utterance.id for utterance in system]:
        raise DataError("expected the same utterances in the same order in both systems, found others")
    pairs = zip(control, system, strict=True)
    counts = np.array([[b.errors.errors - a.errors.errors, a.errors.words] for a, b in pairs], np.float64)
    clusters = cluster_ids(ids, speakers, recordings)
    rates = 100.0 * _drawn_ratios(counts.reshape(-1, 2).T, clusters, draws, seed)
    return _interval(rates, confidence)


def relative_wer_difference(
    control: Sequence[Sequence[ScoredUtterance]],
    system: Sequence[Sequence[ScoredUtterance]],
    speakers: Mapping[str, str] | None = None,
    recordings: Mapping[str, str] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> RelativeDifference:
    """Paired relative difference of two systems in WER; one list of the same utterances for each seed.

    Run s of ``system`` is paired with run s of ``control``. Raises DataError where runs or utterances do not match.
    """
    if len(control) != len(system) or not control:
        raise DataError(f"expected as many runs of the control as of the system, found {len(control)}, {len(system)}")
    ids = [utterance.id for utterance in control[0]]
    if any([utterance.id for utterance in run] != ids for run in (*control, *system)):
        raise DataError("expected the same utterances in the same order in all runs, found others")
    left, right = ([[utterance.errors.errors for utterance in run] for run in runs] for runs in (control, system))
    return relative_difference(left, right, cluster_ids(ids, speakers, recordings), draws=draws, seed=seed)


def relative_difference(
    control: ArrayLike, system: ArrayLike, clusters: Integers, *, draws: int = DRAWS, seed: int = 0
) -> RelativeDifference:
    """Paired relative difference of errors (S, N) for S seeds and N segments; ``clusters`` (N,) from ``cluster_ids``.

    Errors are averaged over seeds before they are compared; each draw takes S seeds and C clusters with replacement,
    the same for both systems. A few seeds underestimate their own spread: their share of the variance comes out
    (S - 1) / S of what it is. Raises DataError for fewer than two clusters.
    """
    means = _paired_means(control, system, clusters, draws, seed)
    return _difference(means, lambda left, right: _ratio(right - left, left))


def share_of_gain_kept(
    without: ArrayLike, control: ArrayLike, system: ArrayLike, clusters: Integers, *, draws: int = DRAWS, seed: int = 0
) -> ShareKept:
    """How much of what the control gains over errors ``without`` it the system still gains; all errors (S, N), as in
    ``relative_difference``, and drawn alike for all three.

    Raises DataError for fewer than two clusters.
    """
    # The same seed of the generator draws the same clusters and seeds in both.
    before, after = _paired_means(without, control, clusters, draws, seed)
    gain, kept = before - after, before - _paired_means(control, system, clusters, draws, seed)[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(gain > 0, kept / gain, np.nan)
    return ShareKept(None if gain[0] <= 0 else float(shares[0]), shares[1:])


def relative_perplexity_difference(
    control: ArrayLike, system: ArrayLike, tokens: ArrayLike, clusters: Integers, *, draws: int = DRAWS, seed: int = 0
) -> RelativeDifference:
    """The same for perplexity, from negative log-likelihoods in nats (S, N) over ``tokens`` (N,) in each segment."""
    counts = np.broadcast_to(np.asarray(tokens, np.float64), np.atleast_2d(np.asarray(control)).shape)
    # The same seed of the generator draws the same clusters, so the token sums belong to the draws of the losses.
    losses = _paired_means(control, system, clusters, draws, seed)
    words = _paired_means(counts, counts, clusters, draws, seed)
    per_token = (_ratio(losses[0], words[0]), _ratio(losses[1], words[1]))
    return _difference(per_token, lambda left, right: np.expm1(right - left))


def _drawn_ratios(
    counts: Floats, clusters: Integers, draws: int, seed: int, progress: Progress = lambda done, total: None
) -> Floats:
    """Ratios (B,) of the first to the second row of counts (2, N), summed over drawn clusters."""
    table = _cluster_sums(counts, clusters)  # (2, C)
    sums, done = np.full((draws, 2), np.nan), 0
    for weights in _weights(table.shape[1], draws, np.random.default_rng(seed)):
        sums[done : done + len(weights)] = weights @ table.T
        done += len(weights)
        progress(done, draws)
    return _ratio(sums[:, 0], sums[:, 1])


def _interval(draws: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    return _order_statistic(draws, tail, math.floor), _order_statistic(draws, 1 - tail, math.ceil)


def _difference(means: tuple[Floats, Floats], compare: Callable[[Floats, Floats], Floats]) -> RelativeDifference:
    """Element 0 of the means is the data themselves, the rest are draws."""
    differences = compare(*means)
    return RelativeDifference(float(differences[0]), differences[1:])


def _paired_means(
    control: ArrayLike, system: ArrayLike, clusters: Integers, draws: int, seed: int
) -> tuple[Floats, Floats]:
    """Seed-averaged sums of both systems, (1 + B,) each: first over the data as they are, then for each draw."""
    left, right = (np.atleast_2d(np.asarray(values, np.float64)) for values in (control, system))
    if left.shape != right.shape or left.shape[1:] != clusters.shape:
        raise DataError(f"expected segments {clusters.shape} in each run, found {left.shape} and {right.shape}")
    tables = _cluster_sums(left, clusters), _cluster_sums(right, clusters)  # (S, C)
    seeds, count = tables[0].shape
    rng = np.random.default_rng(seed)
    parts: list[tuple[Floats, Floats]] = [(tables[0].sum(1).mean(keepdims=True), tables[1].sum(1).mean(keepdims=True))]
    for weights in _weights(count, draws, rng):  # (B, C)
        shares = rng.multinomial(seeds, np.full(seeds, 1 / seeds), len(weights)) / seeds  # (B, S)
        drawn = [np.einsum("bc,bc->b", shares @ table, weights) for table in tables]
        parts.append((drawn[0], drawn[1]))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _weights(clusters: int, draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each draw holds each cluster, (block, C), block by block so that memory stays bounded."""
    if clusters < 2:
        raise DataError(f"bootstrap: expected at least 2 utterances or speakers, found {clusters}")
    step = max(1, _BLOCK // clusters)
    for start in range(0, draws, step):
        counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), min(step, draws - start))
        yield counts.astype(np.float64)


def _cluster_sums(values: Floats, clusters: Integers) -> Floats:
    """Sums (S, C) of values (S, N) over clusters (N,)."""
    count = int(clusters.max(initial=-1)) + 1
    return np.stack([np.bincount(clusters, weights=row, minlength=count) for row in values])


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """0 / 0 is 0 here (no errors, no words: no difference), x / 0 is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(numerator == 0, 0.0, numerator / denominator)


def _order_statistic(draws: Floats, quantile: float, rounding: Callable[[float], int]) -> float:
    """An element of the draws, never an interpolation: infinite draws stay what they are."""
    position = round(quantile * (len(draws) - 1), 9)
    return float(np.sort(draws)[rounding(position)])
