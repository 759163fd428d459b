"""Text rules before scoring: stated, and the same for the reference and for every system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sottovoce.decoding.text import normalization
from sottovoce.decoding.text_files import read_lines
from sottovoce.errors import DataError

Words = tuple[str, ...]


@dataclass(frozen=True)
class TextRules:
    """``form`` names a normalization (``decoding.text``); then ``replacements`` of words by words are made, the longest
    first, from left to right and once; then the words in ``dropped`` are left out.

    Replacements and dropped words are compared in the normalized form. Raises ConfigError for an unknown form.
    """

    form: str = "plain"
    replacements: Mapping[Words, Words] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        normalization(self.form)

    @cached_property
    def _longest(self) -> int:
        return max((len(words) for words in self.replacements), default=0)

    def apply(self, text: str) -> str:
        """The text that is scored."""
        words, found, place = normalization(self.form)(text).split(), list[str](), 0
        while place < len(words):
            length = next(
                (n for n in range(self._longest, 0, -1) if tuple(words[place : place + n]) in self.replacements), 0
            )
            found += self.replacements[tuple(words[place : place + length])] if length else [words[place]]
            place += length or 1
        return " ".join(word for word in found if word not in self.dropped)

    def apply_to(self, texts: Mapping[str, str]) -> dict[str, str]:
        """The same for each utterance."""
        return {id: self.apply(text) for id, text in texts.items()}


def read_replacements(path: str | Path) -> dict[Words, Words]:
    """Lines of ``words<TAB>words``, the right side perhaps empty; # begins a comment line.

    Raises DataError naming the line of another form or of words given twice.
    """
    path = Path(path)
    found: dict[Words, Words] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        left, tab, right = line.partition("\t")
        words = tuple(left.split())
        if not tab or not words or "\t" in right:
            raise DataError(f"{path}:{number}: expected words, a tab and what stands for them, found {line[:60]!r}")
        if words in found:
            raise DataError(f"{path}:{number}: {left.strip()!r} is given twice")
        found[words] = tuple(right.split())
    return found
