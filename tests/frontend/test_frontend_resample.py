from math import ceil, cos, floor, gcd, pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.frontend.resample import LinearResampler, resample

RATES = [8_000, 11_025, 14_400, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]


def noise(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def definition(samples: NDArray[np.float32], a: int, b: int) -> list[float]:
    """Kaldi's formula in double precision, sample by sample: a Hann window over a sinc, 6 zero crossings."""
    cutoff = 0.99 * 0.5 * min(a, b)
    width = 6 / (2 * cutoff)
    output = []
    for n in range(ceil(len(samples) * b / a)):
        t = n / b
        total = 0.0
        for i in range(max(0, ceil((t - width) * a)), min(len(samples) - 1, floor((t + width) * a)) + 1):
            d = i / a - t
            sinc = 2 * cutoff if d == 0 else sin(2 * pi * cutoff * d) / (pi * d)
            total += float(samples[i]) * sinc * 0.5 * (1 + cos(2 * pi * cutoff / 6 * d)) / a
        output.append(total)
    return output


@pytest.mark.parametrize(("a", "b"), [(8_000, 16_000), (16_000, 8_000), (22_050, 16_000), (16_000, 14_400)])
def test_it_computes_kaldis_formula(a: int, b: int) -> None:
    samples = noise(400)
    np.testing.assert_allclose(resample(samples, a, b), definition(samples, a, b), atol=2e-6)


@given(a=st.sampled_from(RATES), b=st.sampled_from(RATES), count=st.integers(0, 3_000), data=st.data())
@settings(max_examples=60)
def test_any_chunks_give_the_bits_of_one_call(a: int, b: int, count: int, data: st.DataObject) -> None:
    samples = noise(count)
    whole = resample(samples, a, b)
    stream = LinearResampler(a, b)
    pieces = []
    while len(samples):
        taken = data.draw(st.integers(0, 700))
        pieces.append(stream.accept(samples[:taken]))
        samples = samples[taken:]
    pieces.append(stream.accept(samples, last=True))
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


@given(a=st.sampled_from(RATES), b=st.sampled_from(RATES), count=st.integers(0, 5_000))
@settings(max_examples=60)
def test_the_length_is_kaldis(a: int, b: int, count: int) -> None:
    # GetNumOutputSamples, flushed: the samples in [0, count / a) at the rate b, in ticks of the common multiple.
    tick = a * b // gcd(a, b)
    interval, step = count * (tick // a), tick // b
    last = interval // step - (interval % step == 0)
    assert len(resample(noise(count), a, b)) == (last + 1 if interval > 0 else 0)


TO_16_KHZ = [(a, 16_000) for a in (8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000)]


@pytest.mark.parametrize(("a", "b"), [*TO_16_KHZ, (16_000, 48_000), (48_000, 8_000), (16_000, 192_000)])
def test_a_tone_keeps_frequency_phase_and_size(a: int, b: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(a) / a).astype(np.float32)
    output = resample(tone, a, b)
    wanted = np.sin(2 * np.pi * 440 * np.arange(b) / b)
    # 6 zero crossings ripple by less than -60 dB in the passband; the ends see silence beyond them.
    assert np.abs(output - wanted)[100:-100].max() < 1e-3


@pytest.mark.parametrize(("a", "b"), TO_16_KHZ)
@pytest.mark.parametrize("hz", [100, 997, 2_000])
def test_the_spectrum_has_the_tone_and_nothing_else(a: int, b: int, hz: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(2 * a) / a).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(resample(tone, a, b)[b // 2 : b // 2 + b])) / (b / 2)  # a bin a hertz
    assert spectrum.argmax() == hz and spectrum[hz] == pytest.approx(0.5, rel=2.5e-3)  # 0.02 dB
    assert np.delete(spectrum, hz).max() < 1e-3  # 54 dB below


def test_tones_above_the_new_nyquist_frequency_vanish() -> None:
    tone = np.sin(2 * np.pi * 6_000 * np.arange(16_000) / 16_000).astype(np.float32)
    assert np.abs(resample(tone, 16_000, 8_000))[100:-100].max() < 2e-3


def test_the_same_rate_gives_the_samples_back_as_a_copy() -> None:
    samples = noise(100)
    output = resample(samples, 16_000, 16_000)
    assert output.tobytes() == samples.tobytes()
    assert not np.shares_memory(output, samples)


def test_a_long_stream_keeps_little() -> None:
    stream = LinearResampler(44_100, 16_000)
    for _ in range(50):
        stream.accept(noise(4_410))
    assert len(stream._kept) < 100


@pytest.mark.parametrize("rate", [0, -16_000, 999, 10**9, 16_000.5, True])
def test_impossible_rates_are_refused(rate: int) -> None:
    with pytest.raises(DataError, match="sample rate"):
        resample(noise(10), rate, 16_000)


@pytest.mark.parametrize("rate", [96_001, 191_999, 767_999])
def test_rates_with_too_large_a_filter_are_refused(rate: int) -> None:
    with pytest.raises(
        DataError, match=f"from {rate} to 16000 Hz: expected a filter of at most 1000000 weights, found more"
    ):
        LinearResampler(rate, 16_000)


@pytest.mark.parametrize("rate", [7_919, 44_100, 79_999, 88_200, 96_000, 176_400, 192_000, 352_800, 384_000, 768_000])
@pytest.mark.parametrize("model", [8_000, 16_000])
def test_all_rates_to_80_khz_and_the_usual_ones_above_have_a_filter(rate: int, model: int) -> None:
    assert len(resample(noise(rate // 100), rate, model)) == ceil(rate // 100 * model / rate)


def test_two_channels_are_refused() -> None:
    with pytest.raises(DataError, match=r"one channel .* \(2, 10\)"):
        resample(noise(20).reshape(2, 10), 8_000, 16_000)
