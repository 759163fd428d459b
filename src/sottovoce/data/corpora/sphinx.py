"""CMU Sphinx's files: feature files (.mfc), lists of utterances (.fileids) and their .transcription."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError

_LINE = re.compile(r"(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)")
_MARKS = ("<s>", "</s>", "<sil>")


def read_mfc(path: str | Path, dim: int) -> NDArray[np.float32]:
    """Features (T, dim) float32 of a Sphinx feature file: an int32 count of values, then the values in float32.

    Sphinx writes either byte order and no mark of it: the one in which the count matches the size of the file holds
    (big-endian, should both). Raises DataError naming the file if neither does, or the values are none, not finite,
    or no whole number of frames.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: no such feature file, or not readable ({error.strerror})") from None
    order = _byte_order(content)
    if order is None:
        count = int.from_bytes(content[:4], "big")
        raise DataError(f"{path}: its header counts {count} values, and {(len(content) - 4) / 4:g} follow")
    values = np.frombuffer(content, f"{order}f4", offset=4).astype(np.float32)
    if not len(values) or len(values) % dim:
        raise DataError(f"{path}: frames of {dim} values expected, found {len(values)} values in all")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds numbers that are not finite (NaN or infinity)")
    return values.reshape(-1, dim)


def read_fileids(path: Path) -> list[str]:
    """Utterances by their paths without extension, such as ``train/SPEAKER/ID``. Raises DataError if not readable."""
    return [line.strip() for line in _lines(path) if line.strip()]


def read_transcription(path: Path) -> dict[str, str]:
    """Utterance id to text, from lines ``<s> WORD WORD </s> (ID)``; the marks of silence are left out.

    Raises DataError naming the line for another form or an id that occurs twice.
    """
    texts: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise DataError(f"{path}, line {number}: 'WORD WORD (utterance-id)' expected, found {line[:60]!r}")
        if found["id"] in texts:
            raise DataError(f"{path}, line {number}: {found['id']!r} occurs twice")
        texts[found["id"]] = " ".join(word for word in found["text"].split() if word.lower() not in _MARKS)
    return texts


def _byte_order(content: bytes) -> str | None:
    for order, name in ((">", "big"), ("<", "little")):
        if len(content) >= 4 and int.from_bytes(content[:4], name) * 4 + 4 == len(content):  # type: ignore[arg-type]
            return order
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DataError(f"{path}: missing or not readable") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
