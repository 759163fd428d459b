"""Utterances with errors, aligned word by word under the reference; those that systems hear differently come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sottovoce.evaluation.changes import columns
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.wer import count_errors
from sottovoce.report.markup import Markup, element, scroller

_LINE = 64  # characters of a line of alignment, so that it fits on paper; on a phone the style lets the words flow


@dataclass(frozen=True)
class Heard:
    """One utterance: its reference, and each text that was heard with the systems that heard it and its errors."""

    id: str
    speaker: str | None
    reference: str
    texts: tuple[tuple[str, tuple[str, ...], int], ...]

    @property
    def changed(self) -> bool:
        return len(self.texts) > 1

    @property
    def spread(self) -> int:
        errors = [count for _, _, count in self.texts]
        return max(errors) - min(errors)


def heard(hypotheses: Mapping[str, Sequence[Hypothesis]]) -> list[Heard]:
    """Utterances with an error in any system: those that systems hear differently first, the largest spread of errors
    at their head, then the others by errors."""
    found = []
    for row in zip(*hypotheses.values(), strict=True):
        texts: dict[str, list[str]] = {}
        for name, hypothesis in zip(hypotheses, row, strict=True):
            texts.setdefault(" ".join(hypothesis.text.split()), []).append(name)
        reference = " ".join((row[0].reference or "").split())
        counted = tuple(
            (text, tuple(names), count_errors(reference.split(), text.split()).errors) for text, names in texts.items()
        )
        if any(count for *_, count in counted):
            found.append(Heard(row[0].id, row[0].speaker, reference, counted))
    return sorted(found, key=lambda h: (not h.changed, -h.spread, -max(count for *_, count in h.texts)))


def card(utterance: Heard, systems: Sequence[str], player: Markup | None) -> Markup:
    """One utterance for the page. ``systems``: the names of all."""
    words = [text.split() for text, _, _ in utterance.texts]
    found = columns(utterance.reference.split(), *words)
    names = ["said", *(_names(heard_by, systems) for _, heard_by, _ in utterance.texts)]
    counts = [None, *(_plural(count) for *_, count in utterance.texts)]
    tables = [_table(block, names, counts) for block in _blocks(found)]
    speaker = element("span", f" {utterance.speaker}", class_="quiet") if utterance.speaker else None
    head = element("header", element("code", utterance.id), speaker, player)
    return element("article", head, *tables, class_="utterance")


def _names(names: Sequence[str], systems: Sequence[str]) -> str:
    """Who heard it, by whichever is shorter: those who did, or those who did not."""
    others = [name for name in systems if name not in names]
    if len(systems) > 2 and len(others) < len(names) and len(others) <= 2:
        return f"all but {' and '.join(others)}" if others else f"all {len(systems)}"
    return ", ".join(names)


def _blocks(found: Sequence[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Columns that fit on a line, in order."""
    blocks: list[list[tuple[str, ...]]] = [[]]
    room = _LINE
    for column in found:
        width = max(map(len, column)) + 1
        if blocks[-1] and width > room:
            blocks.append([])
            room = _LINE
        blocks[-1].append(column)
        room -= width
    if len(blocks) > 1 and len(blocks[-1]) <= 2:  # no line for a word or two
        blocks[-2:] = [blocks[-2] + blocks[-1]]
    return blocks


def _table(block: Sequence[tuple[str, ...]], names: Sequence[str], counts: Sequence[str | None]) -> Markup:
    rows = []
    for k, (name, count) in enumerate(zip(names, counts, strict=True)):
        cells = [_cell(column[0], column[k], k == 0) for column in block]
        head = element("th", name, " " if count else None, count and element("small", count), scope="row")
        rows.append(element("tr", head, *cells))
    return scroller("words", element("table", *rows))


def _cell(word: str, said: str, reference: bool) -> Markup:
    if reference or said == word:
        return element("td", said)
    kind, text = ("deleted", "∅") if not said else ("inserted", said) if not word else ("substituted", said)
    return element("td", element("mark", text, class_=kind, title=kind, data_said=word or None))


def _plural(count: int) -> str:
    return "1 error" if count == 1 else f"{count} errors" if count else "right"
