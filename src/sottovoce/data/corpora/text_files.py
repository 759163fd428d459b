"""Corpora that are files of sentences: Penn Treebank, WikiText, LibriSpeech's LM text, and any plain text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sottovoce.data import options as check
from sottovoce.data.text import (
    FEWEST,
    Conversation,
    TextCorpus,
    assemble,
    conversation,
    folder_of,
    hold_out_lines,
    read_lines,
)
from sottovoce.decoding.text import lower, normalization, plain
from sottovoce.errors import DataError

_TITLE = re.compile(r"^\s*= (?!=).*[^=] =\s*$")  # = Title =; sections have more equals signs


def read_ptb(source: str | Path) -> TextCorpus:
    """``ptb.train.txt``, ``ptb.valid.txt`` (dev) and ``ptb.test.txt``, as Mikolov prepared them: 10k words, ``<unk>``
    and ``N`` in the text. Each file is one stream of sentences; figures are reported on test."""
    place = folder_of(source, "simple-examples/data", "data")
    splits = {split: [_whole(place / f"ptb.{name}.txt")] for split, name in _THREE}
    return assemble("ptb", "plain", splits, "test", place)


def read_wikitext(source: str | Path) -> TextCorpus:
    """``wiki.{train,valid,test}.tokens`` of WikiText-2 or -103 (or ``.raw``): a sentence is a line, a conversation an
    article; ``<unk>`` and headings stay, as published perplexities count them."""
    place = folder_of(source, "wikitext-2", "wikitext-103", "wikitext-2-raw", "wikitext-103-raw")
    kind = "tokens" if (place / "wiki.train.tokens").exists() else "raw"
    splits = {split: list(_articles(place / f"wiki.{name}.{kind}")) for split, name in _THREE}
    return assemble("wikitext", "plain", splits, "test", place)


_THREE = (("train", "train"), ("dev", "valid"), ("test", "test"))


def read_librispeech_text(source: str | Path, *, dev_share: float = 0.0005, lines: int | None = None) -> TextCorpus:
    """``librispeech-lm-norm.txt.gz`` (OpenSLR 11), or its text, in lower case; dev is cut by the SHA-256 of its lines
    as they are normalized.

    Transcripts of the corpus' own parts, where they lie beside it (``LibriSpeech/dev-clean`` and so on), are dev and
    test instead. ``lines`` takes the first so many, for the whole is 40 million.
    """
    share = check.number("dev_share", dev_share, 1e-6, 0.5)
    most = None if lines is None else check.integer("lines", lines, 1, 10**9)
    place = folder_of(source)
    file = next((p for p in map(place.joinpath, _LM_TEXT) if p.exists()), None)
    if file is None:
        raise DataError(f"{place}: expected {_LM_TEXT[0]} here, found none")
    kept = [line for _, line in zip(range(most or 2**62), read_lines(file), strict=False)]
    spoken = {split: list(_chapters(place, split)) for split in ("dev", "test")}
    if all(spoken.values()):
        train = [conversation(file.name, kept, lower)]
        return assemble("librispeech_text", "lower", {"train": train, **spoken}, "test", place)
    splits = {split: [found] for split, found in hold_out_lines(kept, lower, share, file).items()}
    return assemble("librispeech_text", "lower", splits, "dev", place)


_LM_TEXT = ("librispeech-lm-norm.txt.gz", "librispeech-lm-norm.txt")


def read_plain_text(source: str | Path, *, normalization: str = "plain", dev_share: float = 0.01) -> TextCorpus:
    """Any text, a sentence a line: a file, gzipped or not, from which dev is cut by the SHA-256 of its
    normalized lines; or a folder with ``train.txt``, ``dev.txt`` and, if there is one, ``test.txt`` (or ``.gz``).

    ``normalization``: one of ``decoding.text``.
    """
    normalize = _normalization(normalization)
    share = check.number("dev_share", dev_share, 1e-6, 0.5)
    place = Path(source)
    if place.is_file():
        parts = hold_out_lines(read_lines(place), normalize, share, place)
    else:
        files = {split: _file(folder_of(place), split) for split in ("train", "dev", "test")}
        missing = next((split for split in ("train", "dev") if files[split] is None), None)
        if missing is not None:
            raise DataError(f"{place}: expected {missing}.txt here, found none")
        parts = {split: _part(file, split, normalize) for split, file in files.items() if file is not None}
    splits = {split: [found] for split, found in parts.items()}
    return assemble("text", normalization, splits, "test" if "test" in splits else "dev", place)


_normalization = normalization  # the option has its name


def _file(folder: Path, split: str) -> Path | None:
    return next((p for name in (f"{split}.txt", f"{split}.txt.gz") if (p := folder / name).exists()), None)


def _part(path: Path, split: str, normalize: Callable[[str], str]) -> Conversation:
    """The split in a file of its own. Raises DataError for one without a word, or too small for figures."""
    found = conversation(split, read_lines(path), normalize)
    if not found.sentences:
        raise DataError(f"{path}: is empty: expected a sentence a line, found no word")
    if split != "train" and len(found.sentences) < FEWEST:
        raise DataError(f"{path}: expected {FEWEST} lines or more for figures on {split}, found {len(found.sentences)}")
    return found


def _whole(path: Path) -> Conversation:
    return conversation(path.name, read_lines(path), plain)


def _articles(path: Path) -> Iterator[Conversation]:
    title, lines = "", list[str]()
    for line in read_lines(path):
        if _TITLE.match(line):
            yield conversation(title, lines, plain)
            title, lines = plain(line), []
        lines.append(line)
    yield conversation(title, lines, plain)


def _chapters(place: Path, split: str) -> Iterator[Conversation]:
    for part in (f"{split}-clean", f"{split}-other"):
        for root in (place / "LibriSpeech" / part, place / part):
            for path in sorted(root.rglob("*.trans.txt")):
                lines = (line.partition(" ")[2] for line in read_lines(path))
                yield conversation(path.name.removesuffix(".trans.txt"), lines, lower)
