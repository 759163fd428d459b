"""The packed network: against torch in floats, against plain integers in int8, in chunks and in batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_rnnt import SMALL, random_matrix, random_model, shapes

from sottovoce.decoding import beam_search, greedy_search
from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, PackedModel, Pcen, RnntArchitecture
from sottovoce.runtime import PackedRnnt
from sottovoce.runtime.arithmetic import quantize_activations, sigmoid, tanh
from sottovoce.runtime.layers import Dense, EmbeddingRows, LstmLayer, as_floats, as_weight

ARCHITECTURES = [
    SMALL,
    dataclasses.replace(SMALL, stack=3, stride=3, reduction=3, reduction_after=2, layer_norm=False),
    dataclasses.replace(SMALL, stack=5, stride=1, reduction=2, reduction_after=0, encoder_layers=1),
    dataclasses.replace(SMALL, stack=1, stride=1, reduction=4, reduction_after=1, encoder_layers=3),
    dataclasses.replace(SMALL, pcen=Pcen(smoothing=0.05, gain=0.9, bias=1.0)),
]


def random_features(n: int, frames: int, a: RnntArchitecture = SMALL, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (n, frames, a.features)).astype(np.float32)


def by_definition(features: np.ndarray, settings: Pcen) -> np.ndarray:
    """Pcen's docstring, word by word, in float64."""
    energy = np.exp(features.astype(np.float64))
    level, found = np.full_like(energy[:, 0], 1e-3), []
    for t in range(energy.shape[1]):
        level = (1 - settings.smoothing) * level + settings.smoothing * energy[:, t]
        found.append(np.sqrt(energy[:, t] / (1e-6 + level) ** settings.gain + settings.bias) - np.sqrt(settings.bias))
    return np.stack(found, axis=1)


def torch_encoder(model: PackedModel, a: RnntArchitecture, features: np.ndarray) -> np.ndarray:
    """RnntArchitecture's docstring, word by word, in torch float64 on the decoded weights."""
    torch = pytest.importorskip("torch")

    def tensor(name: str) -> Any:
        return torch.from_numpy(model.decode(name).astype(np.float64))

    x = torch.from_numpy(by_definition(features, a.pcen) if a.pcen else features.astype(np.float64))
    x = (x - tensor("encoder.mean")) * tensor("encoder.istd")
    past = torch.zeros(len(x), a.stack - a.stride, a.features, dtype=torch.float64)
    x = torch.cat([past, x], 1).unfold(1, a.stack, a.stride).permute(0, 1, 3, 2).flatten(2)
    for i, width in enumerate(a.layer_inputs()):
        lstm = torch.nn.LSTM(width, a.encoder_units, batch_first=True).double()
        lstm.load_state_dict({name: tensor(f"encoder.layers.{i}.{name}") for name in lstm.state_dict()})
        with torch.no_grad():
            x = lstm(x)[0]
        if a.layer_norm:
            weight, bias = tensor(f"encoder.norms.{i}.weight"), tensor(f"encoder.norms.{i}.bias")
            x = torch.nn.functional.layer_norm(x, (a.encoder_units,), weight, bias, 1e-5)
        if i + 1 == a.reduction_after:
            count = x.shape[1] // a.reduction
            x = x[:, : count * a.reduction].reshape(len(x), count, -1)
    x = torch.nn.functional.linear(x, tensor("encoder.projection.weight"), tensor("encoder.projection.bias"))
    return np.asarray(x)


@pytest.mark.parametrize("a", ARCHITECTURES)
@pytest.mark.parametrize("packed", [True, False])
def test_float_activations_agree_with_torch(a: RnntArchitecture, packed: bool) -> None:
    model = random_model(a, packed=packed)
    features = random_features(3, 37, a)
    frames, lengths = PackedRnnt(model, arithmetic="float" if packed else "int8").encode(
        features, np.array([37, 24, 3])
    )
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(lengths, [a.output_frames(37), a.output_frames(24), a.output_frames(3)])
    assert frames.shape == (3, a.output_frames(37), a.joiner_units)
    np.testing.assert_allclose(frames, torch_encoder(model, a, features), atol=1e-5, rtol=1e-5)  # float32


