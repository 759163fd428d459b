"""Model files by their name, and the plain text that models are trained on and measured with."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sottovoce.errors import DataError, FormatError
from sottovoce.ngram.arpa import read_arpa, write_arpa
from sottovoce.ngram.binary import read_binary, write_binary
from sottovoce.ngram.model import NgramModel
from sottovoce.ngram.vocabulary import BOS, EOS

BINARY = ".safetensors"
_WORD = re.compile(r"[^ \t\r\n\v\f]+")  # as in ARPA files
_ARPA = (".arpa", ".arpa.gz", ".lm", ".lm.gz")


def check_name(path: str | Path) -> None:
    """Raises FormatError unless the name says which form the model has."""
    if not str(path).endswith((BINARY, *_ARPA)):
        raise FormatError(f"{path}: expected a name that ends in {', '.join((*_ARPA, BINARY))}")


def save_ngram(path: str | Path, model: NgramModel) -> None:
    """Write a model: ``.safetensors`` is the binary form, ``.arpa``, ``.lm`` and these with ``.gz`` are ARPA.

    Raises FormatError for another name, DataError where the file cannot be written.
    """
    check_name(path)
    try:
        (write_binary if str(path).endswith(BINARY) else write_arpa)(path, model)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def load_ngram(path: str | Path) -> NgramModel:
    """Read a model of either form: ``.safetensors`` is binary, all else is ARPA, plain or gzipped.

    Raises FormatError naming the file, and for ARPA the line; DataError where the file cannot be read.
    """
    try:
        return (read_binary if str(path).endswith(BINARY) else read_arpa)(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_text(paths: Sequence[str | Path]) -> list[list[str]]:
    """Sentences of UTF-8 files, plain or ``.gz``, one a line, words between ASCII spaces; blank lines are skipped.

    Raises DataError naming file and line for ``<s>`` or ``</s>`` in the text, and for files without any word.
    """
    sentences: list[list[str]] = []
    for path in paths:
        for number, line in enumerate(_lines(Path(path)), start=1):
            words = _WORD.findall(line)
            if BOS in words or EOS in words:
                raise DataError(f"{path}:{number}: {BOS} and {EOS} are added by the model, found one in the text")
            if words:
                sentences.append(words)
    if not sentences:
        raise DataError(f"{', '.join(map(str, paths))}: expected sentences, one a line, found no word")
    return sentences


def read_word_list(path: str | Path) -> list[str]:
    """Words of a UTF-8 file, one a line, in their order; a count may follow each.

    Raises DataError naming file and line for anything else, and for a word given twice.
    """
    words: dict[str, None] = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        fields = _WORD.findall(line)
        if not fields:
            continue
        if len(fields) > 2 or (len(fields) == 2 and not fields[1].isdecimal()):
            raise DataError(f"{path}:{number}: expected a word, or a word and its count, found {line[:60]!r}")
        if fields[0] in words:
            raise DataError(f"{path}:{number}: {fields[0]!r} is given twice")
        words[fields[0]] = None
    if not words:
        raise DataError(f"{path}: expected words, one a line, found none")
    return list(words)


def frequent_words(sentences: Iterable[Sequence[str]], min_count: int = 1) -> list[str]:
    """Words that occur ``min_count`` times or more, the most frequent first, equals by spelling."""
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = [(-count, word) for word, count in counts.items() if count >= min_count]
    return [word for _, word in sorted(kept)]


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
        # Only line feeds end a line: other separators of Unicode are part of the text.
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, found other bytes") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: gzip file is damaged") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
