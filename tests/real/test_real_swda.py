"""SwDA as it comes: the counts that its normalization and vocabulary must give, and the vocabulary that ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.data.text import TextCorpus
from sottovoce.data.text_folder import read_text
from sottovoce.data.words import choose_words, count_words, read_words
from sottovoce.training.config import RECIPES

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def swda(real_data: Path) -> TextCorpus:
    return read_text("swda", real_data / "swda")


def test_counts_are_those_of_the_corpus(swda: TextCorpus) -> None:
    words = {word for word, _ in read_words(RECIPES / "swda.words")}
    parts = {"train": ("train", "dev"), "validation": ("validation",)}
    expected = {"train": (1115, 192_377, 1_421_280, 0.90), "validation": (21, 3272, 25_070, 1.60)}
    for name, splits in parts.items():
        sentences = [s.split() for split in splits for s in swda.sentences(split)]
        count = sum(map(len, sentences))
        unknown = sum(word not in words for sentence in sentences for word in sentence)
        conversations = sum(len(swda.split(split)) for split in splits)
        assert (conversations, len(sentences), count, round(100 * unknown / count, 2)) == expected[name]


def test_the_shipped_vocabulary_is_that_of_the_training_conversations(swda: TextCorpus) -> None:
    counts = count_words([*swda.sentences("train"), *swda.sentences("dev")])
    entries = read_words(RECIPES / "swda.words")
    assert entries == choose_words(counts, min_count=3) and len(entries) == 9682
    assert len(swda.split("dev")) == 24 and swda.split("dev")[0].id == "2019"
