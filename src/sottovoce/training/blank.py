"""The blank penalty: tuned on dev speakers for the 32-bit model, then frozen in the recipe for every arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sottovoce.data.utterances import Utterance, split_utterances
from sottovoce.decoding.protocol import Floats, Integers
from sottovoce.decoding.search import Method, Search, make_search
from sottovoce.errors import ConfigError
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import WordErrors, total
from sottovoce.frontend.values import checked_features
from sottovoce.progress import Progress
from sottovoce.runtime import Recognizer
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training.scoring import hypothesis_of

_BATCH = 64  # utterances


def transcribe_with_penalties(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    penalties: Sequence[float],
    *,
    method: Method = "greedy",
    beam: int = 4,
    progress: Progress | None = None,
) -> list[list[Hypothesis]]:
    """Hypotheses under each blank penalty (nats), penalties and utterances in the orders given; every utterance is
    encoded once. ``progress`` is told how many utterances of how many are done.

    The texts are those of ``transcribe_split``; the recognizer's own search is not used. Raises ConfigError for
    penalties that are none, repeated or not finite, DataError for features that cannot be used.
    """
    _check(penalties)
    searches = [make_search(method, beam=beam, blank_penalty=penalty) for penalty in penalties]
    found: list[dict[str, Hypothesis]] = [{} for _ in searches]
    done = 0
    for batch in _batches(utterances):
        frames, lengths = recognizer.network.encode(*_padded(batch, recognizer.input.dim))
        for search, heard in zip(searches, found, strict=True):
            texts = _texts(recognizer, search, frames, lengths)
            heard |= {u.id: hypothesis_of(u, text) for u, text in zip(batch, texts, strict=True)}
        done += len(batch)
        if progress is not None:
            progress(done, len(utterances))
    return [[heard[u.id] for u in utterances] for heard in found]


def tune_blank_penalty(
    model: Path,
    data: Path,
    split: str,
    penalties: Sequence[float],
    *,
    arithmetic: Arithmetic = "int8",
    method: Method = "greedy",
    beam: int = 4,
    num_threads: int = 1,
    progress: Progress | None = None,
) -> list[tuple[float, WordErrors]]:
    """Word errors of a split under each penalty (nats), in the order given; every utterance is encoded once.

    Counts are those of ``transcribe_split``. Raises ConfigError for penalties that are none, repeated or not finite,
    FormatError for a file that cannot run, DataError for data that cannot be used.
    """
    _check(penalties)  # before anything is read
    recognizer = Recognizer(model, arithmetic=arithmetic, num_threads=num_threads)
    utterances = split_utterances(data, split, recognizer.input)
    found = transcribe_with_penalties(recognizer, utterances, penalties, method=method, beam=beam, progress=progress)
    return [(penalty, total(score_hypotheses(heard))) for penalty, heard in zip(penalties, found, strict=True)]


def best_blank_penalty(tuned: Iterable[tuple[float, WordErrors]]) -> float:
    """The penalty with the fewest errors; among equals the one nearest zero, and the positive of two as near."""
    return min(tuned, key=lambda pair: (pair[1].errors, abs(pair[0]), -pair[0]))[0]


def parse_penalties(text: str) -> list[float]:
    """``"0,0.5,1"`` as numbers. Raises ConfigError for anything that ``tune_blank_penalty`` would not take."""
    values = []
    for item in text.split(","):
        try:
            values.append(float(item))
        except ValueError:
            raise ConfigError(f"blank penalties: expected numbers with commas between, found {item!r}") from None
    _check(values)
    return values


def _check(penalties: Sequence[float]) -> None:
    if not penalties:
        raise ConfigError("blank penalties: expected at least one number, found none")
    for penalty in penalties:
        if not math.isfinite(penalty):
            raise ConfigError(f"blank penalties: expected finite numbers, found {penalty}")
        if list(penalties).count(penalty) > 1:
            raise ConfigError(f"blank penalties: {penalty:g} is given twice")


def _batches(utterances: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """Utterances of similar lengths together."""
    ordered = sorted(utterances, key=lambda u: len(u.features))
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


def _padded(batch: Sequence[Utterance], dim: int) -> tuple[Floats, Integers]:
    """Features (N, T, F), zeros after the end, and lengths (N,)."""
    lengths = np.array([len(u.features) for u in batch], np.int64)
    padded = np.zeros((len(batch), int(lengths.max()), dim), np.float32)
    for row, utterance in zip(padded, batch, strict=True):
        row[: len(utterance.features)] = checked_features(utterance.features, dim)
    return padded, lengths


def _texts(recognizer: Recognizer, search: Search, frames: Floats, lengths: Integers) -> list[str]:
    start = search.start(recognizer.network, len(frames))
    found = search.results(search.advance(recognizer.network, frames, lengths, start))
    return [recognizer.tokenizer.decode(list(nbest.best.tokens)) for nbest in found]
