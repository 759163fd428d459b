"""The C library and its example against the Python Recognizer."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_library import Found, Library
from native_build import Build
from numpy.typing import NDArray

from sottovoce.decoding import Phrase, read_hotwords
from sottovoce.packed import Pcen, RnntArchitecture
from sottovoce.runtime import EndpointRule, EndpointRules, Recognizer

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import random_model, speaking_model, tokenizer, vocabulary

pytestmark = pytest.mark.slow  # compiles the kernels once a session

Floats = NDArray[np.float32]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"max_symbols": 3, "blank_penalty": 1.0},
    {"method": "beam", "beam": 4},
    {"method": "beam", "beam": 9, "blank_penalty": -0.5},
]


@pytest.fixture(scope="module")
def library(build: Build) -> Library:
    return Library(build.folder / "libsottovoce.so")


def c_options(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "method": int(options.get("method") == "beam")}


def model_file(folder: Path, seed: int = 0, **fields: Any) -> Path:
    path = folder / f"model{seed}.safetensors"
    speaking_model(seed, **fields).save(path)
    return path


def sound(count: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    t = np.arange(count) / 16000
    samples: Floats = (0.3 * np.sin(t * (900 + 300 * np.sin(5 * t))) + rng.normal(0, 0.02, count)).astype(np.float32)
    return samples


def found(result: Any) -> Found:
    return Found(**{field.name: getattr(result, field.name) for field in dataclasses.fields(Found)})


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_features_give_the_same_result_to_the_bit(
    library: Library, tmp_path: Path, options: dict[str, Any], seed: int
) -> None:
    path = model_file(tmp_path, seed)
    python = Recognizer(path, **options)
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(-5, 3, (frames, 20)).astype(np.float32) for frames in (0, 1, 7, 50, 50, 1203)]
    recognizer = library.load(path, **c_options(options))
    streams = [library.stream(recognizer) for _ in inputs]
    for start in range(0, 1203, 37):
        for stream, features in zip(streams, inputs, strict=True):
            assert library.features(stream, features[start : start + 37]) == 0
        assert library.decode(*streams) == 0, library.error()
    for stream, features in zip(streams, inputs, strict=True):
        expected = python.create_stream()
        expected.accept_features(features)
        python.decode_stream(expected)
        nbest = python.get_nbest(expected)
        assert [library.result(stream, rank) for rank in range(len(nbest))] == [found(result) for result in nbest]
        assert library.result(stream) == found(python.get_result(expected))
        assert library("result_nbest", stream, ctypes.c_size_t(len(nbest))) is None and "rank" in library.error()
        library("stream_free", stream)
    library("recognizer_free", recognizer)


@pytest.mark.parametrize("architecture", [
    {"pcen": Pcen()}, {"layer_norm": False}, {"reduction_after": 0}, {"reduction_after": 2, "predictor_layers": 2},
    {"blank_penalty": 0.75}, {"blank_penalty": -2},
])  # fmt: skip
def test_every_kind_of_network_runs(library: Library, tmp_path: Path, architecture: dict[str, Any]) -> None:
    a = RnntArchitecture(features=6, vocabulary=vocabulary(), encoder_units=12, embedding=8, predictor_units=8,
                         joiner_units=9, **architecture)  # fmt: skip
    path = tmp_path / "model.safetensors"
    random_model(a, tokenizer=tokenizer(), input={"kind": "features", "dim": 6, "rate": 100}).save(path)
    features = np.random.default_rng(0).normal(0, 2, (301, 6)).astype(np.float32)
    python = Recognizer(path)
    expected = python.create_stream()
    expected.accept_features(features)
    python.decode_stream(expected)
    recognizer = library.load(path, threads=2)
    stream = library.stream(recognizer)
    assert library("sample_rate", recognizer) == 0 and library("feature_dim", recognizer) == 6
    assert library.waveform(stream, 16000, [0.0]) != 0 and "takes features" in library.error()
    assert library.features(stream, features) == 0 and library.decode(stream) == 0
    assert library.result(stream) == found(python.get_result(expected))


@pytest.mark.parametrize("rate", [16000, 8000, 44100])
@pytest.mark.parametrize("beam", [0, 4])
def test_the_example_transcribes_a_wav_as_python_does(build: Build, tmp_path: Path, rate: int, beam: int) -> None:
    path = model_file(tmp_path)
    samples = np.round(sound(3 * rate) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    python = Recognizer(path, method="beam", beam=beam) if beam else Recognizer(path)
    expected = python.transcribe(samples.astype(np.float32) / 32768, rate)
    command = [str(build.folder / "transcribe"), str(path), str(tmp_path / "sound.wav"), *[str(beam)][: beam > 0]]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n")
    assert lines[0] == expected.text and expected.text
    assert [line.split("\t")[1] for line in lines[1:-1]] == list(expected.tokens)
    assert [line.split("\t")[0] for line in lines[1:-1]] == [f"{time:.3f}" for time in expected.times]


def test_the_example_says_what_is_wrong(build: Build, tmp_path: Path) -> None:
    path = model_file(tmp_path)
    for name, content in {"none": None, "empty": b"", "text": b"hello" * 10, "head": b"RIFF....WAVEfmt "}.items():
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        done = subprocess.run([build.folder / "transcribe", path, file], capture_output=True, check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 96_000, 192_000])
def test_silence_and_extremes_have_pythons_result(library: Library, tmp_path: Path, rate: int) -> None:
    path = model_file(tmp_path)
    python, recognizer = Recognizer(path), library.load(path)
    for samples in (
        np.zeros(0), np.zeros(1), np.ones(1), np.zeros(9_000), np.full(9_000, 1e-40), np.full(9_000, 1e10),
        1e10 * np.tile([1.0, -1.0], 4_500), np.eye(1, 9_000, 4_500)[0], sound(9_000),
    ):  # fmt: skip
        stream = library.stream(recognizer)
        assert library.waveform(stream, rate, samples) == 0
        assert library("input_finished", stream) == 0 and library.decode(stream) == 0
        assert library.result(stream) == found(python.transcribe(samples, rate))
        library("stream_free", stream)


def test_the_example_survives_damaged_wavs(build: Build, tmp_path: Path) -> None:
    path, file, rng = model_file(tmp_path), tmp_path / "sound.wav", np.random.default_rng(0)
    with wave.open(str(file), "wb") as whole:
        whole.setparams((1, 2, 16_000, 0, "NONE", ""))
        whole.writeframes(np.round(sound(2_000) * 32767).astype("<i2").tobytes())
    content = file.read_bytes()
    for spot in range(44):
        damaged = bytearray(content)
        damaged[spot] ^= 1 << int(rng.integers(8))
        for bytes_left in (bytes(damaged), content[:spot]):
            file.write_bytes(bytes_left)
            done = subprocess.run([build.folder / "transcribe", path, file], capture_output=True, check=False)
            assert done.returncode in (0, 2) and len(done.stderr.splitlines()) == (done.returncode == 2), done


def test_any_chunking_of_a_waveform_gives_the_same_result(library: Library, tmp_path: Path) -> None:
    recognizer = library.load(model_file(tmp_path))
    samples, results = sound(40_000), set()
    for chunk in (1999, 160, 40_000):
        stream = library.stream(recognizer)
        for start in range(0, len(samples), chunk):
            assert library.waveform(stream, 22050, samples[start : start + chunk]) == 0
            assert library.decode(stream) == 0
        assert library("input_finished", stream) == 0 and library.decode(stream) == 0
        results.add(library.result(stream))
    assert len(results) == 1 and results.pop().text


def test_hotwords_of_a_stream_are_pythons_to_the_bit(library: Library, tmp_path: Path) -> None:
    path = model_file(tmp_path)
    python = Recognizer(path, method="beam", hotwords_score=2.5)
    phrases = read_hotwords(["one", "zero :7", "four five :0.5"], python.tokenizer, 2.5)
    recognizer = library.load(path, method=1)
    streams = [library.stream_with(recognizer, *phrases), library.stream(recognizer), library.stream_with(recognizer)]
    expected = [
        python.create_stream(["one", "zero :7", "four five :0.5"]),
        python.create_stream(),
        python.create_stream(),
    ]
    for chunk in np.split(sound(64_000), 8):
        for ours, theirs in zip(streams, expected, strict=True):
            assert library.waveform(ours, 16_000, chunk) == 0
            theirs.accept_waveform(16_000, chunk)
        assert library.decode(*streams) == 0
        python.decode_streams(expected)
        for ours, theirs in zip(streams, expected, strict=True):
            nbest = python.get_nbest(theirs)
            assert [library.result(ours, rank) for rank in range(len(nbest))] == [found(result) for result in nbest]
    assert "zero" in library.result(streams[0]).text and "zero" not in library.result(streams[1]).text
    assert library("reset", streams[0]) == 0 and library.result(streams[0]).text == ""


@pytest.mark.parametrize("phrase", [Phrase((), 1.0), Phrase((0,), 1.0), Phrase((10**6,), 1.0), Phrase((-1,), 1.0),
                                    Phrase((2,), 0.0), Phrase((2,), float("nan"))])  # fmt: skip
def test_hotwords_that_cannot_be_used_are_refused(library: Library, tmp_path: Path, phrase: Phrase) -> None:
    recognizer = library.load(model_file(tmp_path), method=1)
    assert not library.stream_with(recognizer, phrase).value and library.error().startswith("hotword: expected")
    greedy = library.load(model_file(tmp_path))
    assert not library.stream_with(greedy, Phrase((2,), 1.0)).value and "beam" in library.error()


RULES = [(1, 0.2, 0.0), (1, 0.12, 2.0), (0, 0.0, 5.0)]


@pytest.mark.parametrize("options", OPTIONS)
def test_segments_are_pythons_to_the_bit(library: Library, tmp_path: Path, options: dict[str, Any]) -> None:
    path = model_file(tmp_path, 2)
    rules = EndpointRules(*(EndpointRule(bool(rule[0]), *rule[1:]) for rule in RULES))
    python = Recognizer(path, endpoint=rules, **options)
    recognizer = library.load(path, endpoint=RULES, **c_options(options))
    expected, stream, ends = python.create_stream(), library.stream(recognizer), 0
    for chunk in np.split(sound(30 * 16_000, 5), range(0, 30 * 16_000, 2_000)):
        expected.accept_waveform(16_000, chunk)
        python.decode_stream(expected)
        assert library.waveform(stream, 16_000, chunk) == 0 and library.decode(stream) == 0
        assert library("is_endpoint", stream) == int(python.is_endpoint(expected))
        assert library.result(stream) == found(python.get_result(expected))
        if python.is_endpoint(expected):
            python.reset(expected)
            assert library("reset", stream) == 0
            ends += 1
    assert ends > 4 and library.result(stream).start_time > 5


def test_the_default_rules_are_pythons(library: Library) -> None:
    rules = [EndpointRule(bool(r.must_contain_nonsilence), r.min_trailing_silence, r.min_utterance_length)
             for r in library.options().endpoint]  # fmt: skip
    assert EndpointRules(*rules) == EndpointRules()


@pytest.mark.parametrize("rule", [(0, -1.0, 0.0), (0, float("nan"), 0.0), (0, 0.0, float("inf"))])
def test_rules_that_cannot_be_used_are_refused(library: Library, tmp_path: Path, rule: Any) -> None:
    options = library.options(endpoint=[*RULES[:2], rule])
    assert library("load", str(model_file(tmp_path)).encode(), ctypes.byref(options)) is None
    assert "endpoint rule" in library.error()


def test_a_stream_outlives_its_recognizer(library: Library, tmp_path: Path) -> None:
    recognizer = library.load(model_file(tmp_path))
    stream = library.stream(recognizer)
    library("recognizer_free", recognizer)
    assert library.waveform(stream, 16000, sound(32_000)) == 0
    assert library("is_ready", stream) == 1
    assert library("input_finished", stream) == 0 and library.decode(stream) == 0
    assert library("is_ready", stream) == 0 and library.result(stream).text
    library("stream_free", stream)


def test_the_example_prints_each_utterance_where_it_ends(build: Build, tmp_path: Path) -> None:
    path, samples = model_file(tmp_path), np.round(sound(45 * 16_000) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    python = Recognizer(path)
    stream, segments = python.create_stream(), []
    for start in range(0, len(samples), 1_600):
        stream.accept_waveform(16_000, samples[start : start + 1_600])
        python.decode_stream(stream)
        if python.is_endpoint(stream):
            segments.append(python.get_result(stream))
            python.reset(stream)
    stream.input_finished()
    python.decode_stream(stream)
    segments.append(python.get_result(stream))
    command = [build.folder / "transcribe", path, tmp_path / "sound.wav"]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    assert [line for line in lines if "\t" not in line] == [segment.text for segment in segments if segment.tokens]
    times = [line.split("\t")[0] for line in lines if "\t" in line]
    assert times == [f"{time:.3f}" for segment in segments for time in segment.times] and len(segments) > 2


def test_bad_input_is_refused_and_the_stream_goes_on(library: Library, tmp_path: Path) -> None:
    recognizer = library.load(model_file(tmp_path))
    stream = library.stream(recognizer)
    for bad in (np.nan, np.inf, -np.inf):
        assert library.waveform(stream, 16000, [0.0, bad]) != 0 and "finite" in library.error()
    for bad in (1.1e10, -3e38):
        assert library.waveform(stream, 16000, [0.0, bad]) != 0 and "at most 1e10" in library.error()
    for rate in (0, -1, 999, 1_000_000, 2**31 - 1):
        assert library.waveform(stream, rate, [0.0]) != 0 and "sample rate" in library.error()
    assert library.waveform(stream, 16000, []) == 0
    assert library("accept_waveform", stream, 16000, None, ctypes.c_size_t(0)) == 0
    assert library("accept_waveform", stream, 16000, None, ctypes.c_size_t(1)) != 0 and "NULL" in library.error()
    assert library("accept_waveform", stream, 16000, ctypes.c_void_p(8), ctypes.c_size_t(2**64 - 1)) != 0
    assert library.waveform(stream, 8000, [0.0]) != 0 and "one sample rate" in library.error()
    assert library.features(stream, np.zeros((1, 20))) != 0 and "waveform" in library.error()
    assert library.decode(stream) == 0 and library.decode() == 0
    assert library.decode(stream, stream) != 0 and "twice" in library.error()
    other = library.stream(library.load(model_file(tmp_path, 1)))
    assert library.decode(stream, other) != 0 and "one recognizer" in library.error()
    assert library.features(other, np.zeros((1, 19))) != 0 and "20 values" in library.error()
    assert library.features(other, np.full((1, 20), np.nan)) != 0 and "finite" in library.error()
    assert library.waveform(stream, 16000, sound(16_000)) == 0
    for _ in range(2):
        assert library("input_finished", stream) == 0 and library.decode(stream) == 0
    assert library.waveform(stream, 16000, [0.0]) != 0 and "finished" in library.error()
    assert library.result(stream).score < 0


def test_null_is_refused_everywhere(library: Library) -> None:
    for name in ("reset", "input_finished", "is_ready", "is_endpoint"):
        assert library(name, None) == -1 and "NULL" in library.error()
    assert library("load", None, None) is None and library("stream_create", None) is None
    assert library("result_get", None) is None and library("result_nbest", None, ctypes.c_size_t(0)) is None
    assert library("result_word_count", None) == 0 and library("result_word", None, ctypes.c_size_t(0)) == b""
    assert np.isnan(library("result_word_start", None, ctypes.c_size_t(0))) and library("result_segment", None) == -1
    assert library("decode", None, ctypes.c_size_t(1)) == -1
    assert library("result_text", None) == b"" and library("result_count", None) == 0
    assert np.isnan(library("result_score", None)) and library("result_id", None, ctypes.c_size_t(0)) == -1
    for name in ("recognizer_free", "stream_free", "result_free", "options_init"):
        library(name, None)


@pytest.mark.parametrize("options", [
    {"method": 2}, {"beam": 0, "method": 1}, {"beam": 2**31 - 1, "method": 1}, {"max_symbols": 0}, {"threads": 0},
    {"threads": 10**6}, {"blank_penalty": float("inf")}, {"kernels": b"abacus"}, {"size": 0},
    {"max_symbols": 2, "method": 1},
])  # fmt: skip
def test_options_that_cannot_be_used_are_refused(library: Library, tmp_path: Path, options: dict[str, Any]) -> None:
    path = str(model_file(tmp_path)).encode()
    assert library("load", path, ctypes.byref(library.options(**options))) is None
    assert library.error() and "\n" not in library.error()


@pytest.mark.parametrize("change", [
    {"tokenizer": None}, {"tokenizer": b"x"}, {"input": {"kind": "waveform", "bins": 40}}, {"input": {}},
    {"architecture": {"type": "lm"}}, {"tensors": {}},
])  # fmt: skip
def test_models_that_cannot_run_are_refused(library: Library, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors"
    dataclasses.replace(speaking_model(), **change).save(path)
    assert library("load", str(path).encode(), None) is None
    assert library.error().startswith(str(path)) and "\n" not in library.error()
    assert library("load", str(tmp_path).encode(), None) is None
    assert library("load", str(tmp_path / "none").encode(), None) is None
