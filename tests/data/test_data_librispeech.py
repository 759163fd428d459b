"""LibriSpeech's layout, generated small: SPEAKER/CHAPTER folders of FLAC files and one transcript a chapter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpus_files import tone
from lhotse.recipes.librispeech import prepare_librispeech as lhotse_recipe

from sottovoce.data.corpora.librispeech import prepare_librispeech, prepare_mini_librispeech
from sottovoce.data.datamodule import DataConfig, SpeechDataModule
from sottovoce.data.prepare import prepare
from sottovoce.data.prepared import load_cuts
from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError

TEXTS = ("A WORD", "TWO WORDS", "IT'S THREE")


def part(folder: Path, first_speaker: int, speakers: int = 2) -> Path:
    """One part with a chapter of three utterances by each speaker."""
    for speaker in range(first_speaker, first_speaker + speakers):
        chapter = folder / str(speaker) / "77"
        lines = [f"{speaker}-77-{n:04d} {text}" for n, text in enumerate(TEXTS)]
        for number, line in enumerate(lines):
            tone(chapter / f"{line.split()[0]}.flac", 0.4 + 0.1 * number, hz=200 + speaker)
        (chapter / f"{speaker}-77.trans.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """A folder that holds LibriSpeech/ as the archives unpack."""
    part(tmp_path / "mini" / "LibriSpeech" / "train-clean-5", 10, 4)
    part(tmp_path / "mini" / "LibriSpeech" / "dev-clean-2", 50)
    return tmp_path / "mini"


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """LibriSpeech/ itself, two of the three training parts there."""
    names = ("train-clean-100", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")
    for number, name in enumerate(names):
        part(tmp_path / "full" / "LibriSpeech" / name, 10 * number, 1)
    return tmp_path / "full" / "LibriSpeech"


def speakers(folder: Path, split: str) -> set[str]:
    return {cut.supervisions[0].speaker for cut in load_cuts(folder, split)}


def test_mini_tests_on_its_dev_part_and_takes_dev_from_training_speakers(mini: Path, tmp_path: Path) -> None:
    prepared = prepare("mini_librispeech", mini, tmp_path / "out", {"dev_share": 0.25}, seed=3)
    assert prepared.counts == {"train": 9, "dev": 3, "test": 6}
    assert prepared.details["dev_cut_from_train"] == "by speakers"
    assert prepared.details["parts"] == {
        "train": {"train-clean-5": 9}, "dev": {"train-clean-5": 3}, "test": {"dev-clean-2": 6},
    }  # fmt: skip
    assert speakers(tmp_path / "out", "test") == {"50", "51"}
    assert speakers(tmp_path / "out", "dev") | speakers(tmp_path / "out", "train") == {"10", "11", "12", "13"}
    assert not speakers(tmp_path / "out", "dev") & speakers(tmp_path / "out", "train")
    again = prepare_mini_librispeech(mini, tmp_path / "out", dev_share=0.25, seed=3)
    assert again == prepared
    with pytest.raises(DataError, match=r"seed=3, now seed=4"):
        prepare_mini_librispeech(mini, tmp_path / "out", dev_share=0.25, seed=4)


def test_cuts_are_those_of_lhotses_recipe_in_lower_case(mini: Path, tmp_path: Path) -> None:
    prepare_mini_librispeech(mini / "LibriSpeech", tmp_path / "out")
    expected = lhotse_recipe(mini / "LibriSpeech", dataset_parts="dev-clean-2")["dev-clean-2"]
    cuts = {cut.id: cut for cut in load_cuts(tmp_path / "out", "test")}
    assert cuts.keys() == {segment.id for segment in expected["supervisions"]}
    for segment in expected["supervisions"]:
        cut, recording = cuts[segment.id], expected["recordings"][segment.recording_id]
        assert cut.supervisions[0].text == segment.text.lower() and cut.supervisions[0].speaker == segment.speaker
        assert (cut.recording.id, cut.duration) == (recording.id, recording.duration)
        assert Path(cut.recording.sources[0].source) == Path(recording.sources[0].source)


def test_batches_of_a_prepared_corpus(mini: Path, tmp_path: Path) -> None:
    prepare_mini_librispeech(mini, tmp_path / "out")
    texts = [cut.supervisions[0].text for cut in load_cuts(tmp_path / "out", "train")]
    tokenizer = Tokenizer(train_tokenizer(texts, kind="char", vocabulary=20))
    module = SpeechDataModule(
        tmp_path / "out", tokenizer, config=DataConfig(max_duration=2.0, buckets=2, speeds=(0.9, 1.0))
    )
    batches = list(module.train_dataloader())
    counts = Counter(id for batch in batches for id in batch["ids"])
    assert len(counts) == 2 * len(texts) and set(counts.values()) == {1}
    assert {text for batch in batches for text in batch["texts"]} == {text.lower() for text in TEXTS}
    assert all(batch["features"].shape[2] == 80 for batch in batches)
    assert {cut.custom["part"] for cut in module.cuts("test")} == {"dev-clean-2"}


def test_the_full_corpus_takes_the_training_parts_that_are_there(full: Path, tmp_path: Path) -> None:
    prepared = prepare_librispeech(full, tmp_path / "out")
    assert prepared.details["parts"] == {
        "train": {"train-clean-100": 3, "train-other-500": 3},
        "dev": {"dev-clean": 3, "dev-other": 3},
        "test": {"test-clean": 3, "test-other": 3},
    }
    parts = {cut.supervisions[0].speaker: cut.custom["part"] for cut in load_cuts(tmp_path / "out", "test")}
    assert parts == {"40": "test-clean", "50": "test-other"}
    options = {"train_parts": "train-clean-100", "dev_parts": ["dev-clean"], "test_parts": "test-other,dev-other"}
    chosen = prepare("librispeech", full.parent, tmp_path / "few", options)
    assert chosen.options["train_parts"] == ["train-clean-100"]
    assert chosen.counts == {"train": 3, "dev": 3, "test": 6}
    with pytest.raises(DataError, match="prepared with dev_parts"):
        prepare_librispeech(full.parent, tmp_path / "few", train_parts="train-clean-100")


def spoil(folder: Path) -> dict[str, str]:
    """Damage speaker 10's chapter; id to the reason expected."""
    chapter = folder / "train-clean-5" / "10" / "77"
    (chapter / "10-77-0000.flac").unlink()
    (chapter / "10-77-0001.flac").write_bytes(b"no audio")
    whole = (chapter / "10-77-0002.flac").read_bytes()
    (chapter / "10-77-0002.flac").write_bytes(whole[: len(whole) // 2])  # the header is good, the end is missing
    tone(chapter / "10-77-0003.flac")
    transcript = chapter / "10-77.trans.txt"
    transcript.write_text(transcript.read_text() + "\n10-77-0003  \n10-77\n")
    return {
        "10-77-0000": "no such audio file in train-clean-5",
        "10-77-0001": "the audio is not readable",
        "10-77-0002": "10-77-0002.flac",
        "10-77-0003": "the transcript is empty",
        "10-77": "the transcript is empty",
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread.*")  # what lhotse tries on a damaged file
def test_what_cannot_be_used_is_named_and_skipped(mini: Path, tmp_path: Path) -> None:
    expected = spoil(mini / "LibriSpeech")
    prepared = prepare_mini_librispeech(mini, tmp_path / "out")
    found = {item.id: item.reason for item in prepared.skipped}
    assert found.keys() == expected.keys()
    assert all(reason in found[id] for id, reason in expected.items())
    assert prepared.counts["train"] + prepared.counts["dev"] == 9
    with pytest.raises(DataError, match=r"10-77-0000: no such audio file in train-clean-5 \(refused by --strict\)"):
        prepare_mini_librispeech(mini, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict" / "prepared.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected the folders train-clean-100 or train-clean-360 or train-other-500, dev-other; found dev-clean"),
        ({"train_parts": "train-clean-100"}, "expected the folders train-clean-100, dev-other; found dev-clean"),
    ],
)
def test_missing_folders_are_named(full: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    for name in ("train-clean-100", "train-other-500", "dev-other"):
        (full / name).rename(full / f"no-{name}")
    with pytest.raises(DataError, match=message):
        prepare_librispeech(full, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_sources_that_are_not_the_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        prepare_mini_librispeech(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="expected the folders train-clean-5, dev-clean-2; found none"):
        prepare_mini_librispeech(tmp_path, tmp_path / "out")
    for name in ("train-clean-5", "dev-clean-2"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"train-clean-5: expected SPEAKER/CHAPTER.*found no transcripts"):
        prepare_mini_librispeech(tmp_path, tmp_path / "out")


def test_a_transcript_that_is_no_text_is_named(mini: Path, tmp_path: Path) -> None:
    path = mini / "LibriSpeech" / "dev-clean-2" / "50" / "77" / "50-77.trans.txt"
    path.write_bytes(b"50-77-0000 \xff\xfe\n")
    with pytest.raises(DataError, match=r"50-77\.trans\.txt: not readable as UTF-8"):
        prepare_mini_librispeech(mini, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_parts": "train-clean-10"}, "did you mean 'train-clean-100'"),
        ({"test_parts": ["dev-clean"]}, "'dev-clean' is chosen twice"),
        ({"dev_parts": 3}, "dev_parts must be a list of names, found 3"),
    ],
)
def test_options_are_checked(full: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare("librispeech", full, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
