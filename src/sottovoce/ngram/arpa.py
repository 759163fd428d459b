"""ARPA files, plain or gzipped: what every recognizer and language-model tool reads.

As in KenLM, bytes are split at ASCII spaces only, ``<UNK>`` is ``<unk>``, and a file without either gets one at log10
probability -100. Numbers are written so that float32 reads them back as they were.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from sottovoce.errors import FormatError
from sottovoce.ngram.model import NgramModel, Singles
from sottovoce.ngram.sentences import Ids
from sottovoce.ngram.vocabulary import BOS, EOS, UNK, Vocabulary
from sottovoce.packed.replacing import replacing
from sottovoce.packed.strict_json import short

MAX_ORDER = 20
MISSING_UNK = -100.0
_CAPITAL_UNK = b"<UNK>"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class _Section:
    """The lines of one order. ``fields`` has k + 2 a line, flat: a list for each line would keep the collector busy."""

    k: int
    first: int  # number of the first line
    fields: list[bytes]

    def column(self, place: int) -> list[bytes]:
        """Field ``place`` of each line: 0 is the log-probability, 1 to k the words, k + 1 the back-off."""
        return self.fields[place :: self.k + 2]

    def refuse(self, path: Path, row: int, expected: str) -> NoReturn:
        width = self.k + 2
        _refuse(path, self.first + row, expected, b" ".join(self.fields[row * width : (row + 1) * width]))


def write_arpa(path: str | Path, model: NgramModel) -> None:
    """Write a model, gzipped if the name ends in .gz, whole or not at all. Raises OSError as ``open`` does."""
    path = Path(path)
    with replacing(path) as stream:
        if path.suffix != ".gz":
            _write(stream.write, model)
            return
        # No name and no time: equal models give equal bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
            _write(packed.write, model)


def read_arpa(path: str | Path) -> NgramModel:
    """Read a model. Raises FormatError naming file and line for whatever is not a back-off model, and OSError as
    ``open`` does."""
    path = Path(path)
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        lines = _Lines(path, stream.readline)
        counts = _read_counts(lines)
        sections = [_read_section(lines, k, count, len(counts)) for k, count in enumerate(counts, start=1)]
        if lines.content() != b"\\end\\":
            lines.refuse("\\end\\")
    return _build(path, sections)


class _Lines:
    """Stripped lines and their numbers; damage of a gzip file becomes an error that names the file."""

    def __init__(self, path: Path, readline: Callable[[], bytes]) -> None:
        self.path, self.number, self.last = path, 0, b""
        self._readline = readline

    def next(self) -> bytes | None:
        try:
            line = self._readline()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{self.path}: gzip file is damaged: {short(str(error))}") from error
        self.number += 1
        self.last = line.strip()
        return self.last if line else None

    def content(self) -> bytes | None:
        """The next line that is not blank; None at the end of the file."""
        while (line := self.next()) == b"":
            pass
        return line

    def refuse(self, expected: str) -> NoReturn:
        _refuse(self.path, self.number, expected, self.last)


def _refuse(path: Path, number: int, expected: str, found: bytes) -> NoReturn:
    shown = short(found.decode("utf-8", "replace")) if found else "a blank line or the end"
    raise FormatError(f"{path}:{number}: expected {expected}, found {shown}")


def _read_counts(lines: _Lines) -> list[int]:
    """Numbers of n-grams from the ``\\data\\`` section; leaves the heading of the unigrams as the last line."""
    while (line := lines.next()) != b"\\data\\":
        if line is None:
            lines.refuse("\\data\\ before the end of the file")
    counts: list[int] = []
    while (line := lines.content()) is not None and line.startswith(b"ngram "):
        order, equals, count = line[6:].partition(b"=")
        if not (equals and order.strip() == b"%d" % (len(counts) + 1) and count.strip().isdigit()):
            lines.refuse(f"'ngram {len(counts) + 1}=count'")
        counts.append(int(count))
    if not counts or len(counts) > MAX_ORDER:
        lines.refuse(f"1 to {MAX_ORDER} lines 'ngram k=count'")
    return counts


def _read_section(lines: _Lines, k: int, count: int, order: int) -> _Section:
    heading = b"\\%d-grams:" % k
    if (lines.last if k == 1 else lines.content()) != heading:
        lines.refuse(heading.decode())
    first, fields = lines.number + 1, list[bytes]()
    bare, full = k + 1, k + 2 if k < order else 0
    for row in range(count):
        line = lines.next()
        if not line or line.startswith(b"\\"):
            lines.refuse(f"{count} {k}-grams, and number {row + 1} of them here")
        found = line.split()
        if len(found) == bare:
            found.append(b"0")
        elif len(found) != full:
            words = f"{k} words" if k > 1 else "a word"
            lines.refuse(f"a log-probability, {words}" + (" and perhaps a back-off" if full else " and no back-off"))
        fields += found
    return _Section(k, first, fields)


def _build(path: Path, sections: Sequence[_Section]) -> NgramModel:
    probs, backoffs = _numbers(path, sections[0])
    vocabulary, probs, backoffs = _vocabulary(path, sections[0], probs, backoffs)
    size = len(vocabulary)
    ids = {word.encode(): id for word, id in vocabulary.ids.items()} | {_CAPITAL_UNK: vocabulary.unk}
    counts, keys = [size], np.arange(size)
    all_probs, all_backoffs = [probs], [backoffs]
    for section in sections[1:]:
        probs, backoffs = _numbers(path, section)
        new = _keys(path, section, ids, size, keys)
        sorting = np.argsort(new, kind="stable")
        same = np.flatnonzero(np.diff(new[sorting]) == 0)
        if len(same):
            section.refuse(path, int(sorting[same[0] + 1]), "each n-gram once")
        keys = np.concatenate([keys, new[sorting]])
        all_probs.append(probs[sorting])
        all_backoffs.append(backoffs[sorting])
        counts.append(len(new))
    below = np.concatenate([np.zeros(0, np.float32), *all_backoffs[:-1]])
    return NgramModel(vocabulary, tuple(counts), keys, np.concatenate(all_probs), below)


def _numbers(path: Path, section: _Section) -> tuple[Singles, Singles]:
    """Log-probabilities and back-offs, float32 (N,) each."""
    probs, backoffs = _floats(section.column(0)), _floats(section.column(section.k + 1))
    bad = ~np.isfinite(probs) | (probs > 0) | ~np.isfinite(backoffs)
    if bad.any():
        expected = "a finite log10 probability of at most 0 and a finite back-off"
        section.refuse(path, int(np.argmax(bad)), expected)
    return probs, backoffs


def _floats(texts: list[bytes]) -> Singles:
    """float32 (N,); what is no number, or too large for one, is not finite."""
    with np.errstate(over="ignore"):
        try:
            return np.array(list(map(float, texts)), np.float64).astype(np.float32)
        except ValueError:
            return np.array(list(map(_float, texts)), np.float64).astype(np.float32)


def _float(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _vocabulary(
    path: Path, section: _Section, probs: Singles, backoffs: Singles
) -> tuple[Vocabulary, Singles, Singles]:
    """Words in the order of the file, with ``<unk>`` at their end where the file has none."""
    words: dict[str, None] = {}
    for row, found in enumerate(section.column(1)):
        try:
            word = UNK if found == _CAPITAL_UNK else found.decode("utf-8")
        except UnicodeDecodeError:
            section.refuse(path, row, "a word in UTF-8")
        if word in words:
            section.refuse(path, row, "each word once")
        words[word] = None
    if UNK not in words:
        words[UNK] = None
        probs = np.append(probs, np.float32(MISSING_UNK))
        backoffs = np.append(backoffs, np.float32(0))
    missing = [mark for mark in (BOS, EOS) if mark not in words]
    if missing:
        raise FormatError(f"{path}: expected {BOS} and {EOS} among the unigrams, found no {' and no '.join(missing)}")
    return Vocabulary(tuple(words)), probs, backoffs


def _keys(path: Path, section: _Section, ids: dict[bytes, int], size: int, known: Ids) -> Ids:
    """Keys (N,) of the k-grams, whose contexts are among the ``known`` n-grams of lower orders."""
    state: Ids = np.zeros(1, np.int64)
    for place in range(1, section.k + 1):
        column = section.column(place)
        word = np.fromiter((ids.get(item, -1) for item in column), np.int64, len(column))
        if (word < 0).any():
            section.refuse(path, int(np.argmax(word < 0)), "words that are among the unigrams")
        key = state * size + word
        if place < section.k:
            index = np.minimum(np.searchsorted(known, key), len(known) - 1)
            if (known[index] != key).any():
                row = int(np.argmax(known[index] != key))
                section.refuse(path, row, f"its first {section.k - 1} words as a {section.k - 1}-gram too")
            state = index + 1
    return key


def _write(write: Callable[[bytes], object], model: NgramModel) -> None:
    heads = "".join(f"ngram {k}={count}\n" for k, count in enumerate(model.counts, start=1))
    write(f"\\data\\\n{heads}".encode())
    words = model.vocabulary.words
    grams = [""]  # the text of each state of the order below
    first = below = 0
    for k, count in enumerate(model.counts, start=1):
        block = slice(first, first + count)
        context, word = np.divmod(model.keys[block], len(words))
        offset = below + 1 if k > 1 else 0
        befores = (grams[i] for i in (context - offset).tolist())
        texts = [before + words[id] for before, id in zip(befores, word.tolist(), strict=True)]
        write(f"\n\\{k}-grams:\n".encode())
        for line in _entry_lines(model, block, texts, last=k == model.order):
            write(line)
        grams = [text + " " for text in texts]
        below, first = first, block.stop
    write(b"\n\\end\\\n")


def _entry_lines(model: NgramModel, block: slice, texts: list[str], *, last: bool) -> Iterator[bytes]:
    """The lines of one order, some thousands at a time."""
    for start in range(0, len(texts), 1 << 14):
        part = slice(block.start + start, min(block.start + start + (1 << 14), block.stop))
        probs = model.log10_probs[part].astype(str).tolist()
        some = texts[start : start + (1 << 14)]
        if last:
            lines = [f"{prob}\t{text}\n" for prob, text in zip(probs, some, strict=True)]
        else:
            backoffs = model.log10_backoffs[part].astype(str).tolist()
            lines = [f"{p}\t{text}\t{b}\n" for p, text, b in zip(probs, some, backoffs, strict=True)]
        yield "".join(lines).encode()
