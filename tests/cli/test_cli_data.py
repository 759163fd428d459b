import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sottovoce.cli.data import app, parse_settings
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


def test_help_shows_examples() -> None:
    assert "sottovoce data prepare synth" in CliRunner().invoke(app, ["prepare", "--help"]).output


def test_settings_are_yaml_values() -> None:
    found = parse_settings(["train=30", "snr_db=[0, 20]", "split=official", "test_speakers=[a, b]"])
    assert found == {"train": 30, "snr_db": [0, 20], "split": "official", "test_speakers": ["a", "b"]}
    for bad in ("train", "=3", "a=[1"):
        with pytest.raises(ConfigError, match="--set"):
            parse_settings([bad])
