"""What makes an utterance unusable; it is then named and skipped, or refused under ``strict``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from sottovoce.errors import DataError

_LOG = logging.getLogger(__name__)
_LATENESS = 0.1  # seconds that a segment may reach past the end of its recording: rounding in manifests
_SHORTEST = 0.05
_LETTERS_A_SECOND, _LETTERS_FREE = 40, 10  # fast speech is 25 letters a second; isolated digits can be cut tightly


@dataclass(frozen=True)
class Skipped:
    """An utterance that was left out, and why."""

    id: str
    reason: str


@dataclass
class Skips:
    """Collects what is skipped; with ``strict`` the first problem is an error."""

    strict: bool = False
    items: list[Skipped] = field(default_factory=list)

    def add(self, id: str, reason: str) -> None:
        """Note that utterance ``id`` is left out. Raises DataError if strict."""
        if self.strict:
            raise DataError(f"{id}: {reason} (refused by --strict)")
        self.items.append(Skipped(id, reason))
        _LOG.warning("skipped %s: %s", id, reason)

    def report(self, kept: int) -> None:
        """Log the count at the end."""
        if self.items:
            _LOG.warning("skipped %d of %d utterances", len(self.items), kept + len(self.items))


def problem(text: str, start: float, end: float, audio_seconds: float) -> str | None:
    """Why the utterance ``text`` from ``start`` to ``end`` seconds of a recording cannot be used; None if it can."""
    seconds = min(end, audio_seconds) - start
    if not text.strip():
        return "the transcript is empty"
    if start < 0 or end <= start:
        return f"the segment {start:g} to {end:g} s is empty"
    if end > audio_seconds + _LATENESS:
        return f"mismatched: the segment ends at {end:g} s, the audio at {audio_seconds:.2f} s"
    if seconds < _SHORTEST:
        return f"the audio is only {1000 * max(0.0, seconds):.0f} ms long"
    letters = len(text.replace(" ", ""))
    if letters > _LETTERS_FREE + _LETTERS_A_SECOND * seconds:
        return f"mismatched: {letters} letters of text in {seconds:.2f} s of audio"
    return None
