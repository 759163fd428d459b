"""The compiled network against the NumPy definition: every architecture, batch and chunking, to the bit."""

from __future__ import annotations

import dataclasses
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

native = pytest.importorskip("sottovoce._native", reason="installed without a compiler")

from native_cases import same_bits  # noqa: E402

from sottovoce.decoding import beam_search, greedy_search  # noqa: E402
from sottovoce.decoding.protocol import State  # noqa: E402
from sottovoce.errors import ConfigError, FormatError  # noqa: E402
from sottovoce.packed import Pcen, RnntArchitecture  # noqa: E402
from sottovoce.runtime import NativeRnnt, PackedRnnt, Recognizer, make_network  # noqa: E402
from sottovoce.runtime.native import NotPackedError  # noqa: E402
from sottovoce.runtime.rules import Arithmetic  # noqa: E402

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
SMALL, random_model, speaking_model = tiny["SMALL"], tiny["random_model"], tiny["speaking_model"]
ARITHMETICS: tuple[Arithmetic, ...] = ("int8", "accelerator")
PATHS = [name for name, available in native.kernel_paths() if available]
ARCHITECTURES = [
    SMALL,
    dataclasses.replace(SMALL, stack=3, stride=3, reduction=3, reduction_after=2, layer_norm=False),
    dataclasses.replace(SMALL, stack=5, stride=1, reduction=2, reduction_after=0, encoder_layers=1),
    dataclasses.replace(SMALL, stack=1, stride=1, reduction=4, reduction_after=1, encoder_layers=3),
    dataclasses.replace(SMALL, features=131, pcen=Pcen(smoothing=0.05, gain=0.9, bias=1.0)),
    dataclasses.replace(SMALL, pcen=Pcen(smoothing=1.0, gain=0.0, bias=0.0), encoder_units=40, joiner_units=33),
]


def features_of(n: int, frames: int, a: RnntArchitecture, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (n, frames, a.features)).astype(np.float32)


