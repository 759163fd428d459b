from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.errors import DataError
from sottovoce.frontend.audio import read_audio


def test_channels_are_averaged_and_the_rate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    left, right = np.linspace(-0.5, 0.5, 100), np.linspace(0.25, 0.0, 100)
    soundfile.write(path, np.stack([left, right], axis=1), 11_025, subtype="FLOAT")
    samples, rate = read_audio(path)
    assert rate == 11_025
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS")])
def test_formats_of_libsndfile_are_read(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    tone = 0.5 * np.sin(np.arange(8_000) * 0.1)
    soundfile.write(path, tone, 16_000, subtype=subtype)
    samples, _ = read_audio(str(path))
    assert np.abs(samples - tone).max() < 0.05


def bad_files(folder: Path) -> dict[str, Path]:
    good = folder / "good.wav"
    soundfile.write(good, np.full(1_000, 0.1), 16_000, subtype="PCM_16")
    content = good.read_bytes()
    files = {
        "no such audio file": folder / "missing.wav",
        "the audio is empty": folder / "header.wav",
        "not readable as audio": folder / "text.wav",
        "not finite": folder / "nan.wav",
    }
    files["the audio is empty"].write_bytes(content[:44])
    files["not readable as audio"].write_text("hello")
    soundfile.write(files["not finite"], np.array([0.1, np.nan]), 16_000, subtype="FLOAT")
    return files


@pytest.mark.parametrize("message", ["no such audio file", "the audio is empty", "not readable as audio", "not finite"])
def test_bad_files_are_named_with_the_reason(tmp_path: Path, message: str) -> None:
    path = bad_files(tmp_path)[message]
    with pytest.raises(DataError, match=message) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    for path in (tmp_path / "empty.wav", tmp_path):
        with pytest.raises(DataError, match="not readable"):
            read_audio(path)


@pytest.mark.parametrize("name", ["sound.raw", "SOUND.RAW"])
def test_bare_samples_and_what_is_called_so_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no such audio file"):
        read_audio(tmp_path / name)
    soundfile.write(tmp_path / "sound.wav", np.zeros(100), 16_000)
    (tmp_path / name).write_bytes((tmp_path / "sound.wav").read_bytes())
    with pytest.raises(DataError, match=f"{name}: a .raw file does not say its rate and encoding: write it anew as"):
        read_audio(tmp_path / name)


def test_a_flac_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.flac"):
        read_audio(path)


def test_a_header_without_a_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "streamed.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 3_200), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the count of samples is 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"streamed\.flac: its header does not say how long it is"):
        read_audio(path)
