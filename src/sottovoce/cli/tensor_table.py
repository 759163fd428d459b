"""Tensors of a model as lines for a terminal of any width: bits and bytes as numbers, and as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_CELLS, _FEWER = 8, 4  # of a bar, and of one where there is less room
_MOST_BITS = 8  # that fill a bar


@dataclass(frozen=True)
class TensorRow:
    """One tensor of a model. bits: of each band, in order, 32 or 16 for floats; share: of all tensors' bytes, percent;
    snr_db: of the weights against the reference's, None without one, infinite where they are equal."""

    name: str
    shape: tuple[int, ...]
    bits: tuple[int, ...]
    kind: str
    grouping: str
    bytes: int
    share: float
    snr_db: float | None

    @property
    def packed(self) -> bool:
        return self.grouping != ""


@dataclass(frozen=True)
class _Column:
    """Title and cells, as wide as the widest of them."""

    title: str
    cells: list[str]
    right: bool = False

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.cells)))

    def lines(self) -> list[str]:
        place = str.rjust if self.right else str.ljust
        return [place(text, self.width) for text in (self.title, *self.cells)]


def tensor_lines(rows: Sequence[TensorRow], width: int | None, *, with_snr: bool) -> list[str]:
    """A title and a line a tensor, no wider than ``width`` columns; None has no end. Eight bits fill a bar, as the
    largest tensor does.

    Where that is too wide, kind and scale of packed matrices are said once if all have the same, then bars are shorter,
    then a tensor's name has a line of its own.
    """
    names = _Column("tensor", [row.name for row in rows])
    same = _same(rows)
    for cells, kinds in ((_CELLS, True), (_CELLS, not same), (_FEWER, not same)):
        lines = _joined([names, *_columns(rows, cells, kinds=kinds, with_snr=with_snr)])
        if width is None or max(map(len, lines)) <= width:
            return lines if kinds else [*lines, same]
    figures = _joined([_Column("", [""] * len(rows)), *_columns(rows, _FEWER, kinds=False, with_snr=with_snr)])
    lines = [names.title, figures[0]]
    for row, line in zip(rows, figures[1:], strict=True):
        lines += [row.name, line] if same or not row.packed else [row.name, line, f" {_kind(row)}"]
    return [*lines, same] if same else lines


def _columns(rows: Sequence[TensorRow], cells: int, *, kinds: bool, with_snr: bool) -> list[_Column]:
    largest = max((row.share for row in rows), default=1.0) or 1.0
    found = [
        _Column("shape", ["x".join(map(str, row.shape)) for row in rows]),
        _Column("bits", ["+".join(map(str, row.bits)) for row in rows], right=True),
        _Column("", [_bits_bar(row, cells) for row in rows]),
    ]
    if kinds:
        found += [_Column("kind", [row.kind for row in rows]), _Column("scale", [row.grouping for row in rows])]
    found += [_Column("bytes", [f"{row.bytes:,}" for row in rows], right=True)]
    if cells == _CELLS:
        found += [_Column("share", [f"{row.share:.1f} %" for row in rows], right=True)]
    found += [_Column("", [bar(row.share / largest, cells) for row in rows])]
    if with_snr:
        found += [_Column("SNR dB", ["" if row.snr_db is None else f"{row.snr_db:.1f}" for row in rows], right=True)]
    return found


def _joined(columns: list[_Column]) -> list[str]:
    return [" ".join(parts).rstrip() for parts in zip(*(column.lines() for column in columns), strict=True)]


def _same(rows: Sequence[TensorRow]) -> str:
    """What is said once, where packed matrices all have the same kind and scale."""
    found = {_kind(row) for row in rows if row.packed}
    return f"packed: {found.pop()}" if len(found) == 1 else ""


def _kind(row: TensorRow) -> str:
    return f"{row.kind}, scale {row.grouping}"


def _bits_bar(row: TensorRow, cells: int) -> str:
    """The mean of the bands' bits; floats have none, for a bar would be all of the page."""
    return bar(sum(row.bits) / len(row.bits) / _MOST_BITS, cells) if max(row.bits) <= _MOST_BITS else ""


def bar(share: float, cells: int = _CELLS) -> str:
    """A bar of so many cells at most, in eighths of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * 8 * cells)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
