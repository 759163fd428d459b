"""An n-gram model as one checksummed safetensors file: loads at once, where an ARPA file is parsed.

``words`` (M,) int32 is the last word of each n-gram, in the model's order; ``first`` (S + 1,) int32 says where the
n-grams of each context state begin; ``log10_probs`` and ``log10_backoffs`` are float32; the word list is deflated
UTF-8, a word a line.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError, FormatError
from sottovoce.ngram.model import NgramModel
from sottovoce.ngram.vocabulary import Vocabulary
from sottovoce.packed.container import Container, integers, read_container, write_container
from sottovoce.packed.strict_json import short

VERSION = 1
MAX_WORD_BYTES = 1 << 30
_TENSORS = {
    "words": np.dtype("<i4"),
    "first": np.dtype("<i4"),
    "log10_probs": np.dtype("<f4"),
    "log10_backoffs": np.dtype("<f4"),
    "vocabulary": np.dtype("u1"),
}


def write_binary(path: str | Path, model: NgramModel) -> None:
    """Write a model, whole or not at all; equal models give equal bytes. Raises OSError as ``open`` does."""
    states = len(model.log10_backoffs) + 1
    context, word = np.divmod(model.keys, len(model.vocabulary))
    text = "\n".join(model.vocabulary.words).encode()
    arrays: dict[str, NDArray[Any]] = {
        "words": word.astype(np.int32),
        "first": np.searchsorted(context, np.arange(states + 1)).astype(np.int32),
        "log10_probs": model.log10_probs,
        "log10_backoffs": model.log10_backoffs,
        "vocabulary": np.frombuffer(zlib.compress(text, 9), np.uint8),
    }
    fields = {"version": VERSION, "content": "ngram", "counts": list(model.counts), "word_bytes": len(text)}
    write_container(Path(path), arrays, fields)


def read_binary(path: str | Path) -> NgramModel:
    """Read a model and check every byte of it. Raises FormatError naming the file, and OSError as ``open`` does."""
    try:
        container = read_container(Path(path))
        container.check_sums()
        return _model(container)
    except (FormatError, DataError) as error:
        raise FormatError(f"{path}: {error}") from error


def _model(container: Container) -> NgramModel:
    counts, arrays = _checked(container)
    vocabulary = Vocabulary(_words(arrays["vocabulary"].tobytes(), int(container.fields["word_bytes"])))
    words, first = arrays["words"].astype(np.int64), arrays["first"].astype(np.int64)
    rises = len(first) > 1 and first[0] == 0 and first[-1] == len(words) and (np.diff(first) >= 0).all()
    if not rises or ((words < 0) | (words >= len(vocabulary))).any():
        raise FormatError("n-gram model: expected contexts in order and words of the vocabulary")
    context = np.repeat(np.arange(len(first) - 1), np.diff(first))
    probs, backoffs = arrays["log10_probs"], arrays["log10_backoffs"]
    return NgramModel(vocabulary, counts, context * len(vocabulary) + words, probs, backoffs)


def _checked(container: Container) -> tuple[tuple[int, ...], dict[str, NDArray[Any]]]:
    """The fields and tensors of this version, and no others."""
    fields = container.fields
    if fields.get("content") != "ngram":
        raise FormatError("expected an n-gram model, found another Sottovoce file")
    if fields.get("version") != VERSION or set(fields) != {"version", "content", "counts", "word_bytes"}:
        raise FormatError(f"metadata: expected n-gram format version {VERSION}, found {short(fields.get('version'))}")
    counts = integers("metadata", "counts", fields["counts"], 1 << 31)
    integers("metadata", "word_bytes", [fields["word_bytes"]], MAX_WORD_BYTES)
    if set(container.entries) != set(_TENSORS):
        raise FormatError(f"expected tensors {', '.join(_TENSORS)}, found {short(sorted(container.entries))}")
    for name, dtype in _TENSORS.items():
        entry = container.entries[name]
        if entry.dtype != dtype or len(entry.shape) != 1:
            raise FormatError(f"tensor {name}: expected {dtype} (N,), found {entry.dtype} {entry.shape}")
    return counts, {name: container.array(name) for name in _TENSORS}


def _words(deflated: bytes, size: int) -> tuple[str, ...]:
    """The word list; never inflates more than ``size`` bytes."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(deflated, size + 1)
        if len(text) != size or not inflate.eof:
            raise ValueError("another size")
        return tuple(text.decode("utf-8").split("\n"))
    except (zlib.error, ValueError) as error:
        raise FormatError(
            f"tensor vocabulary: expected {size} bytes of deflated UTF-8 ({short(str(error))})"
        ) from error
