import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_files import WORDS, digits_corpus

from sottovoce.data.corpora.fsdd import Recording, _split, join, prepare_fsdd
from sottovoce.data.prepared import load_cuts
from sottovoce.errors import ConfigError, DataError


def words(folder: Path, split: str) -> Counter[tuple[str, str]]:
    """How often each speaker says each word."""
    cuts = load_cuts(folder, split)
    return Counter((c.supervisions[0].speaker, w) for c in cuts for w in c.supervisions[0].text.split())


def test_by_default_the_last_speaker_is_the_test_and_each_recording_is_used_once(tmp_path: Path) -> None:
    source = digits_corpus(tmp_path / "fsdd", ("ann", "bob", "cat", "dan"), 3)
    prepared = prepare_fsdd(source, tmp_path / "out", train_strings=20)
    assert prepared.details["speakers"] == {"train": ["ann", "bob"], "dev": ["cat"], "test": ["dan"]}
    for split, speaker in (("test", "dan"), ("dev", "cat")):
        assert words(tmp_path / "out", split) == {(speaker, word): 3 for word in WORDS}
    assert prepared.counts["train"] == 20
    lengths = [len(c.supervisions[0].text.split()) for c in load_cuts(tmp_path / "out", "train")]
    assert min(lengths) >= 1 and max(lengths) <= 7 and len(set(lengths)) > 3


def test_named_speakers_are_held_out(tmp_path: Path) -> None:
    source = digits_corpus(tmp_path / "fsdd", ("ann", "bob", "cat", "dan"), 1)
    options = {"test_speakers": "ann, bob", "dev_speakers": ["dan"]}
    prepared = prepare_fsdd(source / "recordings", tmp_path / "out", train_strings=5, **options)
    assert prepared.details["speakers"] == {"train": ["cat"], "dev": ["dan"], "test": ["ann", "bob"]}
    assert set(words(tmp_path / "out", "test").values()) == {1}


def test_the_official_split_goes_by_index_and_says_that_speakers_are_shared(tmp_path: Path) -> None:
    source = digits_corpus(tmp_path / "fsdd", ("ann", "bob"), 12)
    prepared = prepare_fsdd(source, tmp_path / "out", split="official", train_strings=5)
    assert prepared.details["speakers_shared_between_splits"] is True
    assert prepared.details["recordings"] == {"train": 40, "dev": 100, "test": 100}
    assert words(tmp_path / "out", "test") == {(name, word): 5 for name in ("ann", "bob") for word in WORDS}


@pytest.mark.parametrize(("test", "recordings"), [(None, 1), ("ann, cat", 2)])
def test_recordings_of_the_training_speakers_can_be_dev(tmp_path: Path, test: str | None, recordings: int) -> None:
    source = digits_corpus(tmp_path / "fsdd", ("ann", "bob", "cat", "dan"), 3)
    options = {"test_speakers": test, "dev_recordings": recordings, "train_strings": 60}
    prepared = prepare_fsdd(source, tmp_path / "out", **options)  # type: ignore[arg-type]
    held_out = test.split(", ") if test else ["dan"]
    rest = [name for name in ("ann", "bob", "cat", "dan") if name not in held_out]
    assert prepared.details["speakers"] == {"train": rest, "dev": rest, "test": held_out}
    assert words(tmp_path / "out", "dev") == {(name, word): recordings for name in rest for word in WORDS}
    assert words(tmp_path / "out", "test") == {(name, word): 3 for name in held_out for word in WORDS}
    assert {speaker for speaker, _ in words(tmp_path / "out", "train")} == set(rest)


def test_no_recording_is_in_dev_and_in_train() -> None:
    recordings = [
        Recording(digit, name, index, np.zeros(1, np.float32))
        for digit in range(10)
        for name in ("ann", "bob", "cat")
        for index in (7, 3, 11, 5)
    ]
    parts = _split(recordings, {"split": "speakers", "dev_recordings": 2, "test_speakers": ("bob",)})
    names = {split: {(r.digit, r.speaker, r.index) for r in found} for split, found in parts.items()}
    every = [(digit, name) for digit in range(10) for name in ("ann", "cat")]
    assert names["dev"] == {(*pair, index) for pair in every for index in (3, 5)}  # the first by index
    assert names["train"] == {(*pair, index) for pair in every for index in (7, 11)}
    assert names["test"] == {(digit, "bob", index) for digit in range(10) for index in (3, 5, 7, 11)}


