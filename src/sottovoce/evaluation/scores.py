"""What language models make of a text, sentence by sentence: perplexity with its interval, and paired comparisons.

``</s>`` and ``<unk>`` count as every other token, so perplexities compare only at the same vocabulary and text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import (
    DRAWS,
    RelativeDifference,
    cluster_ids,
    perplexity_interval,
    relative_perplexity_difference,
)
from sottovoce.evaluation.perplexity import mix
from sottovoce.packed.replacing import replacing


@dataclass(frozen=True, eq=False)
class SentenceScore:
    """Log-probabilities of a sentence's tokens and its ``</s>``, float32 (tokens + 1,) in nats; ``words``: what it
    counts for in a perplexity a word, its words and its end."""

    id: str
    conversation: str
    words: int
    log_probs: NDArray[np.float32]

    @property
    def nats(self) -> float:
        """Negative log-likelihood, summed in float64."""
        return -float(self.log_probs.sum(dtype=np.float64))


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood, a word (ends of sentences among them) and a token (the same where tokens
    are words); ``ci95``: of that a word, from a bootstrap over conversations, or sentences where there are fewer than
    8."""

    perplexity: float
    per_token: float
    ci95: tuple[float, float]
    nats: float
    words: int
    tokens: int
    sentences: int
    conversations: int


def summarize(scores: Sequence[SentenceScore], *, draws: int | None = None, seed: int = 0) -> Perplexity:
    """The perplexity of all these sentences. Raises DataError for fewer than two.

    ``draws`` of the bootstrap: by default fewer where there are very many clusters, for the interval is narrow then.
    """
    nats, words = _sums(scores)
    clusters = _clusters(scores)
    draws = draws or max(1000, min(DRAWS, 10**8 // (int(clusters.max(initial=0)) + 1)))
    tokens = sum(len(score.log_probs) for score in scores)
    bounds = perplexity_interval(nats, words, clusters, draws=draws, seed=seed)
    return Perplexity(
        perplexity=_exp(nats.sum() / words.sum()),
        per_token=_exp(nats.sum() / tokens),
        ci95=bounds,
        nats=float(nats.sum()),
        words=int(words.sum()),
        tokens=tokens,
        sentences=len(scores),
        conversations=len({score.conversation for score in scores}),
    )


def compare_perplexity(
    control: Sequence[Sequence[SentenceScore]],
    system: Sequence[Sequence[SentenceScore]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> RelativeDifference:
    """Paired relative difference in perplexity, one list of the same sentences for each training seed; to be judged by
    ``verdict(difference, PERPLEXITY_MARGIN)``.

    Raises DataError where runs or sentences do not match.
    """
    if len(control) != len(system) or not control:
        raise DataError(f"expected as many runs of the control as of the system, found {len(control)}, {len(system)}")
    first = [(score.id, score.words) for score in control[0]]
    if any([(score.id, score.words) for score in run] != first for run in (*control, *system)):
        raise DataError("expected the same sentences in the same order in all runs, found others")
    left, right = ([_sums(run)[0] for run in runs] for runs in (control, system))
    clusters = _clusters(control[0])
    return relative_perplexity_difference(left, right, _sums(control[0])[1], clusters, draws=draws, seed=seed)


def mix_scores(models: Sequence[Sequence[SentenceScore]], weights: ArrayLike) -> list[SentenceScore]:
    """The mixture (``evaluation.perplexity.mix``) of several models of one vocabulary on the same text, sentence by
    sentence.

    Raises DataError where sentences or tokens do not match, or the weights are none.
    """
    first = models[0]
    for other in models[1:]:
        if [(s.id, len(s.log_probs)) for s in other] != [(s.id, len(s.log_probs)) for s in first]:
            raise DataError("mixture: expected the same sentences and tokens in the same order from all models")
    mixed = mix([stream(model) for model in models], weights).astype(np.float32)
    parts = np.split(mixed, np.cumsum([len(s.log_probs) for s in first])[:-1])
    return [SentenceScore(s.id, s.conversation, s.words, part) for s, part in zip(first, parts, strict=True)]


def stream(scores: Sequence[SentenceScore]) -> NDArray[np.float64]:
    """All log-probabilities one after the other, float64 (tokens,), as ``mix`` and ``mixture_weights`` take them."""
    return np.concatenate([np.empty(0), *(score.log_probs for score in scores)])


def write_scores(path: Path, scores: Sequence[SentenceScore]) -> None:
    """One JSON object a line, whole or not at all; nine digits hold a float32 exactly."""
    with replacing(path) as stream:
        for s in scores:
            values = [float(f"{x:.9g}") for x in s.log_probs]
            row = {"id": s.id, "conversation": s.conversation, "words": s.words, "log_probs": values}
            stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def read_scores(path: Path) -> list[SentenceScore]:
    """What ``write_scores`` wrote. Raises DataError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return [_score(path, number, line) for number, line in enumerate(lines, start=1)]


def _score(path: Path, number: int, line: str) -> SentenceScore:
    try:
        row: Mapping[str, object] = json.loads(line)
        values = np.asarray(row["log_probs"], np.float32)
        score = SentenceScore(str(row["id"]), str(row["conversation"]), int(str(row["words"])), values)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}:{number}: expected id, conversation, words and log_probs ({error})") from error
    if values.ndim != 1 or not len(values) or not np.all(values <= 0):
        raise DataError(f"{path}:{number}: expected log-probabilities, found {line[:60]}")
    return score


def _sums(scores: Sequence[SentenceScore]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nats = np.array([score.nats for score in scores], np.float64)
    return nats, np.array([score.words for score in scores], np.float64)


def _clusters(scores: Sequence[SentenceScore]) -> NDArray[np.intp]:
    return cluster_ids([s.id for s in scores], None, {s.id: s.conversation for s in scores})


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