def same_state(found: State, expected: State) -> bool:
    return len(found) == len(expected) and all(
        same_bits(f, np.ascontiguousarray(e)) for f, e in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("a", ARCHITECTURES)
@pytest.mark.parametrize("path", PATHS)
def test_batches_give_the_same_frames_and_states(a: RnntArchitecture, path: str, arithmetic: Arithmetic) -> None:
    model = random_model(a)
    definition = PackedRnnt(model, arithmetic=arithmetic)
    network = NativeRnnt(model, kernel=path, num_threads=2, arithmetic=arithmetic)
    assert network.kernel == path
    for n, frames in ((1, 0), (1, 1), (3, 37), (0, 5), (70, 9)):
        features = features_of(n, frames, a)
        found, after = network.encoder_step(features, network.encoder_start(n))
        expected, state = definition.encoder_step(features, definition.encoder_start(n)) if n else (found, after)
        assert same_bits(found, np.ascontiguousarray(expected)), (n, frames)
        assert same_state(after, state), (n, frames)
    lengths = np.array([37, 24, 3])
    features = features_of(3, 37, a)
    for f, e in zip(network.encode(features, lengths), definition.encode(features, lengths), strict=True):
        np.testing.assert_array_equal(f, e)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("a", ARCHITECTURES)
@given(cuts=st.lists(st.integers(0, 61), max_size=9), seed=st.integers(0, 99), n=st.integers(1, 3))
@settings(max_examples=25)
def test_any_chunking_gives_the_same_bits(
    a: RnntArchitecture, arithmetic: Arithmetic, cuts: list[int], seed: int, n: int
) -> None:
    model, features = random_model(a, seed), features_of(n, 61, a, seed)
    definition, network = PackedRnnt(model, arithmetic=arithmetic), NativeRnnt(model, arithmetic=arithmetic)
    state, reference = network.encoder_start(n), definition.encoder_start(n)
    for piece in np.split(features, sorted(cuts), axis=1):
        before = [array.copy() for array in state]
        found, after = network.encoder_step(piece, state)
        expected, reference = definition.encoder_step(piece, reference)
        assert same_bits(found, np.ascontiguousarray(expected))
        assert same_state(after, reference)
        np.testing.assert_equal(list(state), before)  # what is given is never changed
        state = after


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("a", ARCHITECTURES)
@pytest.mark.parametrize("path", PATHS)
def test_predictor_and_joiner_to_the_bit(a: RnntArchitecture, path: str, arithmetic: Arithmetic) -> None:
    model, rng = random_model(a, 3), np.random.default_rng(0)
    definition = PackedRnnt(model, arithmetic=arithmetic)
    network = NativeRnnt(model, kernel=path, arithmetic=arithmetic)
    assert network.vocabulary == definition.vocabulary
    state, reference = network.predictor_start(5), definition.predictor_start(5)
    for _ in range(20):
        tokens = rng.integers(-1, a.vocabulary, 5)
        found, state = network.predictor_step(tokens, state)
        expected, reference = definition.predictor_step(tokens, reference)
        assert same_bits(found, expected)
        assert same_state(state, reference)
        encoder = rng.normal(0, 3, (5, 3, a.joiner_units)).astype(np.float32)[:, 1]  # not contiguous
        assert same_bits(network.joiner(encoder, found), definition.joiner(encoder, expected))


@pytest.mark.parametrize("a", ARCHITECTURES)
def test_searches_give_the_same_hypotheses_and_scores(a: RnntArchitecture) -> None:
    model = random_model(a, 1)
    features, lengths = features_of(6, 400, a, 1), np.array([400, 399, 200, 50, 7, 400])
    results: list[list[Any]] = []
    for network in (PackedRnnt(model), NativeRnnt(model)):
        frames, counts = network.encode(features, lengths)
        greedy = greedy_search(network, frames, counts, max_symbols=3)
        results.append([greedy, beam_search(network, frames, counts, beam=4)])
    assert results[0] == results[1]
    assert any(nbest.best.tokens for nbest in results[0][0])


def test_a_stream_of_thousands_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    model = speaking_model(input={"kind": "features", "dim": 13, "rate": 100})
    features = np.random.default_rng(0).normal(0, 2, (6000, 13)).astype(np.float32)
    for options in ({"max_symbols": 2}, {"method": "beam", "beam": 3}, {"arithmetic": "accelerator"}):
        found = []
        for kernel in ("numpy", ""):
            monkeypatch.setenv("SOTTOVOCE_KERNEL", kernel)
            recognizer = Recognizer(model, **options)  # type: ignore[arg-type]
            assert isinstance(recognizer.network, PackedRnnt if kernel else NativeRnnt)
            stream, rng, at = recognizer.create_stream(), np.random.default_rng(1), 0
            while at < len(features):
                size = int(rng.integers(1, 300))
                stream.accept_features(features[at : at + size])
                recognizer.decode_stream(stream)
                at += size
            found.append(recognizer.get_nbest(stream))
        assert found[0] == found[1]
        assert len(found[0][0].ids) > 100


def test_which_network_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOTTOVOCE_KERNEL", raising=False)
    assert isinstance(make_network(random_model()), NativeRnnt)
    assert isinstance(make_network(random_model(), arithmetic="float"), PackedRnnt)
    assert isinstance(make_network(random_model(), arithmetic="accelerator"), NativeRnnt)
    with pytest.raises(ConfigError, match="arithmetic: the kernels multiply integers"):
        NativeRnnt(random_model(), arithmetic="float")
    with pytest.raises(ConfigError, match="arithmetic: expected one of int8, float, accelerator, found 'int4'"):
        make_network(random_model(), arithmetic="int4")  # type: ignore[arg-type]
    floats = random_model(packed=False)
    assert isinstance(make_network(floats), PackedRnnt)
    with pytest.raises(FormatError, match=r"weight_ih_l0: this arithmetic expects a packed matrix, found float32"):
        make_network(floats, arithmetic="accelerator")
    with pytest.raises(NotPackedError, match=r"weight_ih_l0: expected a packed matrix, found float32"):
        NativeRnnt(floats)
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "portable")
    network = make_network(random_model())
    assert isinstance(network, NativeRnnt) and network.kernel == "portable"
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "sse9")
    with pytest.raises(ConfigError, match=r"SOTTOVOCE_KERNEL: expected one of .*portable, numpy.*found 'sse9'"):
        make_network(random_model())
    for kernel, forced in (("sse9", ""), ("neon" if "neon" not in PATHS else "avx2", ""), ("", "numpy")):
        monkeypatch.setenv("SOTTOVOCE_KERNEL", forced)
        with pytest.raises(ConfigError, match=r"kernel: expected one of .*portable"):
            NativeRnnt(random_model(), kernel=kernel)
    monkeypatch.delenv("SOTTOVOCE_KERNEL")
    for threads in (0, 257, True):
        with pytest.raises(ConfigError, match="num_threads"):
            NativeRnnt(random_model(), num_threads=threads)


