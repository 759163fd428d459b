"""SwDA as it comes: the counts that its normalization and vocabulary must give, and the vocabulary that ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.data.confusions.files import ConfusionOptions, write_confusions
from sottovoce.data.corpora.swda import read_swda_turns
from sottovoce.data.corpora.swda_synth import Conditions, plan_talks
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


def test_synthetic_test_speech_is_the_validation_text_and_no_language_model_has_seen_it(
    swda: TextCorpus, real_data: Path
) -> None:
    turns = read_swda_turns(real_data / "swda")[1]
    conditions = dict.fromkeys(("train", "dev", "test"), Conditions())
    talks = plan_talks(turns, {"train": 2_000, "dev": 6, "test": 21}, 0, conditions)
    said = {split: [u for talk in talks if talk.split == split for u in talk.utterances] for split in conditions}
    assert [u.text for u in said["test"]] == list(swda.sentences("validation"))
    assert sum(len(u.text.split()) for u in said["test"]) == 25_070
    ids = {split: {talk.id for talk in talks if talk.split == split} for split in conditions}
    assert ids["dev"] <= {c.id for c in swda.split("dev")} and len(ids["dev"]) == 6
    assert ids["train"] <= {c.id for c in swda.split("train")} and len(said["train"]) == 2_000


def test_misheard_swda_has_the_error_rate_asked_for(swda: TextCorpus, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: no pronunciations")
    found = write_confusions(swda, tmp_path / "out", ConfusionOptions(split="dev", utterances=150, wer=30.0))
    assert found.wer == pytest.approx(30, abs=1.5) and found.oracle_wer < found.wer / 4 and found.silent == 0
    assert 0.3 < found.noise < 0.6
