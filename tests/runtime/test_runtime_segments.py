"""Endpoints, resets and hotwords through the recognizer, and streams beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_runtime_recognizer import FEATURES_MODEL, MODEL, sound
from tiny_rnnt import speaking_model

from sottovoce.errors import ConfigError, DataError
from sottovoce.runtime import EndpointRule, EndpointRules, Recognizer, Result, Stream

NEVER = EndpointRule(True, 1e6, 1e6)
SHORT = EndpointRules(NEVER, EndpointRule(True, 0.12, 0.0), EndpointRule(False, 0.0, 1.0))


def feed(recognizer: Recognizer, samples: np.ndarray, chunk: int, *, reset: bool) -> tuple[list[Result], Stream]:
    stream, found = recognizer.create_stream(), []
    for start in range(0, len(samples), chunk):
        stream.accept_waveform(16_000, samples[start : start + chunk])
        recognizer.decode_stream(stream)
        if reset and recognizer.is_endpoint(stream):
            found.append(recognizer.get_result(stream))
            recognizer.reset(stream)
    return [*found, recognizer.get_result(stream)], stream


@pytest.mark.parametrize("options", [{}, {"method": "beam", "beam": 1}])
def test_segments_go_on_in_the_clock_and_the_state_of_the_stream(options: dict[str, Any]) -> None:
    recognizer, samples = Recognizer(MODEL, endpoint=SHORT, **options), sound(12.0)
    segments, stream = feed(recognizer, samples, 1_600, reset=True)
    [whole], _ = feed(recognizer, samples, 1_600, reset=False)
    assert len(segments) > 5 and stream.segment > 3
    for name in ("ids", "tokens", "times", "log_probs"):
        assert sum((getattr(segment, name) for segment in segments), ()) == getattr(whole, name)
    assert sum(segment.score for segment in segments) == pytest.approx(whole.score)
    numbers = [segment.segment for segment in segments]
    assert numbers == [sum(bool(s.tokens) for s in segments[:i]) for i in range(len(segments))]
    starts = [segment.start_time for segment in segments]
    assert starts == sorted(set(starts)) and starts[0] == 0
    for segment, end in zip(segments, [*starts[1:], 12.0], strict=True):
        assert all(segment.start_time <= word.start < word.end <= end + 1e-9 for word in segment.words)


def test_silence_ends_by_rule_one_and_speech_by_rule_two() -> None:
    recognizer, rng = Recognizer(FEATURES_MODEL), np.random.default_rng(0)
    stream = recognizer.create_stream()
    assert not recognizer.is_endpoint(stream)
    quiet = silent_features(recognizer)
    frames = 0
    while not recognizer.is_endpoint(stream):
        stream.accept_features(quiet)
        recognizer.decode_stream(stream)
        frames += len(quiet)
    assert recognizer.get_result(stream).tokens == () and frames / 50 == pytest.approx(2.4, abs=0.09)
    recognizer.reset(stream)
    assert not recognizer.is_endpoint(stream) and stream.segment == 0
    while not recognizer.get_result(stream).tokens:
        stream.accept_features(rng.normal(0, 2, (8, 13)))
        recognizer.decode_stream(stream)
    frames = 0
    while not recognizer.is_endpoint(stream):
        stream.accept_features(quiet)
        recognizer.decode_stream(stream)
        frames += len(quiet)
    result = recognizer.get_result(stream)
    now = stream.decoded // 4 * recognizer.frame_seconds
    assert now - (result.times[-1] + recognizer.frame_seconds) == pytest.approx(1.2, abs=0.09)


def silent_features(recognizer: Recognizer) -> np.ndarray:
    """Four frames that the network says nothing to, however often they come."""
    for seed in range(100):
        quiet = np.repeat(np.random.default_rng(seed).normal(0, 2, (1, 13)), 4, axis=0)
        stream = recognizer.create_stream()
        stream.accept_features(np.tile(quiet, (60, 1)))
        recognizer.decode_stream(stream)
        if not recognizer.get_result(stream).tokens:
            return quiet
    raise AssertionError("the random network says something to all of them")


def test_hotwords_of_the_recognizer_and_of_a_stream() -> None:
    plain, samples = Recognizer(MODEL, method="beam"), sound(3.0)
    with_hotword = Recognizer(MODEL, method="beam", hotwords=["zero"], hotwords_score=8.0)
    assert "zero" not in plain.transcribe(samples, 16_000).text
    assert "zero" in with_hotword.transcribe(samples, 16_000).text
    streams = [plain.create_stream(), plain.create_stream(["zero :8"]), plain.create_stream("zero :8/seven")]
    for stream in streams:
        stream.accept_waveform(16_000, samples)
        stream.input_finished()
    plain.decode_streams(streams)
    assert plain.get_result(streams[0]) == plain.transcribe(samples, 16_000)
    assert plain.get_nbest(streams[1]) == with_hotword_nbest(with_hotword, samples)
    assert "zero" in plain.get_result(streams[2]).text


def with_hotword_nbest(recognizer: Recognizer, samples: np.ndarray) -> list[Result]:
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, samples)
    stream.input_finished()
    recognizer.decode_stream(stream)
    return recognizer.get_nbest(stream)


def test_hotwords_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="hotword 'Kubernetes': the model's tokenizer has no tokens"):
        Recognizer(MODEL, method="beam", hotwords=["one", "Kubernetes"])
    with pytest.raises(ConfigError, match="hotwords need a beam search"):
        Recognizer(MODEL, hotwords=["one"])
    with pytest.raises(ConfigError, match="hotwords need a beam search"):
        Recognizer(MODEL).create_stream("one")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"method": "beam", "beam": 3, "hotwords": ["one", "two"]}])
def test_fifty_streams_with_ragged_chunks_are_each_as_alone(options: dict[str, Any]) -> None:
    recognizer, rng = Recognizer(MODEL, endpoint=SHORT, **options), np.random.default_rng(0)
    rates = rng.choice([8_000, 16_000, 44_100], 50)
    sounds = [sound(float(rng.uniform(0.3, 3)), seed, int(rate)) for seed, rate in enumerate(rates)]
    alone = [recognizer.transcribe(samples, int(rate)) for samples, rate in zip(sounds, rates, strict=True)]
    streams, at = [recognizer.create_stream() for _ in sounds], [0] * 50
    while any(place < len(samples) for place, samples in zip(at, sounds, strict=True)):
        busy = rng.permutation(50)[: rng.integers(1, 51)]
        for i in busy:
            count = int(rng.integers(0, 9_000))
            streams[i].accept_waveform(int(rates[i]), sounds[i][at[i] : at[i] + count])
            at[i] += count
        recognizer.decode_streams([streams[i] for i in rng.permutation(50)[: rng.integers(0, 51)]])
    for stream in streams:
        stream.input_finished()
    recognizer.decode_streams(streams)
    assert [recognizer.get_result(stream) for stream in streams] == alone
    assert len({result.text for result in alone}) > 25


def test_a_stream_of_another_recognizer_is_refused() -> None:
    stream = Recognizer(MODEL).create_stream()
    with pytest.raises(DataError, match="another recognizer"):
        Recognizer(MODEL).decode_stream(stream)


def test_a_stream_given_twice_is_refused() -> None:
    recognizer = Recognizer(MODEL)
    stream = recognizer.create_stream()
    with pytest.raises(DataError, match="given twice"):
        recognizer.decode_streams([stream, stream])


@pytest.mark.slow
def test_a_long_stream_that_is_reset_holds_no_more_than_at_first() -> None:
    """What a stream holds after one minute and after five, by what can be reached from it."""
    recognizer = Recognizer(speaking_model(1), method="beam", endpoint=SHORT)
    stream, sizes = recognizer.create_stream(), []
    for minute in range(5):
        for second in range(60):
            stream.accept_waveform(44_100, sound(1.0, second, 44_100))
            recognizer.decode_stream(stream)
            if recognizer.is_endpoint(stream):
                recognizer.reset(stream)
        sizes.append(held_bytes(stream))
        del minute
    assert max(sizes[1:]) < 1.5 * sizes[0]


def held_bytes(stream: Stream) -> int:
    """Bytes of the arrays of a stream, and an allowance for each token of its hypotheses."""
    resampler = stream._fbank._resampler  # type: ignore[union-attr]
    arrays = [*stream.encoder, *stream.search.predictor, stream._features, resampler._kept]  # type: ignore[union-attr]
    tokens = set()
    for trace in stream.search.traces.ravel():
        while trace.parent is not None and id(trace) not in tokens:
            tokens.add(id(trace))
            trace = trace.parent
    return sum(array.nbytes for array in arrays) + 100 * len(tokens)