def audio_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.flac")}


def test_the_seed_decides_the_audio_bit_for_bit(tmp_path: Path) -> None:
    source = digits_corpus(tmp_path / "fsdd")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare_fsdd(source, tmp_path / name, train_strings=6, seed=seed)
    assert audio_bytes(tmp_path / "a") == audio_bytes(tmp_path / "b") != audio_bytes(tmp_path / "c")


def test_the_audio_is_16_khz_and_as_long_as_the_manifest_says(tmp_path: Path) -> None:
    prepare_fsdd(digits_corpus(tmp_path / "fsdd"), tmp_path / "out", train_strings=6)
    for cut in load_cuts(tmp_path / "out", "train"):
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.samplerate, info.frames) == (16_000, cut.num_samples)


def test_joining_puts_pauses_between_recordings() -> None:
    loud, quiet = (Recording(1, "ann", i, np.full(1_600, x, np.float32)) for i, x in enumerate((0.2, 0.01)))
    samples = join([loud, quiet, loud], 1.0, (0,))
    active = np.abs(samples) > 0.015
    starts = np.flatnonzero(np.diff(active.astype(int)) == 1)
    ends = np.flatnonzero(np.diff(active.astype(int)) == -1)
    assert len(starts) == len(ends) == 3
    pauses = (starts[1:] - ends[:-1]) / 16_000
    assert ((pauses >= 0.029) & (pauses <= 0.401)).all()
    levels = [np.median(samples[a + 10 : b - 10]) for a, b in zip(starts, ends, strict=True)]
    common = 10 ** (-26 / 20)  # every recording is brought to it, however loud it was, and then varied by 6 dB
    assert all(common / 2.05 < level < common * 2.05 for level in levels) and len(set(levels)) == 3
    assert len(join([loud], 0.5, (0,))) - len(join([loud], 1.0, (0,))) == 1_600


def test_damaged_recordings_are_skipped_or_refused(tmp_path: Path) -> None:
    source = digits_corpus(tmp_path / "fsdd")
    (source / "recordings" / "3_ann_0.wav").write_bytes(b"RIFF")
    prepared = prepare_fsdd(source, tmp_path / "out", train_strings=5)
    assert [item.id for item in prepared.skipped] == ["3_ann_0.wav"]
    with pytest.raises(DataError, match=r"3_ann_0\.wav"):
        prepare_fsdd(source, tmp_path / "strict", train_strings=5, strict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "'speakers' or 'official'"),
        ({"test_speakers": ["eve"]}, "no speaker 'eve'; found ann, bob, cat"),
        ({"test_speakers": ["ann"], "dev_speakers": ["ann"]}, "cannot be in test and dev"),
        ({"test_speakers": ["ann"], "split": "official"}, "goes by index"),
        ({"dev_recordings": 1, "dev_speakers": ["ann"]}, "leave out dev_speakers and 'official'"),
        ({"dev_recordings": 1, "split": "official"}, "leave out dev_speakers and 'official'"),
        ({"dev_recordings": 1, "test_speakers": ["eve"]}, "no speaker 'eve'; found ann, bob, cat"),
        ({"dev_recordings": -1}, "dev_recordings"),
        ({"train_strings": 0}, "train_strings"),
        ({"speeds": [0.1]}, "speeds"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_fsdd(digits_corpus(tmp_path / "fsdd", indexes=1), tmp_path / "out", **options)  # type: ignore[arg-type]


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files named"):
        prepare_fsdd(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no speaker is left"):
        prepare_fsdd(digits_corpus(tmp_path / "fsdd", ("ann", "bob"), 1), tmp_path / "out")


@pytest.mark.real
@pytest.mark.skipif("SOTTOVOCE_DATA" not in os.environ, reason="SOTTOVOCE_DATA is not set: no real speech")
def test_the_real_corpus_is_prepared(tmp_path: Path) -> None:
    prepared = prepare_fsdd(Path(os.environ["SOTTOVOCE_DATA"]) / "fsdd", tmp_path / "out", train_strings=50)
    assert not prepared.skipped
    assert set(words(tmp_path / "out", "test").values()) == {50}
    assert prepared.words["test"] == prepared.details["recordings"]["test"] == 500
