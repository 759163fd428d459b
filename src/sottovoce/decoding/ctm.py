"""NIST's time-marked conversation form (ctm): a line a word, with its recording, channel, start and duration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sottovoce.decoding.lattices.forward_backward import posteriors
from sottovoce.decoding.lattices.lattice import Lattice
from sottovoce.decoding.lattices.paths import LatticePath
from sottovoce.decoding.text_files import write_text
from sottovoce.errors import DataError


@dataclass(frozen=True)
class CtmWord:
    """A word in a recording; start and duration in seconds, confidence from 0 to 1 or None."""

    recording: str
    start: float
    duration: float
    word: str
    confidence: float | None = None
    channel: str = "1"


def timed(lattice: Lattice) -> bool:
    """Whether the lattice has a time at each end of each word."""
    said = lattice.labels != 0
    return not np.isnan(lattice.times[np.concatenate([lattice.starts[said], lattice.ends[said]])]).any()


def ctm_words(
    lattice: Lattice, path: LatticePath, *, recording: str | None = None, offset: float = 0.0
) -> list[CtmWord]:
    """The words of a path with the times of the lattice and the posteriors of their links as confidences.

    ``recording``: the utterance if not given; ``offset``: seconds from its start to the utterance's. Raises DataError
    for a lattice without times.
    """
    confidences = np.exp(posteriors(lattice).links)
    words = []
    for link in path.links:
        if not lattice.labels[link]:
            continue
        start, end = (float(lattice.times[nodes[link]]) for nodes in (lattice.starts, lattice.ends))
        if math.isnan(start) or math.isnan(end):
            raise DataError(f"{lattice.utterance}: expected a time at each node, found none at {lattice.word(link)!r}")
        words.append(
            CtmWord(
                recording or lattice.utterance,
                offset + start,
                end - start,
                lattice.word(link),
                float(confidences[link]),
            )
        )
    return words


def write_ctm(path: str | Path, words: Iterable[CtmWord]) -> None:
    """Write a ctm file sorted as NIST's tools want it: by recording, channel and start; whole or not at all.

    Raises DataError for a name or word with white space, a time that is not finite, or a path that cannot be written.
    """
    path = Path(path)
    ordered = sorted(words, key=lambda word: (word.recording, word.channel, word.start))
    write_text(path, "".join(_line(path, word) + "\n" for word in ordered))


def _line(path: Path, word: CtmWord) -> str:
    texts = (word.recording, word.channel, word.word)
    if any(len(text.split()) != 1 for text in texts) or not (
        math.isfinite(word.start) and math.isfinite(word.duration)
    ):
        raise DataError(f"{path}: expected names and words without white space and finite times, found {word}")
    confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
    return f"{word.recording} {word.channel} {word.start:.3f} {word.duration:.3f} {word.word}{confidence}"
