import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sottovoce.cli.data import app, parse_settings
from sottovoce.decoding.nbest_files import read_nbest
from sottovoce.errors import ConfigError

sys.path.append(str(Path(__file__).parents[1] / "data"))
from corpus_files import digits_corpus


def test_prepare_fills_the_folder_and_tells_the_counts(tmp_path: Path) -> None:
    source = digits_corpus(tmp_path / "fsdd")
    (source / "recordings" / "3_ann_0.wav").write_text("no audio")
    arguments = ["prepare", "fsdd", "--source", str(source), "--out", str(tmp_path / "out"), "--set", "train_strings=3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "skipped 3_ann_0.wav" in result.output and "skipped in all: 1" in result.output
    assert (tmp_path / "out" / "prepared.json").exists()


def test_a_mistake_is_left_to_the_main_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "nothing", "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ConfigError)


def test_confuse_writes_lists_at_the_noise_of_an_error_rate(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: no pronunciations")
    text = tmp_path / "text"
    text.mkdir()
    for split, count in (("train", 40), ("dev", 20)):
        lines = [
            f"the cat {'sat' if i % 2 else 'had'} on a {'mat' if i % 3 else 'bat'} in the fog\n" for i in range(count)
        ]
        (text / f"{split}.txt").write_text("".join(lines))
    arguments = [
        "confuse",
        "text",
        "--source",
        str(text),
        "--out",
        str(tmp_path / "out"),
        "--wer",
        "30",
        "--nbest",
        "4",
    ]
    result = CliRunner().invoke(app, [*arguments, "--lattices", "slf", "--utterances", "12"])
    assert result.exit_code == 0, result.output
    found = re.search(
        r"noise (\S+), WER (\S+) % \(30 asked for\), oracle (\S+) %, 12 utterances, 108 words", result.output
    )
    assert found is not None and float(found[2]) == pytest.approx(30, abs=8) and float(found[3]) < float(found[2])
    assert len(read_nbest(tmp_path / "out" / "nbest.jsonl")) == len(list((tmp_path / "out" / "slf").iterdir())) == 12
    again = ["confuse", "text", "--source", str(text), "--out", str(tmp_path / "test"), "--noise", found[1]]
    assert CliRunner().invoke(app, again).exit_code == 0
    both = CliRunner().invoke(app, [*again, "--wer", "30"])
    assert isinstance(both.exception, ConfigError) and "either wer or noise" in str(both.exception)


def test_help_shows_examples() -> None:
    assert "sottovoce data prepare synth" in CliRunner().invoke(app, ["prepare", "--help"]).output


def test_settings_are_yaml_values() -> None:
    found = parse_settings(["train=30", "snr_db=[0, 20]", "split=official", "test_speakers=[a, b]"])
    assert found == {"train": 30, "snr_db": [0, 20], "split": "official", "test_speakers": ["a", "b"]}
    for bad in ("train", "=3", "a=[1"):
        with pytest.raises(ConfigError, match="--set"):
            parse_settings([bad])
