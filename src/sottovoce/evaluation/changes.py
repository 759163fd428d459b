"""Which words two systems heard differently, place by place of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sottovoce.evaluation.wer import align


@dataclass(frozen=True)
class Change:
    """Neighbouring words of one reference that the first system heard otherwise than the second; with ``errors`` of the
    first and of the second there. Inserted words belong to the place where they stand."""

    reference: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...]
    errors: tuple[int, int]


def changes(reference: Sequence[str], first: Sequence[str], second: Sequence[str]) -> list[Change]:
    """The places of an utterance where the systems differ, from left to right."""
    left, right = _heard(reference, first), _heard(reference, second)
    found, place = list[Change](), 0
    while place < len(left):
        if left[place] == right[place]:
            place += 1
            continue
        begin = place
        while place < len(left) and left[place] != right[place]:
            place += 1
        found.append(_change(reference, left, right, range(begin, place)))
    return found


def count_changes(
    references: Mapping[str, str], first: Mapping[str, str], second: Mapping[str, str]
) -> list[tuple[Change, list[str]]]:
    """Each different change of all utterances with the utterances that have it, the most frequent first."""
    where: dict[Change, list[str]] = {}
    for id, text in references.items():
        for change in changes(text.split(), first[id].split(), second[id].split()):
            where.setdefault(change, []).append(id)
    counts = Counter({change: len(ids) for change, ids in where.items()})
    return [(change, where[change]) for change, _ in counts.most_common()]


def columns(reference: Sequence[str], *hypotheses: Sequence[str]) -> list[tuple[str, ...]]:
    """Columns of words, one above the other: the reference, then each hypothesis; "" where a side has none."""
    sides = [_heard(reference, hypothesis) for hypothesis in hypotheses]
    found: list[tuple[str, ...]] = []
    for place in range(2 * len(reference) + 1):
        word = (reference[place // 2],) if place % 2 else ()
        cells = [word, *(side[place] for side in sides)]
        for k in range(max(map(len, cells))):
            found.append(tuple(cell[k] if k < len(cell) else "" for cell in cells))
    return found


def aligned(reference: Sequence[str], first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str, str]]:
    """``columns`` of two hypotheses with errors in capitals (with a star before what has no capitals)."""
    found = columns(reference, first, second)
    return [(word, _marked(word, left), _marked(word, right)) for word, left, right in found]


def _marked(word: str, heard: str) -> str:
    if not heard:
        return "***" if word else ""
    if heard == word:
        return word
    return heard.upper() if heard.upper() != heard else f"*{heard}"


def _heard(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, ...]]:
    """What was heard at 2 L + 1 places: insertions before, between and after the L words at even places."""
    heard: list[tuple[str, ...]] = [()] * (2 * len(reference) + 1)
    place = 0
    for word, said in align(reference, hypothesis):
        if word is None:
            heard[place] += (said or "",)
        else:
            heard[place + 1] = () if said is None else (said,)
            place += 2
    return heard


def _change(
    reference: Sequence[str], left: Sequence[tuple[str, ...]], right: Sequence[tuple[str, ...]], places: range
) -> Change:
    sides = [tuple(word for place in places for word in heard[place]) for heard in (left, right)]
    errors = [sum(_errors(reference, place, heard[place]) for place in places) for heard in (left, right)]
    words = tuple(reference[place // 2] for place in places if place % 2)
    return Change(words, sides[0], sides[1], (errors[0], errors[1]))


def _errors(reference: Sequence[str], place: int, heard: tuple[str, ...]) -> int:
    return int(heard != (reference[place // 2],)) if place % 2 else len(heard)