def test_predictor_and_joiner_agree_with_torch() -> None:
    torch = pytest.importorskip("torch")
    model, a = random_model(), SMALL
    network = PackedRnnt(model, arithmetic="float")

    def tensor(name: str) -> Any:
        return torch.from_numpy(model.decode(name).astype(np.float64))

    tokens = np.array([[-1, 3, 7, 1], [-1, 11, 11, 2]])
    lstm = torch.nn.LSTM(a.embedding, a.predictor_units, a.predictor_layers, batch_first=True).double()
    lstm.load_state_dict({name: tensor(f"predictor.lstm.{name}") for name in lstm.state_dict()})
    embedded = tensor("predictor.embedding.weight")[np.maximum(tokens, 0)] * torch.from_numpy(tokens >= 0)[..., None]
    with torch.no_grad():
        hidden = lstm(embedded)[0]
    linear = torch.nn.functional.linear
    expected = linear(hidden, tensor("predictor.projection.weight"), tensor("predictor.projection.bias"))
    state = network.predictor_start(2)
    for column in range(tokens.shape[1]):
        output, state = network.predictor_step(tokens[:, column], state)
        np.testing.assert_allclose(output, expected[:, column], atol=1e-5)
        encoder = random_features(2, 1, dataclasses.replace(a, features=a.joiner_units), seed=column)[:, 0]
        joined = torch.tanh(torch.from_numpy(encoder.astype(np.float64)) + expected[:, column])
        logits = linear(joined, tensor("joiner.output.weight"), tensor("joiner.output.bias"))
        np.testing.assert_allclose(network.joiner(encoder, output), torch.log_softmax(logits, 1), atol=1e-4)


def plain_product(x: np.ndarray, matrix: PackedMatrix) -> np.ndarray:
    """docs/design.md section 7 in integers: float32(sum) * (row_scale * s)."""
    q, s = quantize_activations(x)
    total = q.astype(np.int64) @ matrix.level_matrix().astype(np.int64).T
    return total.astype(np.float32) * (matrix.row_scale() * s)


@pytest.mark.parametrize("columns", [3, 40, 2500])
def test_a_dense_layer_is_the_integer_product_to_the_bit(columns: int) -> None:
    rng = np.random.default_rng(columns)
    matrix, bias = random_matrix(rng, 7, columns), rng.normal(size=7).astype(np.float32)
    x = rng.normal(0, 3, (4, 5, columns)).astype(np.float32)
    got = Dense(as_weight(matrix, "w"), bias)(x)
    np.testing.assert_array_equal(got, plain_product(x, matrix) + bias)
    exact = x.astype(np.float64) @ matrix.decode().astype(np.float64).T + bias
    assert np.abs(got - exact).max() < 0.05 * np.abs(exact).max()  # int8 activations are near, not equal