def test_the_same_errors_as_numpy() -> None:
    for break_it in ("missing", "shape", "type", "architecture"):
        model = random_model()
        tensors: dict[str, Any] = dict(model.tensors)
        if break_it == "missing":
            del tensors["predictor.lstm.weight_hh_l1"]
        elif break_it == "shape":
            tensors["joiner.output.bias"] = np.zeros(5, np.float32)
        elif break_it == "type":
            tensors["encoder.mean"] = np.zeros(SMALL.features, np.int32)
        architecture = {**model.architecture, **({"type": "ctc"} if break_it == "architecture" else {})}
        broken = dataclasses.replace(model, tensors=tensors, architecture=architecture)
        texts = []
        for network in (PackedRnnt, NativeRnnt):
            with pytest.raises(FormatError) as caught:
                network(broken)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]


def test_aliases_are_followed() -> None:
    model = random_model(dataclasses.replace(SMALL, predictor_units=8, embedding=8))
    tensors = dict(model.tensors)
    del tensors["predictor.lstm.weight_hh_l1"]
    tied = dataclasses.replace(
        model, tensors=tensors, aliases={"predictor.lstm.weight_hh_l1": "predictor.lstm.weight_hh_l0"}
    )
    found, expected = NativeRnnt(tied), PackedRnnt(tied)
    tokens = np.array([2, -1])
    assert same_bits(
        found.predictor_step(tokens, found.predictor_start(2))[0],
        expected.predictor_step(tokens, expected.predictor_start(2))[0],
    )


def test_the_boundary_refuses_wrong_states_and_tokens() -> None:
    network = NativeRnnt(random_model())
    state, features = network.encoder_start(2), features_of(2, 8, SMALL)
    with pytest.raises(ValueError, match="expected 7 arrays, found 6"):
        network.encoder_step(features, state[:-1])
    with pytest.raises(ValueError, match="features"):
        network.encoder_step(features[:, :, :4], state)
    with pytest.raises(ValueError, match=r"state of layer 0\.h"):
        network.encoder_step(features[:1], (*(array[:1] for array in state[:3]), *state[3:]))
    for token in (SMALL.vocabulary, 2**40):
        with pytest.raises(IndexError, match="expected an id below 12"):
            network.predictor_step(np.array([0, token]), network.predictor_start(2))
    with pytest.raises(ValueError, match="predictor"):
        network.joiner(np.zeros((2, 9), np.float32), np.zeros((1, 9), np.float32))


def test_streamed_bytes_count_the_steps_before_the_reduction_twice() -> None:
    once = dataclasses.replace(SMALL, reduction=1)
    twice = NativeRnnt(random_model(dataclasses.replace(SMALL, reduction=2))).streamed_bytes
    single = NativeRnnt(random_model(once)).streamed_bytes
    assert twice.predictor == single.predictor and twice.joiner == single.joiner
    assert twice.encoder > single.encoder


@pytest.mark.slow
def test_a_stream_of_a_hundred_thousand_frames() -> None:
    a = dataclasses.replace(SMALL, pcen=Pcen())
    model, features = random_model(a, 2), features_of(1, 100_000, a)
    definition, network = PackedRnnt(model), NativeRnnt(model, num_threads=2)
    expected, reference = definition.encoder_step(features, definition.encoder_start(1))
    assert same_bits(network.encoder_step(features, network.encoder_start(1))[0], expected)
    state, pieces = network.encoder_start(1), []
    for start in range(0, 100_000, 10):
        found, state = network.encoder_step(features[:, start : start + 10], state)
        pieces.append(found)
    assert same_bits(np.concatenate(pieces, axis=1), expected)
    assert same_state(state, reference)


def test_fifty_streams_together_are_each_as_alone() -> None:
    recognizer = Recognizer(speaking_model(input={"kind": "features", "dim": 13, "rate": 100}), num_threads=2)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(0, 2, (int(rng.integers(1, 200)), 13)).astype(np.float32) for _ in range(50)]
    streams = [recognizer.create_stream() for _ in inputs]
    for start in range(0, 200, 17):
        for stream, features in zip(streams, inputs, strict=True):
            stream.accept_features(features[start : start + 17])
        recognizer.decode_streams(streams)
    alone = [recognizer.transcribe_batch([features])[0] for features in inputs]
    assert [recognizer.get_result(stream) for stream in streams] == alone
    assert any(result.ids for result in alone)


def test_threads_may_share_one_network() -> None:
    model = random_model(seed=4)
    network, definition = NativeRnnt(model, num_threads=2), PackedRnnt(model)
    inputs = [features_of(2, 500, SMALL, seed) for seed in range(8)]

    def run(features: np.ndarray) -> np.ndarray:
        state, pieces = network.encoder_start(2), []
        for piece in np.split(features, range(5, 500, 5), axis=1):
            found, state = network.encoder_step(piece, state)
            pieces.append(found)
        return np.concatenate(pieces, axis=1)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, inputs))
    for frames, features in zip(found, inputs, strict=True):
        assert same_bits(frames, definition.encoder_step(features, definition.encoder_start(2))[0])
