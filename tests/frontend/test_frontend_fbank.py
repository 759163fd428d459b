import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.frontend.fbank import StreamingFbank, fbank
from sottovoce.frontend.resample import resample
from sottovoce.frontend.settings import FeatureSettings

STANDARD = FeatureSettings()
NEMO = FeatureSettings(style="nemo", low_hz=0.0, high_hz=0.0)


def noise(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)


def definition(samples: NDArray[np.float32], s: FeatureSettings) -> NDArray[np.float64]:
    """Kaldi's filterbanks written out in double precision."""
    length, shift = int(s.sample_rate * s.frame_ms / 1000), int(s.sample_rate * s.shift_ms / 1000)
    frames = (len(samples) + shift // 2) // shift
    points = 1 << (length - 1).bit_length()
    # Frame t is centred on (t + 1/2) shifts; samples beyond the edges are mirrored.
    place = np.arange(frames)[:, None] * shift + shift // 2 - length // 2 + np.arange(length)
    place = np.where(place < 0, -place - 1, place)
    place = np.where(place >= len(samples), 2 * len(samples) - 1 - place, place)
    x = samples.astype(np.float64)[place]
    nemo = s.style == "nemo"
    x -= 0 if nemo else x.mean(axis=1, keepdims=True)
    x -= 0.97 * np.concatenate([x[:, :1], x[:, :-1]], axis=1)
    turn = 2 * np.pi * np.arange(length)
    x *= 0.5 - 0.5 * np.cos(turn / length) if nemo else (0.5 - 0.5 * np.cos(turn / (length - 1))) ** 0.85
    power = np.abs(np.fft.rfft(x, points)) ** 2
    if nemo:
        return np.log(np.maximum(power @ slaney(s, points).T, np.finfo(np.float32).eps))
    mel = lambda hz: 1127 * np.log(1 + hz / 700)  # noqa: E731
    edges = np.linspace(mel(s.low_hz), mel(s.top_hz), s.bins + 2)
    lines = mel(np.arange(points // 2) * s.sample_rate / points)
    left, centre, right = (edges[i : i + s.bins, None] for i in range(3))
    weights = np.clip(np.minimum((lines - left) / (centre - left), (right - lines) / (right - centre)), 0, None)
    return np.log(np.maximum(power[:, : points // 2] @ weights.T, np.finfo(np.float32).eps))


def slaney(s: FeatureSettings, points: int) -> NDArray[np.float64]:
    """librosa.filters.mel: linear to 1 kHz, then 27 steps an octave of 6.4, triangles of equal area; (bins, lines)."""
    linear = s.sample_rate / 2 <= 1000
    top = 15 + np.log(s.sample_rate / 2000) / np.log(6.4) * 27 if not linear else s.sample_rate / 2 * 3 / 200
    mels = np.linspace(0, top, s.bins + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
    lines = np.arange(points // 2 + 1) * s.sample_rate / points
    left, centre, right = (edges[i : i + s.bins, None] for i in range(3))
    weights = np.clip(np.minimum((lines - left) / (centre - left), (right - lines) / (right - centre)), 0, None)
    return weights * 2 / (right - left)


@pytest.mark.parametrize(
    "s",
    [STANDARD, NEMO, FeatureSettings(8_000, 40, high_hz=0.0), FeatureSettings(bins=23, low_hz=60.0, high_hz=3_800.0)],
)
def test_it_computes_kaldis_formula_or_nemos(s: FeatureSettings) -> None:
    samples = noise(s.sample_rate)
    np.testing.assert_allclose(fbank(samples, s), definition(samples, s), atol=2e-3)


def test_digital_silence_is_the_logarithm_of_the_smallest_step() -> None:
    assert np.allclose(fbank(np.zeros(1_600, np.float32), STANDARD), np.log(np.finfo(np.float32).eps))


@pytest.mark.parametrize(("count", "frames"), [(0, 0), (79, 0), (80, 1), (239, 1), (240, 2), (16_000, 100)])
def test_the_number_of_frames_is_the_length_rounded(count: int, frames: int) -> None:
    assert fbank(noise(count), STANDARD).shape == (frames, 80)


@given(rate=st.sampled_from([8_000, 16_000, 44_100]), count=st.integers(0, 9_000), data=st.data())
@settings(max_examples=30)
def test_any_chunks_give_the_bits_of_one_call(rate: int, count: int, data: st.DataObject) -> None:
    samples = noise(count)
    whole = fbank(resample(samples, rate, 16_000), STANDARD)
    stream, given_away = StreamingFbank(STANDARD), []
    taken = 0
    while len(samples):
        size = data.draw(st.integers(0, 3_000))
        stream.accept_waveform(rate, samples[:size])
        samples = samples[size:]
        given_away.append(stream.frames(taken, stream.frames_ready - taken))
        taken += len(given_away[-1])
    stream.input_finished()
    given_away.append(stream.frames(taken, stream.frames_ready - taken))
    assert np.concatenate(given_away).tobytes() == whole.tobytes()


def test_frames_given_away_are_forgotten_but_may_overlap() -> None:
    stream = StreamingFbank(STANDARD)
    stream.accept_waveform(16_000, noise(16_000))
    first = stream.frames(0, 20)
    assert np.array_equal(stream.frames(10, 20)[:10], first[10:])
    with pytest.raises(DataError, match="frames 10 to"):
        stream.frames(9, 1)
    with pytest.raises(DataError, match="asked for"):
        stream.frames(90, 100)


def test_one_rate_a_stream() -> None:
    stream = StreamingFbank(STANDARD)
    stream.accept_waveform(8_000, noise(100))
    with pytest.raises(DataError, match="8000 Hz, now 16000 Hz"):
        stream.accept_waveform(16_000, noise(100))


def test_a_finished_stream_takes_no_more() -> None:
    stream = StreamingFbank(STANDARD)
    stream.input_finished()
    stream.input_finished()
    with pytest.raises(DataError, match="finished"):
        stream.accept_waveform(16_000, noise(10))


def test_unusable_samples_are_refused() -> None:
    with pytest.raises(DataError, match="expected finite"):
        fbank(np.array([0.0, np.nan], np.float32), STANDARD)
    with pytest.raises(DataError, match="one channel"):
        fbank(np.zeros((2, 100), np.float32), STANDARD)
