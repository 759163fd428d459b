"""``transcribe`` and ``inspect`` on small random models."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from sottovoce.cli.inspect import inspect, snr_db
from sottovoce.cli.tensor_table import TensorRow, tensor_lines
from sottovoce.cli.transcribe import transcribe
from sottovoce.errors import ConfigError, FormatError, SottovoceError
from sottovoce.ngram import Vocabulary as NgramVocabulary
from sottovoce.ngram import save_ngram, train_kneser_ney
from sottovoce.runtime import Recognizer

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
app = typer.Typer()
app.command()(transcribe)
app.command()(inspect)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tiny["speaking_model"]().save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings of different formats and rates, one in a subfolder, beside a file that is no audio."""
    folder = tmp_path / "speech"
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(folder / "b.flac", 0.3 * rng.normal(size=(8_000, 2)), 8_000)
    soundfile.write(folder / "deeper" / "a.wav", 0.3 * rng.normal(size=16_000), 16_000)
    (folder / "notes.txt").write_text("not audio")
    return folder


def run(*arguments: object) -> list[str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, SottovoceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_a_language_model_in_the_beam(model: Path, folder: Path, tmp_path: Path) -> None:
    sentences = [["one", "two"], ["five", "six"]] * 3
    vocabulary = NgramVocabulary.of(["one", "two", "five", "six"])
    save_ngram(tmp_path / "lm.arpa", train_kneser_ney(vocabulary.encode(sentences), vocabulary, 2)[0])
    file, lm = folder / "deeper" / "a.wav", tmp_path / "lm.arpa"
    options = ("--method", "beam", "--lm", lm, "--lm-weight", 2, "--internal-lm-weight", 0.25, "--json")
    found = json.loads(run("transcribe", model, file, *options)[0])
    samples, rate = soundfile.read(file, dtype="float32")
    recognizer = Recognizer(model, method="beam", lm=lm, lm_weight=2.0, internal_lm_weight=0.25)
    wanted = recognizer.transcribe(samples, rate)
    assert (found["text"], found["score"]) == (wanted.text, round(wanted.score, 6))
    assert wanted.score != Recognizer(model, method="beam").transcribe(samples, rate).score
    with pytest.raises(ConfigError, match="a language model needs a beam search"):
        run("transcribe", model, file, "--lm", lm)


def test_a_folder_is_transcribed_file_by_file(model: Path, folder: Path) -> None:
    lines = [line.split("\t") for line in run("transcribe", model, folder)]
    assert [name for name, _ in lines] == [str(folder / "b.flac"), str(folder / "deeper" / "a.wav")]
    samples, rate = soundfile.read(folder / "deeper" / "a.wav", dtype="float32")
    assert lines[1][1] == Recognizer(model).transcribe(samples, rate).text


def test_nbest_lists_and_json(model: Path, folder: Path) -> None:
    path = folder / "deeper" / "a.wav"
    lines = [line.split("\t") for line in run("transcribe", model, path, "--method", "beam", "--nbest", 3)]
    assert [line[1] for line in lines] == ["1", "2", "3"]
    assert float(lines[0][2]) >= float(lines[1][2]) >= float(lines[2][2])
    [line] = run("transcribe", model, path, "--method", "beam", "--nbest", 3, "--json", "--arithmetic", "float")
    found = json.loads(line)
    assert found["file"] == str(path)
    assert len(found["tokens"]) == len(found["times"]) == len(found["log_probs"])
    assert found["nbest"][0]["text"] == found["text"]


def test_arithmetic_is_the_recognizer_s(model: Path, folder: Path) -> None:
    path = folder / "deeper" / "a.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    scores = set()
    for name in ("int8", "float", "accelerator"):
        [line] = run("transcribe", model, path, "--json", "--arithmetic", name)
        expected = Recognizer(model, arithmetic=name).transcribe(samples, rate)
        assert json.loads(line)["score"] == round(expected.score, 6)
        scores.add(expected.score)
    assert len(scores) == 3


def test_bad_audio_is_named(model: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = (folder / "absent.wav", folder / "deeper" / "a.wav", tmp_path / "empty")
    done = CliRunner().invoke(app, ["transcribe", *map(str, (model, *given))])
    assert done.exit_code == 2 and [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(given[1])]
    first, second = done.stderr.splitlines()
    assert first == f"error: {given[0]}: expected an audio file or a folder, found nothing there"
    assert second == f"error: {given[2]}: expected audio files in this folder, found none"
    with pytest.raises(ConfigError, match="--beam: a greedy search keeps one hypothesis"):
        run("transcribe", model, folder, "--beam", 8)
    with pytest.raises(ConfigError, match="--nbest 3 needs --method beam"):
        run("transcribe", model, folder, "--nbest", 3)
    with pytest.raises(FormatError, match=r"notes\.txt"):
        run("transcribe", folder / "notes.txt", folder)


def test_inspect_lists_every_tensor_and_the_totals(model: Path) -> None:
    report = json.loads("\n".join(run("inspect", model, "--json")))
    packed = tiny["speaking_model"]()
    rows = {row["name"]: row for row in report["tensors"]}
    assert set(rows) == set(packed.tensors)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(100)
    assert rows["joiner.output.weight"]["bits"] == [4, 5]
    assert rows["joiner.output.weight"]["bytes"] == packed.tensors["joiner.output.weight"].nbytes
    assert rows["encoder.mean"]["kind"] == "float16"
    assert report["file_bytes"] == model.stat().st_size
    assert report["model_bytes"] == report["file_bytes"] - len(packed.tokenizer)
    assert report["ratio"] == pytest.approx(4 * packed.parameters / report["model_bytes"])
    table = "\n".join(run("inspect", model))
    assert "parameters. File" in table


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("kinds", [("lloyd-max", "lloyd-max"), ("lloyd-max", "uniform")])
@pytest.mark.parametrize("with_snr", [False, True])
def test_tables_have_whole_names_numbers_and_bars_at_any_width(
    width: int, kinds: tuple[str, str], with_snr: bool
) -> None:
    rows = [
        TensorRow("encoder.layers.0.weight_hh_l0", (1280, 320), (4,), kinds[0], "tensor", 204_818, 66.6, 11.5),
        TensorRow("joiner.output.weight", (128, 160), (2, 3), kinds[1], "tensor", 102_409, 33.3, None),
        TensorRow("encoder.mean", (80,), (32,), "float32", "", 320, 0.1, None),
    ]
    lines = tensor_lines(rows, width, with_snr=with_snr)
    text = "\n".join(lines)
    for row in rows:
        assert row.name in text and f"{row.bytes:,}" in text
        assert row.kind in text or row.kind == "float32"
    assert text.count("██") >= 3 and ("SNR dB" in text) == with_snr
    assert max(map(len, lines)) <= max(width, 44)
    full = max(map(len, tensor_lines(rows, None, with_snr=with_snr))) <= width
    assert (re.search(r"bits +kind", text) is not None) == full or kinds[0] != kinds[1]


def test_inspect_is_as_wide_as_columns_say_and_through_a_pipe_as_it_comes(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = run("inspect", model)
    monkeypatch.setenv("COLUMNS", "45")
    narrow = run("inspect", model)
    assert "kind" in wide[0] and "█" in wide[1]
    assert len(narrow) > 1.5 * len(wide) and all(len(line) <= 70 for line in narrow[:-1]) and "█" in "".join(narrow)


def test_inspect_measures_against_a_reference(model: Path, tmp_path: Path) -> None:
    packed, rng = tiny["speaking_model"](), np.random.default_rng(0)
    name = "encoder.projection.weight"
    weights = packed.decode(name)
    noisy = weights + 0.01 * np.std(weights) * rng.normal(size=weights.shape)
    plain = tmp_path / "plain.safetensors"
    save_file({name: noisy.astype(np.float32), "step": np.zeros(1, np.int64)}, plain)
    report = json.loads("\n".join(run("inspect", model, "--reference", plain, "--json")))
    rows = {row["name"]: row["snr_db"] for row in report["tensors"]}
    assert rows[name] == pytest.approx(40, abs=1.5)  # 20 log10(1 / 0.01)
    assert rows["joiner.output.weight"] is None
    report = json.loads("\n".join(run("inspect", model, "--reference", model, "--json")))
    assert {row["name"]: row["snr_db"] for row in report["tensors"]}[name] == "inf"
    assert "SNR" in "\n".join(run("inspect", model, "--reference", plain))


def test_references_that_do_not_fit_are_named(model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    save_file({"encoder.projection.weight": np.zeros((2, 2), np.float32)}, plain)
    with pytest.raises(FormatError, match=r"encoder\.projection\.weight: expected shape"):
        run("inspect", model, "--reference", plain)
    plain.write_bytes(b"nonsense")
    with pytest.raises(FormatError, match=r"plain\.safetensors: expected a safetensors file"):
        run("inspect", model, "--reference", plain)
    with pytest.raises(FormatError, match=r"absent\.safetensors"):
        run("inspect", model, "--reference", tmp_path / "absent.safetensors")
    save_file({"lstm.weight": np.zeros((2, 2), np.float32)}, plain)
    with pytest.raises(FormatError, match="expected float weights of this model, as encoder"):
        run("inspect", model, "--reference", plain)


def test_snr_by_hand() -> None:
    assert snr_db(np.float32([10, 0]), np.float32([9, 0])) == pytest.approx(20)
    assert snr_db(np.float32([1, 2]), np.float32([1, 2])) == np.inf
    assert snr_db(np.float32([0, 0]), np.float32([1, 2])) == -np.inf
