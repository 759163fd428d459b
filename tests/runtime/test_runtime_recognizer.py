"""The recognizer from sound to text: streaming against offline, batches against singles, and what it refuses."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_rnnt import random_model, speaking_model, tokenizer

from sottovoce.errors import ConfigError, DataError, FormatError
from sottovoce.frontend.fbank import fbank
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.packed import PackedModel, RnntArchitecture
from sottovoce.runtime import ModelInput, Recognizer, Result

MODEL = speaking_model()
FEATURES_MODEL = speaking_model(input={"kind": "features", "dim": 13, "rate": 50})


def sound(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """Noise whose loudness and colour wander, so that a random network has something to say."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (300 + 200 * np.sin(2 * np.pi * 3 * t)).cumsum() / rate)
    return (0.3 * np.abs(np.sin(2 * np.pi * 2 * t)) * (tone + rng.normal(0, 0.3, len(t)))).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"max_symbols": 3}, {"method": "beam", "beam": 3, "blank_penalty": 0.5}])
@given(cuts=st.lists(st.integers(0, 16_000), max_size=6), decode_between=st.booleans())
@settings(max_examples=6)
def test_streaming_in_pieces_is_transcribing_the_whole(
    options: dict[str, Any], cuts: list[int], decode_between: bool
) -> None:
    recognizer, samples = Recognizer(MODEL, **options), sound(1.0)
    stream = recognizer.create_stream()
    for piece in np.split(samples, sorted(cuts)):
        stream.accept_waveform(16_000, piece)
        if decode_between and recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
    stream.input_finished()
    recognizer.decode_stream(stream)
    assert not recognizer.is_ready(stream)
    whole = recognizer.transcribe(samples, 16_000)
    assert recognizer.get_result(stream) == whole
    features = fbank(samples, FeatureSettings(bins=20))
    assert recognizer.transcribe_batch([features]) == [whole]


def test_a_result_hangs_together() -> None:
    recognizer = Recognizer(MODEL, method="beam", beam=4)
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, sound(2.0))
    stream.input_finished()
    recognizer.decode_stream(stream)
    results = recognizer.get_nbest(stream)
    assert results[0] == recognizer.get_result(stream)
    assert 1 < len(results) <= 4
    for result in results:
        assert len(result.ids) == len(result.tokens) == len(result.times) == len(result.log_probs) > 0
        assert result.text == recognizer.tokenizer.decode(result.ids)
        assert list(result.times) == sorted(result.times)
        assert result.times[-1] < 2.0
        assert all(abs(time / 0.04 - round(time / 0.04)) < 1e-6 for time in result.times)  # 4 frames of 10 ms
        assert max(result.log_probs) <= 0


def test_streams_decoded_together_are_streams_decoded_alone() -> None:
    recognizer = Recognizer(MODEL)
    sounds = [sound(seconds, seed) for seed, seconds in enumerate([0.5, 1.3, 0.5, 0.02, 0.9])]
    streams = [recognizer.create_stream() for _ in sounds]
    for start in range(0, 21_000, 3_000):
        for stream, samples in zip(streams, sounds, strict=True):
            stream.accept_waveform(16_000, samples[start : start + 3_000])
        recognizer.decode_streams(streams)
    for stream in streams:
        stream.input_finished()
    recognizer.decode_streams(streams)
    for stream, samples in zip(streams, sounds, strict=True):
        assert recognizer.get_result(stream) == recognizer.transcribe(samples, 16_000)


@pytest.mark.parametrize("options", [{}, {"method": "beam"}])
def test_a_batch_of_features_keeps_its_order(options: dict[str, Any]) -> None:
    recognizer, rng = Recognizer(FEATURES_MODEL, **options), np.random.default_rng(0)
    features = [rng.normal(0, 2, (length, 13)).astype(np.float32) for length in rng.integers(0, 90, 70)]
    batch = recognizer.transcribe_batch(features)
    assert len({result.text for result in batch}) > 10
    for i in (0, 13, 69, int(np.argmin([len(array) for array in features]))):
        stream = recognizer.create_stream()
        stream.accept_features(features[i][:7])
        recognizer.decode_stream(stream)
        stream.accept_features(features[i][7:])
        stream.input_finished()
        recognizer.decode_stream(stream)
        assert recognizer.get_result(stream) == batch[i]
    assert recognizer.transcribe_batch([]) == []


def test_times_follow_the_rate_of_the_features() -> None:
    recognizer = Recognizer(FEATURES_MODEL)
    assert recognizer.frame_seconds == pytest.approx(4 / 50)


