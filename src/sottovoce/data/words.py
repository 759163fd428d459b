"""Word vocabularies: counted once on training text, then kept beside the recipe, most frequent words first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from sottovoce.data.text import TextCorpus, read_lines
from sottovoce.decoding.vocabulary import END_WORD, UNKNOWN_WORD, WordList
from sottovoce.errors import DataError
from sottovoce.packed.replacing import replacing


def count_words(sentences: Iterable[str]) -> Counter[str]:
    """How often each word occurs; ``</s>`` stands for the end of each sentence."""
    counts: Counter[str] = Counter()
    sentences = list(sentences)
    for sentence in sentences:
        counts.update(sentence.split())
    counts[END_WORD] += len(sentences)
    return counts


def choose_words(counts: Mapping[str, int], *, min_count: int = 1, size: int | None = None) -> list[tuple[str, int]]:
    """(word, count) in the order of a vocabulary: ``</s>``, ``<unk>`` with the count of all that it stands for, then
    the words of ``min_count`` and more, at most ``size`` entries in all; words of equal counts are in the order of
    their characters."""
    words = {word: n for word, n in counts.items() if word not in (END_WORD, UNKNOWN_WORD)}
    ranked = sorted((word for word, n in words.items() if n >= min_count), key=lambda word: (-words[word], word))
    kept = ranked if size is None else ranked[: max(0, size - 2)]
    unknown = counts.get(UNKNOWN_WORD, 0) + sum(words.values()) - sum(words[word] for word in kept)
    return [(END_WORD, counts.get(END_WORD, 0)), (UNKNOWN_WORD, unknown), *((word, words[word]) for word in kept)]


def write_words(path: Path, entries: Iterable[tuple[str, int]]) -> None:
    """A line an entry, ``word<TAB>count``, whole or not at all."""
    with replacing(path) as stream:
        stream.write("".join(f"{word}\t{count}\n" for word, count in entries).encode())


def read_words(path: Path) -> list[tuple[str, int]]:
    """What ``write_words`` wrote. Raises DataError naming file and line."""
    entries: list[tuple[str, int]] = []
    for number, line in enumerate(read_lines(path), start=1):
        word, tab, count = line.partition("\t")
        if not word or not tab or not count.isdigit():
            raise DataError(f"{path}:{number}: expected a word, a tab and its count, found {line[:40]!r}")
        if number > 3 and int(count) > entries[-1][1]:
            raise DataError(f"{path}:{number}: expected words by falling count, found {word!r} after a rarer one")
        entries.append((word, int(count)))
    return entries


def word_list(entries: Iterable[tuple[str, int]]) -> WordList:
    """The vocabulary of these entries. Raises FormatError as ``WordList`` does."""
    return WordList([word for word, _ in entries])


def check_coverage(words: WordList, corpus: TextCorpus) -> None:
    """Raises DataError where most words of dev are unknown: the vocabulary is another corpus', or its text was
    normalized otherwise."""
    counts = count_words(corpus.sentences("dev"))
    known = set(words.entries)
    total = sum(n for word, n in counts.items() if word != END_WORD)
    missing = sum(n for word, n in counts.items() if word not in known)
    if 2 * missing > total:
        raise DataError(
            f"{corpus.name}: {100 * missing / total:.0f} % of the words of dev are not in the vocabulary of "
            f"{words.size}: it belongs to other text, or to another normalization"
        )
