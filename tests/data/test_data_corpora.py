import json
from pathlib import Path

import pytest
from corpus_files import tone

from sottovoce.data.corpora.kaldi import prepare_kaldi
from sottovoce.data.corpora.tables import prepare_table
from sottovoce.data.prepared import load_cuts
from sottovoce.errors import DataError


def kaldi_folder(folder: Path, speakers: int = 4, each: int = 3) -> Path:
    lines: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for speaker in range(speakers):
        for number in range(each):
            id = f"s{speaker}-{number}"
            lines["wav.scp"].append(f"{id} {tone(folder / 'audio' / f'{id}.wav').absolute()}")
            lines["text"].append(f"{id} one two")
            lines["utt2spk"].append(f"{id} s{speaker}")
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    return folder


def speakers_of(folder: Path, split: str) -> set[str]:
    return {cut.supervisions[0].speaker for cut in load_cuts(folder, split)}


def test_a_single_kaldi_folder_is_split_by_speakers(tmp_path: Path) -> None:
    prepared = prepare_kaldi(kaldi_folder(tmp_path / "data"), tmp_path / "out")
    parts = [speakers_of(tmp_path / "out", split) for split in ("train", "dev", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 4
    assert sum(prepared.counts.values()) == 12
    assert prepared.details["dev_cut_from_train"] == "by speakers"


def test_kaldi_folders_of_splits_and_segments_are_read(tmp_path: Path) -> None:
    source = tmp_path / "data"
    for split in ("train", "dev", "test"):
        kaldi_folder(source / split, 1, 1)
    long = tone(source / "dev" / "long.wav", 3.0, 8_000)
    (source / "dev" / "wav.scp").write_text(f"rec {long.name}\n")
    (source / "dev" / "segments").write_text("a rec 0.5 1.25\nb rec 2 -1\n")
    (source / "dev" / "text").write_text("a one\nb two\n")
    (source / "dev" / "utt2spk").write_text("a x\nb y\n")
    prepared = prepare_kaldi(source, tmp_path / "out")
    assert prepared.counts == {"train": 1, "dev": 2, "test": 1}
    cuts = list(load_cuts(tmp_path / "out", "dev"))
    assert [(c.id, c.start, c.duration, c.sampling_rate) for c in cuts] == [("a", 0.5, 0.75, 8_000), ("b", 2, 1, 8_000)]


def spoil(folder: Path) -> dict[str, str]:
    """Damage six utterances of a Kaldi folder; id to the reason expected."""
    (folder / "audio" / "s0-0.wav").write_text("no audio")
    (folder / "audio" / "s0-1.wav").write_bytes((folder / "audio" / "s0-1.wav").read_bytes()[:44])
    (folder / "audio" / "s0-2.wav").unlink()
    text = (folder / "text").read_text()
    text = text.replace("s1-0 one two", "s1-0").replace("s1-1 one two", f"s1-1 {'long words ' * 30}")
    (folder / "text").write_text(text.replace("s1-2 one two\n", "") + "s9-9 nowhere\n")
    return {
        "s0-0": "not readable",
        "s0-1": "empty",
        "s0-2": "no such audio file",
        "s1-0": "transcript is empty",
        "s1-1": "mismatched: 270 letters",
        "s1-2": "no line in text",
        "s9-9": "no audio",
    }


def test_unusable_utterances_are_named_and_skipped(tmp_path: Path) -> None:
    expected = spoil(kaldi_folder(tmp_path / "data", 6))
    prepared = prepare_kaldi(tmp_path / "data", tmp_path / "out", dev_share=0.3, test_share=0.3)
    found = {item.id: item.reason for item in prepared.skipped}
    assert found.keys() == expected.keys()
    for id, reason in expected.items():
        assert reason in found[id]
    assert sum(prepared.counts.values()) == 18 - 6


def test_strict_refuses_them_and_leaves_nothing_complete(tmp_path: Path) -> None:
    spoil(kaldi_folder(tmp_path / "data"))
    with pytest.raises(DataError, match="refused by --strict"):
        prepare_kaldi(tmp_path / "data", tmp_path / "out", strict=True)
    assert not (tmp_path / "out" / "prepared.json").exists()


def test_commands_in_wav_scp_are_refused(tmp_path: Path) -> None:
    source = kaldi_folder(tmp_path / "data")
    (source / "wav.scp").write_text("s0-0 sph2pipe -f wav a.sph |\n")
    with pytest.raises(DataError, match=r"wav.scp: s0-0 is a command"):
        prepare_kaldi(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", None, "text: missing"),
        ("segments", "a s0-0 zero 1\n", "a expects 'recording start end'"),
        ("text", "a x\na y\n", "line 2: 'a' occurs twice"),
    ],
)
def test_malformed_kaldi_files_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    source = kaldi_folder(tmp_path / "data")
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_text(content)
    with pytest.raises(DataError, match=message):
        prepare_kaldi(source, tmp_path / "out")


def test_a_folder_without_kaldi_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Kaldi data"):
        prepare_kaldi(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no such file or folder"):
        prepare_kaldi(tmp_path / "nowhere", tmp_path / "out")


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        header = list(rows[0])
        path.write_text("\n".join("\t".join(line) for line in [header, *[[r[k] for k in header] for r in rows]]))
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_tables_are_read_one_a_split_or_with_a_split_column(tmp_path: Path, suffix: str) -> None:
    rows = []
    for number, split in enumerate(["train", "train", "validation", "test"]):
        audio = tone(tmp_path / "t" / f"{number}.wav").name
        rows.append({"path": audio, "text": f"word {number}", "speaker": f"s{number}", "split": split})
    one = prepare_table(table(tmp_path / "t" / f"all{suffix}", rows), tmp_path / "one")
    assert one.counts == {"train": 2, "dev": 1, "test": 1}
    for split, part in (("train", rows[:2]), ("dev", rows[2:3]), ("test", rows[3:])):
        kept = [{"audio": row["path"], "text": row["text"]} for row in part]
        table(tmp_path / "t" / f"{split}{suffix}", kept)
    many = prepare_table(tmp_path / "t", tmp_path / "many")
    assert many.counts == one.counts
    assert next(iter(load_cuts(tmp_path / "many", "test"))).supervisions[0].text == "word 3"


def test_a_duration_that_the_audio_does_not_have_is_a_mismatch(tmp_path: Path) -> None:
    rows = [
        {
            "audio": tone(tmp_path / f"{n}.wav").name,
            "text": "one",
            "duration": "2.0" if n == 0 else "0.5",
            "split": split,
        }
        for n, split in enumerate(["train", "train", "dev", "test"])
    ]
    prepared = prepare_table(table(tmp_path / "all.tsv", rows), tmp_path / "out")
    assert [item.reason for item in prepared.skipped] == ["mismatched: the manifest says 2 s, the audio has 0.50 s"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "file\ttext\n", "a header with the columns"),
        ("a.tsv", "audio\ttext\na.wav\n", "line 2: 2 columns expected, found 1"),
        ("a.tsv", "audio\ttext\tsplit\na.wav\tx\teval\n", "line 2: split must be one of"),
        ("a.jsonl", '{"audio": "a.wav"}\n', "line 1: audio"),
        ("a.jsonl", "{}\n{", "line 1|line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: a JSON object expected"),
        ("a.csv", "audio,text\n", r"a \.tsv or \.jsonl file expected"),
    ],
)
def test_malformed_tables_are_refused_with_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        prepare_table(path, tmp_path / "out")


def test_files_of_one_name_in_several_folders_are_several_recordings(tmp_path: Path) -> None:
    """Numbered files for each speaker: utterances of one recording are one cluster, and follow one another."""
    rows = ["id\taudio\ttext\tspeaker\tsplit"]
    names = [f"{speaker}/{number:03d}" for speaker in ("ann", "bob") for number in range(3)] + ["ann/own"]
    for split in ("train", "dev", "test"):
        for name in names:
            tone(tmp_path / split / f"{name}.wav")
            rows.append(f"{split}-{name}\t{split}/{name}.wav\tone two\t{split} {name[:3]}\t{split}")
    (tmp_path / "all.tsv").write_text("\n".join(rows) + "\n")
    prepare_table(tmp_path / "all.tsv", tmp_path / "out")
    for split in ("train", "dev", "test"):
        found = {cut.id: cut.recording_id for cut in load_cuts(tmp_path / "out", split)}
        assert found.pop(f"{split}-ann/own") == "own"
        assert found == {f"{split}-{name}": f"{name}.wav" for name in names[:-1]}