def test_long_input_goes_in_slices_and_other_rates_are_resampled() -> None:
    recognizer, rng = Recognizer(FEATURES_MODEL), np.random.default_rng(1)
    features = rng.normal(0, 2, (2_500, 13)).astype(np.float32)
    stream = recognizer.create_stream()
    stream.accept_features(features)
    recognizer.decode_stream(stream)
    assert recognizer.get_result(stream) == recognizer.transcribe_batch([features])[0]
    assert Recognizer(MODEL).transcribe(sound(1.0, rate=8_000), 8_000).tokens


def test_a_saved_file_transcribes_alike(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "model.safetensors")
    samples = sound(1.0)
    assert Recognizer(tmp_path / "model.safetensors").transcribe(samples, 16_000) == Recognizer(MODEL).transcribe(
        samples, 16_000
    )


def test_nothing_in_is_nothing_out() -> None:
    result = Recognizer(MODEL).transcribe(np.zeros(0, np.float32), 16_000)
    assert (result.text, result.tokens, result.score) == ("", (), 0.0)


def test_inputs_that_cannot_be_used_are_refused() -> None:
    stream = Recognizer(FEATURES_MODEL).create_stream()
    with pytest.raises(DataError, match="takes features"):
        stream.accept_waveform(16_000, sound(0.1))
    with pytest.raises(DataError, match=r"expected shape \(T, 13\), found \(4, 12\)"):
        stream.accept_features(np.zeros((4, 12)))
    with pytest.raises(DataError, match="finite"):
        stream.accept_features(np.full((4, 13), np.nan))
    stream = Recognizer(MODEL).create_stream()
    with pytest.raises(DataError, match="one channel"):
        stream.accept_waveform(16_000, np.zeros((10, 2)))
    with pytest.raises(DataError, match="finite"):
        stream.accept_waveform(16_000, [0.0, np.inf])
    stream.accept_waveform(16_000, sound(0.1))
    with pytest.raises(DataError, match="already took a waveform"):
        stream.accept_features(np.zeros((4, 20)))
    stream.input_finished()
    stream.input_finished()
    with pytest.raises(DataError, match="finished"):
        stream.accept_waveform(16_000, sound(0.1))
    stream = Recognizer(MODEL).create_stream()
    stream.accept_features(np.zeros((4, 20)))
    with pytest.raises(DataError, match="already took features"):
        stream.accept_waveform(16_000, sound(0.1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": {"kind": "waveform", "bins": 40}}, "input: expected 20 features a frame, found 40"),
        ({"input": {"kind": "waveform", "bins": 20, "colour": 1}}, "input: .*colour"),
        ({"input": {"kind": "video"}}, "input: expected kind 'waveform' or 'features', found 'video'"),
        ({"tokenizer": None}, "tokenizer: expected one in the model, found none"),
        ({"tokenizer": b"nonsense"}, "tokenizer: "),
    ],
)
def test_models_that_cannot_run_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    broken = dataclasses.replace(MODEL, **changes)
    with pytest.raises(FormatError, match=f"^{message}"):
        Recognizer(broken)
    broken.save(tmp_path / "broken.safetensors")
    with pytest.raises(FormatError, match=f"broken.safetensors: {message}"):
        Recognizer(tmp_path / "broken.safetensors")


def test_a_tokenizer_of_another_size_is_refused() -> None:
    a = RnntArchitecture(features=20, vocabulary=5, encoder_units=8, predictor_units=8, joiner_units=8)
    model = random_model(a, input={"kind": "waveform", "bins": 20}, tokenizer=tokenizer())
    with pytest.raises(FormatError, match="tokenizer: expected 5 tokens as in the network, found"):
        Recognizer(model)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="method must be"):
        Recognizer(MODEL, method="viterbi")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": 0, "rate": 100},
        {"dim": 13},
        {"dim": 13, "rate": "fast"},
        {"dim": 13, "rate": 0},
        {"dim": True, "rate": 1},
    ],
)
def test_feature_inputs_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="input: expected a dim"):
        ModelInput.from_dict({"kind": "features", **fields})


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_the_blank_penalty_is_what_the_file_says_unless_another_is_given(method: Literal["greedy", "beam"]) -> None:
    tuned = replace(MODEL, architecture={**MODEL.architecture, "blank_penalty": 1.5})
    samples = sound(2.0)

    def heard(model: PackedModel, **options: float) -> Result:
        return Recognizer(model, method=method, **options).transcribe(samples, 16_000)

    assert heard(tuned) == heard(MODEL, blank_penalty=1.5) != heard(MODEL)
    assert heard(tuned, blank_penalty=0.0) == heard(MODEL)
