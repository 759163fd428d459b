"""Text files of other toolkits: plain or gzip, whole or not at all, and errors that name the line."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

from sottovoce.errors import DataError
from sottovoce.packed.replacing import replacing

_GZIP = b"\x1f\x8b"


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file without their ends, unpacked if it is gzip, whatever its name.

    Raises DataError naming a file that cannot be read.
    """
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read: not UTF-8 text") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: cannot be read: a damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    # Not splitlines(): that breaks lines at characters which may stand inside a word.
    return [line.removesuffix("\r") for line in text.split("\n")]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all, as gzip if the name ends in .gz. Equal text gives equal bytes.

    Raises DataError naming a path that cannot be written.
    """
    data = text.encode("utf-8")
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    try:
        with replacing(path) as stream:
            stream.write(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_table(path: Path) -> dict[str, tuple[int, str]]:
    """A Kaldi table: the first word of each line to its line's number and rest; blank lines are skipped.

    Raises DataError naming the line of a key given twice.
    """
    table: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split(maxsplit=1)
        if not parts:
            continue
        if parts[0] in table:
            raise DataError(f"{path}:{number}: {parts[0]!r} is given twice")
        table[parts[0]] = (number, parts[1].strip() if len(parts) > 1 else "")
    return table


def finite(where: str, text: str, what: str) -> float:
    """The number in ``text``. Raises DataError naming ``where`` for anything but a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: expected a finite number as {what}, found {text[:40]!r}")
    return value


def natural(where: str, text: str, what: str) -> int:
    """The whole number of 0 or more in ``text``. Raises DataError naming ``where`` for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise DataError(f"{where}: expected a whole number as {what}, found {text[:40]!r}")
    return int(text)