def test_an_lstm_step_is_its_definition_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    w_ih, w_hh, bias = random_matrix(rng, 24, 9), random_matrix(rng, 24, 6), rng.normal(size=24).astype(np.float32)
    layer = LstmLayer(as_weight(w_ih, "ih"), as_weight(w_hh, "hh"), bias)
    x = rng.normal(size=(2, 5, 9)).astype(np.float32)
    h = c = np.zeros((2, 6), np.float32)
    outputs, last_h, last_c = layer(x, h, c)
    for t in range(5):
        i, f, g, o = np.split((plain_product(x[:, t], w_ih) + plain_product(h, w_hh)) + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        np.testing.assert_array_equal(outputs[:, t], h)
    np.testing.assert_array_equal(last_h, h)
    np.testing.assert_array_equal(last_c, c)


def test_an_embedding_of_no_history_is_zero() -> None:
    matrix = random_matrix(np.random.default_rng(0), 6, 4)
    rows = EmbeddingRows(as_floats(matrix))(np.array([-1, 0, 5]))
    np.testing.assert_array_equal(rows, np.stack([np.zeros(4), *matrix.decode()[[0, 5]]]))


@pytest.mark.parametrize("a", ARCHITECTURES)
@given(cuts=st.lists(st.integers(0, 41), max_size=8), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_any_chunking_gives_the_same_bits(a: RnntArchitecture, cuts: list[int], seed: int) -> None:
    network, features = PackedRnnt(random_model(a, seed)), random_features(2, 41, a, seed)
    whole, _ = network.encode(features, np.array([41, 41]))
    state, parts = network.encoder_start(2), []
    for chunk in np.split(features, sorted(cuts), axis=1):
        frames, state = network.encoder_step(chunk, state)
        parts.append(frames)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("a", ARCHITECTURES)
def test_a_padded_batch_gives_the_same_bits_as_each_alone(a: RnntArchitecture) -> None:
    network, features = PackedRnnt(random_model(a)), random_features(5, 41, a)
    given_lengths = np.array([41, 17, 0, 3, 40])
    frames, lengths = network.encode(features, given_lengths)
    found = {search: search(network, frames, lengths) for search in (greedy_search, beam_search)}
    assert any(nbest.best.tokens for nbest in found[greedy_search])
    for i, length in enumerate(given_lengths):
        alone, alone_length = network.encode(features[i : i + 1, :length], np.array([length]))
        np.testing.assert_array_equal(alone[0], frames[i, : lengths[i]])
        for search, results in found.items():
            assert search(network, alone, alone_length) == [results[i]]


def test_int8_activations_stay_near_the_float_ones() -> None:
    model, features = random_model(), random_features(4, 60)
    ours, _ = PackedRnnt(model).encode(features, np.full(4, 60))
    floats, _ = PackedRnnt(model, arithmetic="float").encode(features, np.full(4, 60))
    assert not np.array_equal(ours, floats)
    assert np.abs(ours - floats).mean() < 0.05 * np.abs(floats).mean()


def without(model: PackedModel, name: str, **replaced: Any) -> PackedModel:
    tensors = {key: value for key, value in model.tensors.items() if key != name}
    return dataclasses.replace(model, tensors=tensors | replaced)


@pytest.mark.parametrize("name", sorted(shapes(SMALL)))
def test_missing_and_misshapen_tensors_are_named(name: str) -> None:
    model = random_model()
    with pytest.raises(FormatError, match=f"^{name}: expected a tensor of shape .*, found none"):
        PackedRnnt(without(model, name))
    wrong = {name: np.zeros((3, 2), np.float32)}
    with pytest.raises(FormatError, match=rf"^{name}: expected shape .*, found \(3, 2\)"):
        PackedRnnt(without(model, name, **wrong))


def test_integers_in_place_of_floats_and_other_networks_are_refused() -> None:
    model = random_model()
    integers = {"encoder.mean": np.zeros(SMALL.features, np.int64)}
    with pytest.raises(FormatError, match=r"encoder\.mean: expected floats, found int64"):
        PackedRnnt(without(model, "encoder.mean", **integers))
    with pytest.raises(FormatError, match="expected type 'rnnt', found 'lm'"):
        PackedRnnt(dataclasses.replace(model, architecture={"type": "lm"}))


def test_tied_weights_are_read_through_their_alias() -> None:
    a = dataclasses.replace(SMALL, encoder_layers=3, reduction_after=0, stack=1, stride=1)
    model = random_model(a)
    name, twin = "encoder.layers.1.weight_hh_l0", "encoder.layers.2.weight_hh_l0"
    stored = {name: model.tensors[name], twin: model.tensors[name]}
    copied = dataclasses.replace(model, tensors=dict(model.tensors) | stored)
    tied = dataclasses.replace(without(copied, twin), aliases={twin: name})
    features = random_features(1, 9, a)
    first, second = (PackedRnnt(m).encode(features, np.array([9]))[0] for m in (copied, tied))
    np.testing.assert_array_equal(first, second)
