from pathlib import Path

import numpy as np
import pytest
from an4_files import EACH, TEST, TRAIN, an4_corpus, cepstra, write_mfc

from sottovoce.data.corpora.an4 import person, prepare_an4
from sottovoce.data.corpora.sphinx import read_mfc, read_transcription
from sottovoce.data.features import load_features
from sottovoce.data.prepared import SPLITS, load_cuts
from sottovoce.errors import ConfigError, DataError

FIRST = "feat/an4_clstk/fash/an0-fash-b.mfc"


@pytest.mark.parametrize(("order", "marks"), [(">", False), ("<", True)])
def test_cepstra_become_cuts_without_recordings(tmp_path: Path, order: str, marks: bool) -> None:
    prepared = prepare_an4(an4_corpus(tmp_path / "an4", order=order, marks=marks), tmp_path / "out", dev_share=0.2)
    assert prepared.details["input"] == {"kind": "features", "dim": 13, "rate": 100.0}
    assert prepared.counts["train"] + prepared.counts["dev"] == EACH * len(TRAIN)
    assert prepared.counts["test"] == EACH * len(TEST) and not prepared.skipped
    for split in SPLITS:
        for cut in load_cuts(tmp_path / "out", split):
            assert not cut.has_recording
            assert np.array_equal(load_features(cut), cepstra(cut.id))
            assert cut.duration == pytest.approx(len(cepstra(cut.id)) / 100)
    first = next(cut for cut in load_cuts(tmp_path / "out", "test") if cut.id == "an1-mdms2-b")
    assert (first.supervisions[0].text, first.supervisions[0].speaker) == ("no go", "mdms2")


def test_dev_persons_are_not_in_train_whichever_they_are(tmp_path: Path) -> None:
    source = an4_corpus(tmp_path / "an4")
    pairs = []
    for seed in range(8):
        prepared = prepare_an4(source, tmp_path / f"out{seed}", seed=seed, dev_share=0.15)
        speakers = prepared.details["speakers"]
        assert not {person(name) for name in speakers["dev"]} & {person(name) for name in speakers["train"]}
        assert sorted(speakers["dev"] + speakers["train"]) == sorted(TRAIN)
        pairs.append({"mdcs", "mdcs2"} <= set(speakers["dev"]))
    assert True in pairs and False in pairs
    assert person("mdcs2") == person("mdcs") == "mdcs" and person("7") == "7"


def test_recordings_go_first_unless_cepstra_are_asked_for(tmp_path: Path) -> None:
    source = an4_corpus(an4_corpus(tmp_path / "an4"), kind="wav")
    prepared = prepare_an4(source, tmp_path / "wav")
    assert prepared.details["read"] == "wav" and "input" not in prepared.details
    assert all(cut.has_recording for cut in load_cuts(tmp_path / "wav", "train"))
    assert prepare_an4(source, tmp_path / "mfc", audio="mfc").details["read"] == "mfc"


def test_the_first_release_s_sphere_files_are_read(tmp_path: Path) -> None:
    prepared = prepare_an4(an4_corpus(tmp_path / "an4", kind="sph"), tmp_path / "out")
    assert prepared.details["read"] == "wav" and not prepared.skipped


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: write_mfc(path, cepstra("x"), count=7), "counts 7 values, and"),
        (lambda path: write_mfc(path, np.zeros(27, np.float32)), "frames of 13 values expected, found 27"),
        (lambda path: write_mfc(path, np.zeros(0, np.float32)), "found 0 values"),
        (lambda path: write_mfc(path, np.full((9, 13), np.nan, np.float32)), "not finite"),
        (lambda path: write_mfc(path, np.zeros((2, 13), np.float32)), "only 20 ms"),
        (lambda path: path.write_bytes(b"\0\0"), "counts"),
        (lambda path: path.unlink(), "no such feature file"),
    ],
)
def test_damaged_cepstra_are_skipped_or_refused(tmp_path: Path, damage, reason: str) -> None:
    source = an4_corpus(tmp_path / "an4")
    damage(source / FIRST)
    prepared = prepare_an4(source, tmp_path / "out")
    (skipped,) = prepared.skipped
    assert skipped.id == "an0-fash-b" and reason in skipped.reason
    with pytest.raises(DataError, match="an0-fash-b"):
        prepare_an4(source, tmp_path / "strict", strict=True)


def test_lists_that_do_not_match_are_told(tmp_path: Path) -> None:
    source = an4_corpus(tmp_path / "an4")
    lines = source / "etc" / "an4_train.transcription"
    texts = lines.read_text().splitlines()
    lines.write_text("\n".join(["GO (an9-nobody-b)", *texts[1:]]))
    reasons = {item.id: item.reason for item in prepare_an4(source, tmp_path / "out").skipped}
    assert reasons == {
        "an0-fash-b": "mismatched: no line in an4_train.transcription",
        "an9-nobody-b": "mismatched: no line in an4_train.fileids",
    }
    ids = source / "etc" / "an4_test.fileids"
    ids.write_text(ids.read_text() + ids.read_text().splitlines()[0] + "\n")
    assert "the id occurs twice" in prepare_an4(source, tmp_path / "twice").skipped[-1].reason


def test_a_malformed_transcription_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.transcription"
    for text, message in (("GO (a)\nGO\n", "line 2: 'WORD WORD"), ("GO (a)\n\nNO (a)", "line 3: 'a' occurs twice")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_transcription(path)
    path.write_text("<s> OH <sil> ONE </s> (an1)\n<s> </s> (an2)\n")
    assert read_transcription(path) == {"an1": "OH ONE", "an2": ""}


def test_bad_options_and_sources_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = an4_corpus(tmp_path / "an4")
    with pytest.raises(ConfigError, match=r"audio must be one of auto, wav, mfc, found 'flac'"):
        prepare_an4(source, tmp_path / "out", audio="flac")
    with pytest.raises(DataError, match="wav/an4_clstk expected"):
        prepare_an4(source, tmp_path / "out", audio="wav")
    with pytest.raises(DataError, match=r"no AN4 here \(etc/an4_train.fileids"):
        prepare_an4(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_an_interrupted_preparation_left_is_removed(tmp_path: Path) -> None:
    source, out = an4_corpus(tmp_path / "an4"), tmp_path / "out"

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_an4(source, out, progress=interrupt)
    stale = out / "arrays" / "stale.npy"
    stale.write_bytes(b"")
    prepared = prepare_an4(source, out)
    assert not stale.exists() and len(list((out / "arrays").rglob("*.npy"))) == sum(prepared.counts.values())
    assert prepare_an4(source, out) == prepared


def test_both_byte_orders_give_the_same_values(tmp_path: Path) -> None:
    for order in ("<", ">"):
        found = read_mfc(write_mfc(tmp_path / "x.mfc", cepstra("x"), order), 13)
        assert found.dtype == np.float32 and np.array_equal(found, cepstra("x"))
