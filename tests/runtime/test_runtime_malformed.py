"""Sound that no microphone should give: a result, or one clear error that leaves the stream as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runtime_recognizer import FEATURES_MODEL, MODEL, sound

from sottovoce.errors import DataError
from sottovoce.frontend.values import LARGEST
from sottovoce.packed import Pcen, RnntArchitecture
from sottovoce.runtime import Recognizer, Result

RECOGNIZER = Recognizer(MODEL)
SAMPLES = sound(1.0)

REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": ([0.0, np.nan], "expected finite numbers, found NaN or infinity"),
    "infinity": (np.array([0.0, -np.inf]), "expected finite numbers"),
    "too large for float32": (np.array([1e300]), "expected numbers of at most 1e.10, found 1e.300"),
    "too large": ([0.1, -3e38], "expected numbers of at most"),
    "stereo": (np.zeros((100, 2), np.float32), r"expected one channel, shape \(S,\), found shape \(100, 2\)"),
    "a number": (np.float32(0.5), r"found shape \(\)"),
    "int32": (np.zeros(10, np.int32), "expected floats .* or int16, found int32"),
    "uint8": (np.zeros(10, np.uint8), "found uint8"),
    "truth values": (np.zeros(10, bool), "found bool"),
    "complex": (np.zeros(10, complex), "found complex128"),
    "text": ("hello", "found <U5"),
    "texts": (["a", "b"], "found <U1"),
    "nothing": (None, "found object"),
    "ragged": ([[0.0], [0.0, 1.0]], "not an array of numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_samples_that_cannot_be_used_leave_the_stream_as_it_was(name: str) -> None:
    bad, message = REFUSED[name]
    stream = RECOGNIZER.create_stream()
    for piece in np.split(SAMPLES, [5_000]):
        with pytest.raises(DataError, match=f"^samples: .*{message}") as caught:
            stream.accept_waveform(16_000, bad)
        assert "\n" not in str(caught.value)
        stream.accept_waveform(16_000, piece)
    stream.input_finished()
    RECOGNIZER.decode_stream(stream)
    assert RECOGNIZER.get_result(stream) == RECOGNIZER.transcribe(SAMPLES, 16_000)


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001, 10**12, 16_000.5, True, "16000", None, np.nan])
def test_rates_that_cannot_be_used_are_refused(rate: Any) -> None:
    stream = RECOGNIZER.create_stream()
    with pytest.raises(DataError, match=r"a sample rate must be an integer in \[1000, 768000\] Hz, found") as caught:
        stream.accept_waveform(rate, SAMPLES)
    assert "\n" not in str(caught.value)
    stream.accept_waveform(16_000, SAMPLES)
    with pytest.raises(DataError, match="one sample rate a stream: it began at 16000 Hz"):
        stream.accept_waveform(8_000, SAMPLES)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", "int16"])
def test_other_types_of_samples_are_what_they_mean(dtype: Any) -> None:
    whole = np.round(SAMPLES * 32_768)
    given = whole.astype(dtype) if dtype == "int16" else (whole / 32_768).astype(dtype)
    as_float = given.astype(np.float32) / 32_768 if dtype == "int16" else given.astype(np.float32)
    assert RECOGNIZER.transcribe(given, 16_000) == RECOGNIZER.transcribe(as_float, 16_000)


@pytest.mark.parametrize("view", [
    lambda x: np.stack([x, x], axis=1)[:, 0], lambda x: x[::-1].copy()[::-1], lambda x: np.repeat(x, 3)[::3],
    lambda x: x.tolist(), lambda x: memoryview(x), lambda x: np.frombuffer(x.tobytes(), np.float32),
])  # fmt: skip
def test_memory_of_any_layout_is_read(view: Any) -> None:
    assert RECOGNIZER.transcribe(view(SAMPLES), 16_000) == RECOGNIZER.transcribe(SAMPLES, 16_000)


@given(st.lists(st.sampled_from([0, 0, 1, 7, 160, 4_000]), max_size=30))
@settings(max_examples=20)
def test_chunks_of_nothing_change_nothing(sizes: list[int]) -> None:
    stream, at = RECOGNIZER.create_stream(), 0
    for size in sizes:
        stream.accept_waveform(8_000, SAMPLES[at : at + size])
        RECOGNIZER.decode_stream(stream)
        at += size
    stream.input_finished()
    RECOGNIZER.decode_stream(stream)
    assert RECOGNIZER.get_result(stream) == RECOGNIZER.transcribe(SAMPLES[:at], 8_000)


@pytest.mark.parametrize("method", ["greedy", "beam"])
@pytest.mark.parametrize("samples", [
    np.zeros(32_000), np.full(32_000, 1e-40), np.full(32_000, 1.0), np.full(32_000, LARGEST),
    LARGEST * np.tile([1.0, -1.0], 16_000), np.zeros(1), np.array([1.0]), np.eye(1, 16_000, 8_000)[0],
])  # fmt: skip
@pytest.mark.parametrize("rate", [8_000, 16_000, 192_000])
def test_silence_and_extremes_have_a_finite_result(samples: np.ndarray, rate: int, method: Any) -> None:
    check(Recognizer(MODEL, method=method).transcribe(samples, rate))


def check(result: Result) -> None:
    assert np.isfinite(result.score) and np.isfinite(result.log_probs).all()
    assert result.text == RECOGNIZER.tokenizer.decode(result.ids)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 79_999, 192_000])
def test_any_rate_is_taken_in_any_chunks(rate: int) -> None:
    samples = sound(0.5, rate=rate)
    stream, rng, at = RECOGNIZER.create_stream(), np.random.default_rng(0), 0
    while at < len(samples):
        count = int(rng.integers(0, rate // 10))
        stream.accept_waveform(rate, samples[at : at + count])
        RECOGNIZER.decode_stream(stream)
        at += count
    stream.input_finished()
    RECOGNIZER.decode_stream(stream)
    assert RECOGNIZER.get_result(stream) == RECOGNIZER.transcribe(samples, rate)
    assert RECOGNIZER.get_result(stream).tokens


@pytest.mark.parametrize(("features", "message"), [
    (np.zeros((4, 12)), r"expected shape \(T, 13\), found \(4, 12\)"),
    (np.zeros(13), r"found \(13,\)"),
    (np.full((2, 13), np.inf), "expected finite numbers"),
    (np.full((2, 13), 1e11), "expected numbers of at most"),
    ([["a"] * 13], "expected numbers, found <U1"),
    ([[0.0], [1.0, 2.0]], "not an array of numbers"),
])  # fmt: skip
def test_features_that_cannot_be_used_are_refused(features: Any, message: str) -> None:
    stream = Recognizer(FEATURES_MODEL).create_stream()
    with pytest.raises(DataError, match=f"^features: .*{message}"):
        stream.accept_features(features)


@pytest.mark.parametrize("pcen", [None, Pcen()])
@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 0.0])
def test_features_at_the_limit_have_a_finite_result(pcen: Pcen | None, value: float) -> None:
    from tiny_rnnt import random_model, tokenizer, vocabulary

    a = RnntArchitecture(
        features=6, vocabulary=vocabulary(), encoder_units=8, predictor_units=8, joiner_units=8, pcen=pcen
    )
    recognizer = Recognizer(random_model(a, tokenizer=tokenizer(), input={"kind": "features", "dim": 6, "rate": 100}))
    stream = recognizer.create_stream()
    mixed = np.random.default_rng(0).choice([value, 1.0], (60, 6))
    stream.accept_features(np.concatenate([np.full((40, 6), value), mixed]))
    recognizer.decode_stream(stream)
    check(recognizer.get_result(stream))
