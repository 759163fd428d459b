"""Text for language models: conversations of sentences, in splits, as one normalization leaves them."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sottovoce.errors import DataError


@dataclass(frozen=True)
class Conversation:
    """Sentences in the order in which they were said or written; words have one space between them."""

    id: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class TextCorpus:
    """``splits``: "train", "dev" and what the corpus reports on, which ``reported`` names. ``normalization``: of
    ``decoding.text``. What is no conversation (a file of sentences) is one of its own, and figures are then
    bootstrapped over sentences."""

    name: str
    normalization: str
    splits: Mapping[str, tuple[Conversation, ...]]
    reported: str

    def split(self, name: str) -> tuple[Conversation, ...]:
        """Raises DataError for a split that is not there."""
        if name not in self.splits:
            raise DataError(f"{self.name}: expected a split of {', '.join(self.splits)}, found {name!r}")
        return self.splits[name]

    def sentences(self, split: str) -> Iterator[str]:
        """All sentences of a split, in order."""
        return (sentence for conversation in self.split(split) for sentence in conversation.sentences)

    def fingerprint(self) -> str:
        """Hash of everything in it, so that nothing is continued on other text."""
        digest = hashlib.sha256(json.dumps([self.normalization, self.reported]).encode())
        for split in sorted(self.splits):
            for conversation in self.splits[split]:
                digest.update("\n".join((split, conversation.id, *conversation.sentences, "")).encode())
        return digest.hexdigest()[:16]


FEWEST = 2
"""Sentences that figures need at least: an interval is a bootstrap over them."""


def conversation(id: str, lines: Iterable[str], normalize: Callable[[str], str]) -> Conversation:
    """Lines normalized; those without a word are left out."""
    return Conversation(id, tuple(sentence for sentence in map(normalize, lines) if sentence))


def assemble(
    name: str, normalization: str, splits: Mapping[str, Sequence[Conversation]], reported: str, source: Path
) -> TextCorpus:
    """A corpus, its empty conversations left out. Raises DataError naming the source for a split without a word."""
    kept = {split: tuple(c for c in found if c.sentences) for split, found in splits.items()}
    for split, found in kept.items():
        if not found:
            raise DataError(f"{source}: no text for {split} here; expected the layout of {name}")
    return TextCorpus(name, normalization, kept, reported)


def hold_out(items: Sequence[Conversation], count: int) -> tuple[list[Conversation], list[Conversation]]:
    """(train, dev): the ``count`` conversations whose ids have the smallest SHA-256 become dev; all keep their order.

    Which they are depends on ids alone: not on a seed, nor on what else there is. At least one stays in train.
    """
    ranked = sorted(items, key=lambda c: hashlib.sha256(c.id.encode()).digest())
    chosen = {c.id for c in ranked[: max(0, min(count, len(items) - 1))]}
    return [c for c in items if c.id not in chosen], [c for c in items if c.id in chosen]


def hold_out_lines(
    lines: Iterable[str], normalize: Callable[[str], str], share: float, source: Path
) -> dict[str, Conversation]:
    """ "train" and "dev" where there are no conversations, each a stream in the order of the source: sentences by the
    SHA-256 of their normalized text, so that those that a model sees as the same are on one side.

    Raises DataError naming the source where there is no word, or where a split is too small for figures.
    """
    sentences = conversation(source.name, lines, normalize).sentences
    if not sentences:
        raise DataError(f"{source}: is empty: expected a sentence a line, found no word")
    below = int(share * 2**32)
    drawn = [int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4]) < below for sentence in sentences]
    held = sum(drawn)
    if held < FEWEST:
        found = f"{held} fell to dev, which wants {FEWEST}," if held else "none fell to dev"
        raise DataError(f"{source}: {len(sentences)} lines, {found} at dev_share {share:g}: raise it")
    if held == len(sentences):
        raise DataError(f"{source}: {len(sentences)} lines, all fell to dev at dev_share {share:g}: lower it")
    return {
        split: Conversation(
            source.name, tuple(s for s, dev in zip(sentences, drawn, strict=True) if dev == (split == "dev"))
        )
        for split in ("train", "dev")
    }


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file, gzipped if its name ends in .gz. Raises DataError naming the file."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield line.decode().rstrip("\r\n")
                except UnicodeDecodeError:
                    raise DataError(f"{path}:{number}: expected UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def folder_of(source: str | Path, *inner: str) -> Path:
    """``source``, or the first of the folders ``inner`` in it that is there. Raises DataError unless it is a folder."""
    place = Path(source)
    if not place.is_dir():
        raise DataError(f"{source}: expected a folder, found {'a file' if place.exists() else 'nothing'}")
    return next((place / name for name in inner if (place / name).is_dir()), place)
