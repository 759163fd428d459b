import json
from pathlib import Path

import pytest
from corpus_files import tiny_prepared, tone

from sottovoce.data.checks import Skipped
from sottovoce.data.entries import make_cut
from sottovoce.data.prepared import begin, finish, load_cuts, load_prepared
from sottovoce.errors import DataError


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options = {"seed": 3, "snr_db": (0.0, 10.0), "source": tmp_path}
    assert begin(folder, "mine", options) is None
    cut = make_cut("a", tone(folder / "audio" / "a.wav"), 8_000, 16_000, "one  two", "ann")
    skipped = [Skipped("b", "empty")]
    made = finish(folder, "mine", options, {"train": [cut], "dev": [cut], "test": [cut, cut]}, skipped, {"more": 1})
    assert load_prepared(folder) == made
    assert made.words == {"train": 2, "dev": 2, "test": 4}
    assert made.skipped == (Skipped("b", "empty"),)
    assert [c.supervisions[0].text for c in load_cuts(folder, "test")] == ["one two", "one two"]
    assert begin(folder, "mine", options) == made


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 2, 1)
    with pytest.raises(DataError, match=r"seed=None, now seed=1 is asked for; choose another --out"):
        begin(folder, "tiny", {"seed": 1})
    with pytest.raises(DataError, match="prepared as 'tiny', now 'fsdd'"):
        begin(folder, "fsdd", {})


def test_an_interrupted_preparation_starts_again_cleanly(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    begin(folder, "tiny", {})
    tone(folder / "audio" / "left.wav")
    (folder / "train.jsonl.gz").write_bytes(b"half")
    assert begin(folder, "tiny", {"seed": 1}) is None
    assert not (folder / "audio" / "left.wav").exists()
    assert not (folder / "train.jsonl.gz").exists()


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    other = tone(tmp_path / "audio" / "mine.wav")
    with pytest.raises(DataError, match="not empty and not ours"):
        begin(tmp_path, "tiny", {})
    assert other.exists()
    with pytest.raises(DataError, match="found a file"):
        begin(other, "tiny", {})


def test_a_split_without_utterances_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "out", "tiny", {})
    with pytest.raises(DataError, match="no usable utterances for train"):
        finish(tmp_path / "out", "tiny", {}, {})
    assert not (tmp_path / "out" / "prepared.json").exists()


def test_folders_that_are_not_prepared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared data folder"):
        load_prepared(tmp_path)
    marker = tmp_path / "prepared.json"
    for content, message in (
        ("{", "JSON"),
        ("[]", "object"),
        ('{"version": 9}', "version 1"),
        ('{"version": 1}', "not as"),
    ):
        marker.write_text(content)
        with pytest.raises(DataError, match=message):
            load_prepared(tmp_path)
    folder = tiny_prepared(tmp_path / "out", 2, 1)
    with pytest.raises(DataError, match="no split 'dev2'"):
        load_cuts(folder, "dev2")
    assert json.loads((folder / "prepared.json").read_text())["counts"] == {"train": 2, "dev": 1, "test": 1}
