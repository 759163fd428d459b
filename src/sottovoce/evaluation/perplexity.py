"""Perplexity, and mixtures of language models, from streams of per-token log-probabilities.

A stream is float64 (tokens,): the natural log-probability of each word and each ``</s>``, sentence after sentence, as
``NgramModel.score`` gives it and a neural model can. Streams of several models over the same tokens are (models,
tokens).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import DataError

Floats = NDArray[np.float64]

MAX_ITERATIONS = 1000
TOLERANCE = 1e-9  # gain in nats a token, below which EM stops


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights (models,) that sum to one, the perplexity of their mixture, and EM's steps to them."""

    weights: Floats
    perplexity: float
    iterations: int


def perplexity(log_probs: ArrayLike) -> float:
    """exp of the mean negative log-likelihood of a stream (tokens,). Raises DataError for no tokens or NaN."""
    stream = _streams([log_probs])[0]
    mean = -float(stream.mean())
    return math.exp(mean) if mean < 700 else math.inf


def segment_losses(log_probs: ArrayLike, tokens: ArrayLike) -> Floats:
    """Negative log-likelihood in nats (segments,) of a stream whose segments, sentences or conversations, have
    ``tokens`` (segments,) each: what the bootstraps take. Raises DataError where the tokens do not fill the stream."""
    stream, counts = _streams([log_probs])[0], np.asarray(tokens, np.int64)
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != len(stream):
        raise DataError(f"perplexity: expected segments of {len(stream)} tokens in all, found {int(counts.sum())}")
    return np.bincount(np.repeat(np.arange(len(counts)), counts), -stream, len(counts)).astype(np.float64)


def mix(streams: Sequence[ArrayLike], weights: ArrayLike) -> Floats:
    """Stream (tokens,) of the mixture: log sum_m w_m p_m of every token, in the probability domain.

    Raises DataError where streams differ in length, or weights are negative or do not sum to one.
    """
    stacked, shares = _streams(streams), np.asarray(weights, np.float64)
    if shares.shape != stacked.shape[:1] or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise DataError(f"mixture: expected {len(stacked)} weights of 0 or more that sum to 1, found {shares.tolist()}")
    return _mixed(stacked, shares)[0]


def mixture_weights(streams: Sequence[ArrayLike]) -> Mixture:
    """Weights that maximize the likelihood of held-out streams, by EM from equal ones (Jelinek and Mercer 1980).

    The likelihood is concave in the weights and no step lowers it, so there is one maximum. Raises DataError where
    streams differ in length, hold NaN, or give a token no probability in any model.
    """
    stacked = _streams(streams)
    impossible = np.isneginf(stacked).all(0)
    if impossible.any():
        raise DataError(f"mixture: token {int(np.argmax(impossible))} has probability 0 in every model")
    weights = np.full(len(stacked), 1.0 / len(stacked))
    mixed, shares = _mixed(stacked, weights)
    iterations, gain = 0, math.inf
    while gain > TOLERANCE and iterations < MAX_ITERATIONS:
        better = shares.mean(1)
        better /= better.sum()
        next_mixed, shares = _mixed(stacked, better)
        gain = float(next_mixed.mean() - mixed.mean())
        weights, mixed = better, next_mixed
        iterations += 1
    return Mixture(weights, perplexity(mixed), iterations)


def _mixed(stacked: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The mixture's stream (tokens,), and each model's share of every token (models, tokens)."""
    with np.errstate(divide="ignore"):
        joint = stacked + np.log(weights)[:, None]
    # A token that no model gives any probability keeps -inf, without NaN on the way.
    top = np.maximum(joint.max(0), -1e300)
    parts = np.exp(joint - top)
    total = parts.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(total) + top, parts / total


def _streams(streams: Sequence[ArrayLike]) -> Floats:
    """Float64 (models, tokens), checked."""
    arrays = [np.asarray(stream, np.float64) for stream in streams]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or len(arrays[0].shape) != 1 or not len(arrays[0]):
        found = ", ".join(str(array.shape) for array in arrays) or "none"
        raise DataError(f"log-probabilities: expected streams (tokens,) of equal length, found {found}")
    stacked = np.stack(arrays)
    if np.isnan(stacked).any() or (stacked > 1e-6).any():
        model, token = np.argwhere(np.isnan(stacked) | (stacked > 1e-6))[0].tolist()
        raise DataError(
            f"log-probabilities: expected numbers of at most 0, found {stacked[model, token]} "
            f"at token {token} of stream {model + 1}"
        )
    return stacked
