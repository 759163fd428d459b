"""Text by the name of its corpus: as the corpus comes, or as ``sottovoce data prepare`` left it.

A prepared folder holds ``{split}.jsonl.gz``, a conversation a line, ``{split}.txt.gz``, a sentence a line for other
tools (``sottovoce ngram train``), and ``prepared.json``, which comes last.
"""

from __future__ import annotations

import gzip
import inspect
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sottovoce.data.corpora.ami_text import read_ami_text
from sottovoce.data.corpora.swda import read_swda
from sottovoce.data.corpora.telephone import read_swbd_fisher
from sottovoce.data.corpora.text_files import read_librispeech_text, read_plain_text, read_ptb, read_wikitext
from sottovoce.data.prepared import MARKER, Prepared, begin, load_prepared, mark_complete
from sottovoce.data.text import Conversation, TextCorpus
from sottovoce.errors import ConfigError, DataError, did_you_mean
from sottovoce.packed.replacing import replacing

TEXT_CORPORA: dict[str, Callable[..., TextCorpus]] = {
    "swda": read_swda,
    "wikitext": read_wikitext,
    "ptb": read_ptb,
    "librispeech_text": read_librispeech_text,
    "ami_text": read_ami_text,
    "swbd_fisher": read_swbd_fisher,
    "text": read_plain_text,
}


def read_text(name: str, source: str | Path, options: Mapping[str, Any] | None = None) -> TextCorpus:
    """Read corpus ``name``, one of ``TEXT_CORPORA``, in the layout of its public copy.

    ``options`` are the keywords of its ``read_...`` function. Raises ConfigError for an unknown name or option,
    DataError for another layout.
    """
    reader = TEXT_CORPORA.get(name)
    if reader is None:
        known = ", ".join(TEXT_CORPORA)
        raise ConfigError(f"there is no text corpus {name!r}, only {known}{did_you_mean(name, TEXT_CORPORA)}")
    found = list(inspect.signature(reader).parameters)[1:]
    for key in options or {}:
        if key not in found:
            raise ConfigError(f"{name} has no option {key!r}, only {', '.join(found)}{did_you_mean(key, found)}")
    return reader(source, **(options or {}))


def open_text(folder: str | Path, corpus: Mapping[str, Any]) -> TextCorpus:
    """The text in ``folder``: prepared, or in the layout of the corpus that a recipe names (``name``, ``options``).

    Raises DataError where it is neither, or was prepared as another corpus.
    """
    place = Path(folder)
    if not (place / MARKER).exists():
        return read_text(str(corpus.get("name", "text")), place, corpus.get("options"))
    prepared = load_prepared(place)
    if "text" not in prepared.details:
        raise DataError(f"{folder}: prepared as {prepared.name!r}, which is speech; expected text")
    if "name" in corpus and corpus["name"] != prepared.name:
        raise DataError(f"{folder}: prepared as {prepared.name!r}, expected {corpus['name']!r}")
    details = prepared.details["text"]
    splits = {split: tuple(_read(place / f"{split}.jsonl.gz")) for split in prepared.counts}
    return TextCorpus(prepared.name, details["normalization"], splits, details["reported"])


def prepare_text(name: str, source: str | Path, out: str | Path, options: Mapping[str, Any]) -> Prepared:
    """Read, normalize and write a text corpus into the folder ``out``; a folder complete with the same options stays.

    Raises ConfigError and DataError as ``read_text`` does.
    """
    chosen = {"source": str(Path(source).absolute()), **options}
    done = begin(out, name, chosen, holds=())
    if done is not None:
        return done
    corpus = read_text(name, source, options)
    for split, conversations in corpus.splits.items():
        lines = "".join(json.dumps(asdict(c), ensure_ascii=False) + "\n" for c in conversations)
        with replacing(Path(out) / f"{split}.jsonl.gz") as stream:
            stream.write(gzip.compress(lines.encode(), mtime=0))
        with replacing(Path(out) / f"{split}.txt.gz") as stream:
            stream.write(gzip.compress("".join(s + "\n" for s in corpus.sentences(split)).encode(), mtime=0))
    prepared = Prepared(
        folder=Path(out),
        name=name,
        options=chosen,
        counts={split: sum(len(c.sentences) for c in found) for split, found in corpus.splits.items()},
        words={split: sum(len(s.split()) for s in corpus.sentences(split)) for split in corpus.splits},
        details={"text": {"normalization": corpus.normalization, "reported": corpus.reported}},
    )
    return mark_complete(prepared)


def _read(path: Path) -> list[Conversation]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        return [Conversation(item["id"], tuple(item["sentences"])) for item in map(json.loads, lines)]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); prepare the data again") from error
