"""Elementwise functions and layers on every kernel path, bit for bit the NumPy definition."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

native = pytest.importorskip("sottovoce._native", reason="installed without a compiler")

from native_cases import make_matrix, native_bands, same_bits  # noqa: E402

from sottovoce.runtime import accelerator, arithmetic  # noqa: E402
from sottovoce.runtime.layers import Dense, EmbeddingRows, LstmLayer, as_floats, as_weight  # noqa: E402
from sottovoce.runtime.rules import Arithmetic, rules_of  # noqa: E402

PATHS = [name for name, available in native.kernel_paths() if available]
THREADS = {n: native.Threads(n) for n in (1, 2)}
finite = st.floats(-(2.0**100), 2.0**100, width=32)


ARITHMETICS: tuple[Arithmetic, ...] = ("int8", "accelerator")


def lstm_pair(
    seed: int, inputs: int, units: int, path: str, threads: int = 1, name: Arithmetic = "int8"
) -> tuple[LstmLayer, object]:
    rng = np.random.default_rng(seed)
    wide = make_matrix(rng, inputs, (5, 3 * units), (2, units))
    recurrent = make_matrix(rng, units, (4, 4 * units))
    bias = rng.normal(size=4 * units).astype(np.float32)
    kernels = [native.Matrix(m.columns, native_bands(m), path, THREADS[threads]) for m in (wide, recurrent)]
    rules = rules_of(name)
    weights = as_weight(wide, "wide", rules), as_weight(recurrent, "recurrent", rules)
    return LstmLayer(*weights, bias, rules.lstm_cell), native.LstmLayer(*kernels, bias, name)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "log"])
def test_elementwise_functions_on_all_kinds_of_numbers(path: str, name: str) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 400_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], np.linspace(-100, 100, 100_001).astype(np.float32)])
    if name == "log":
        x = np.abs(x)
        x = x[x >= np.finfo(np.float32).tiny]
    else:
        x = np.concatenate([x, np.float32([-np.inf, np.inf, 0.0, -0.0])])
    with np.errstate(all="ignore"):
        expected = getattr(arithmetic, name)(x)
    assert same_bits(getattr(native, name)(x, path), expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_gates_from_tables_on_all_kinds_of_numbers(path: str, name: str) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 400_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], np.linspace(-9, 9, 300_001).astype(np.float32)])
    x = np.concatenate([x, np.float32([-np.inf, np.inf, 0.0, -0.0])])
    assert same_bits(getattr(native, name)(x, path, "accelerator"), getattr(accelerator, name)(x))


@settings(max_examples=100)
@given(st.lists(finite, min_size=1, max_size=150), st.sampled_from(PATHS))
def test_fixed_point_activations_of_any_row(values: list[float], path: str) -> None:
    x = np.float32([values, [np.float32(v) * 2.0**-60 for v in values]])
    q, scale = native.quantize_activations(x, path, "accelerator")
    expected_q, expected_scale = accelerator.round_activations(x)
    np.testing.assert_array_equal(q, expected_q)
    assert same_bits(scale, expected_scale)


@settings(max_examples=100)
@given(st.lists(finite, min_size=1, max_size=150), st.sampled_from(PATHS))
def test_log_softmax_and_quantization_of_any_row(values: list[float], path: str) -> None:
    x = np.float32([values])
    assert same_bits(native.log_softmax(x, path), arithmetic.log_softmax(x))
    q, scale = native.quantize_activations(x, path)
    expected_q, expected_scale = arithmetic.quantize_activations(x)
    np.testing.assert_array_equal(q, expected_q)
    assert same_bits(scale, expected_scale)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 200),
    st.integers(0, 75),
    st.sampled_from(PATHS),
    st.sampled_from(sorted(THREADS)),
)
def test_some_entries_of_a_log_softmax(seed: int, width: int, n: int, path: str, threads: int) -> None:
    """Rows in blocks, sums of eight rows side by side; any entries, none too."""
    rng = np.random.default_rng(seed)
    matrix = make_matrix(rng, 24, (2, width))
    bias = (rng.normal(size=width) * 10.0 ** rng.integers(-1, 2)).astype(np.float32)
    dense = native.Dense(native.Matrix(24, native_bands(matrix), path, THREADS[threads]), bias)
    x = rng.normal(size=(n, 24)).astype(np.float32)
    rows = np.sort(rng.integers(0, n, rng.integers(0, 3 * n))) if n else np.empty(0, np.int64)
    columns = rng.integers(0, width, len(rows))
    found = dense.log_softmax_at(x, rows, columns)
    logits = Dense(as_weight(matrix, "w"), bias)(x)
    assert same_bits(found, arithmetic.log_softmax_at(logits, rows, columns))
    assert same_bits(found, arithmetic.log_softmax(logits)[rows, columns])


def test_entries_that_are_not_there() -> None:
    dense = native.Dense(
        native.Matrix(4, native_bands(make_matrix(np.random.default_rng(0), 4, (2, 5)))), np.zeros(5, np.float32)
    )
    x = np.zeros((3, 4), np.float32)
    for rows, columns, message in (
        ([3], [0], "rows"),
        ([1, 0], [0, 0], "rows"),
        ([-1], [0], "rows"),
        ([0], [5], "columns"),
        ([0], [-1], "columns"),
        ([0, 1], [0], "columns"),
    ):
        with pytest.raises(ValueError, match=f"{message}: expected"):
            dense.log_softmax_at(x, np.array(rows), np.array(columns))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from(PATHS))
def test_layer_norm_of_any_width(seed: int, columns: int, path: str) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(3, columns)) * 10.0 ** rng.integers(-5, 5)).astype(np.float32)
    weight, bias = rng.normal(size=(2, columns)).astype(np.float32)
    assert same_bits(native.layer_norm(x, weight, bias, 1e-5, path), arithmetic.layer_norm(x, weight, bias))


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("threads", THREADS)
def test_lstm_steps_and_chunks(path: str, threads: int, name: Arithmetic) -> None:
    definition, layer = lstm_pair(0, 45, 50, path, threads, name)
    rng = np.random.default_rng(1)
    for n, frames in ((1, 0), (0, 5), (1, 1), (1, 300), (5, 40), (130, 2)):
        x = rng.normal(size=(n, frames, 45)).astype(np.float32)
        h, c = rng.uniform(-1, 1, (2, n, 50)).astype(np.float32)
        before = h.copy(), c.copy()
        if n:
            for found, expected in zip(layer(x, h, c), definition(x, h, c), strict=True):
                assert same_bits(found, expected), (n, frames)
            projected = definition.input_weight.product(x[:, 0]) if frames else np.zeros((n, 200), np.float32)
            for found, expected in zip(layer.step(projected, h, c), definition.step(projected, h, c), strict=True):
                assert same_bits(found, expected)
        else:
            assert layer(x, h, c)[0].shape == (0, frames, 50)
        np.testing.assert_array_equal(before, (h, c))  # what is given is never changed


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("path", PATHS)
def test_a_stream_of_thousands_of_frames_in_any_chunks(path: str, name: Arithmetic) -> None:
    definition, layer = lstm_pair(2, 24, 32, path, name=name)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 5000, 24)).astype(np.float32)
    zero = np.zeros((1, 32), np.float32)
    expected, _, _ = definition(x, zero, zero)
    h, c, at = zero, zero, 0
    while at < x.shape[1]:
        size = int(rng.integers(1, 200))
        outputs, h, c = layer(x[:, at : at + size].copy(), h, c)
        assert same_bits(outputs, np.ascontiguousarray(expected[:, at : at + size]))
        at += size


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("path", PATHS)
def test_dense_and_joiner(path: str, name: Arithmetic) -> None:
    rules = rules_of(name)
    rng = np.random.default_rng(4)
    matrix = make_matrix(rng, 60, (3, 100), (6, 33))
    bias = rng.normal(size=133).astype(np.float32)
    definition = Dense(as_weight(matrix, "matrix", rules), bias)
    dense = native.Dense(native.Matrix(60, native_bands(matrix), path), bias, name)
    encoder, predictor = rng.normal(size=(2, 9, 60)).astype(np.float32)
    assert same_bits(dense(encoder), definition(encoder))
    expected = arithmetic.log_softmax(definition(rules.tanh(encoder + predictor)))
    joiner = native.Joiner(dense)
    assert same_bits(joiner.log_probabilities(encoder, predictor), expected)
    tokens, best = joiner.best(encoder, predictor)
    np.testing.assert_array_equal(tokens, expected.argmax(axis=1))
    assert same_bits(best, expected.max(axis=1))


@pytest.mark.parametrize("path", PATHS)
def test_argmax_takes_the_first_of_entries_that_rounding_makes_equal(path: str) -> None:
    # Logits are the bias alone; 1e-7 apart near zero, they are one number after the logarithm is subtracted.
    matrix = make_matrix(np.random.default_rng(5), 8, (1, 64))
    for seed in range(50):
        bias = (np.random.default_rng(seed).integers(0, 4, 64) * 1e-7).astype(np.float32)
        joiner = native.Joiner(native.Dense(native.Matrix(8, native_bands(matrix), path), bias))
        nothing = np.zeros((1, 8), np.float32)
        tokens, _ = joiner.best(nothing, nothing)
        expected = arithmetic.log_softmax(bias[None])
        assert tokens[0] == expected.argmax()


@pytest.mark.parametrize("bits", range(1, 9))
def test_embedding_rows(bits: int) -> None:
    matrix = make_matrix(np.random.default_rng(bits), 37, (bits, 20), (9 - bits, 11))
    tokens = np.array([0, 30, -1, 19, 20, -5, 7], np.int64)
    rows = native.EmbeddingRows(37, native_bands(matrix))
    assert same_bits(rows(tokens), EmbeddingRows(as_floats(matrix))(tokens))
    for beyond in (31, 2**40):
        with pytest.raises(IndexError, match="below 31"):
            rows(np.array([beyond]))
    with pytest.raises(ValueError, match="int64"):
        rows(np.array([1.0]))


def test_threads_of_python_share_a_layer() -> None:
    definition, layer = lstm_pair(6, 30, 40, "", 2)
    x = np.random.default_rng(7).normal(size=(4, 1, 200, 30)).astype(np.float32)
    zero = np.zeros((1, 40), np.float32)
    found: dict[int, np.ndarray] = {}
    runs = [threading.Thread(target=lambda i=i: found.update({i: layer(x[i], zero, zero)[0]})) for i in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    for i in range(4):
        assert same_bits(found[i], definition(x[i], zero, zero)[0])


def test_layers_refuse_what_does_not_fit() -> None:
    _, layer = lstm_pair(8, 10, 12, "")
    x, state = np.zeros((2, 3, 10), np.float32), np.zeros((2, 12), np.float32)
    for arguments in ((x[:, :, :9].copy(), state, state), (x, state[:1], state), (x, state, state[:, :11].copy())):
        with pytest.raises(ValueError, match="expected a C-contiguous float32 array"):
            layer(*arguments)
    with pytest.raises(ValueError, match="projected"):
        layer.step(np.zeros((2, 47), np.float32), state, state)
    matrix = make_matrix(np.random.default_rng(9), 12, (4, 48))
    kernel = native.Matrix(12, native_bands(matrix))
    with pytest.raises(ValueError, match="bias"):
        native.LstmLayer(kernel, kernel, np.zeros(47, np.float32))
    other = native.Matrix(12, native_bands(make_matrix(np.random.default_rng(9), 12, (4, 47))))
    with pytest.raises(ValueError, match="rows of the input weight"):
        native.LstmLayer(other, kernel, np.zeros(48, np.float32))
    with pytest.raises(ValueError, match="bias"):
        native.Dense(kernel, np.zeros(47, np.float32))
    with pytest.raises(ValueError, match="arithmetic: expected int8 or accelerator, found float"):
        native.Dense(kernel, np.zeros(48, np.float32), "float")
    with pytest.raises(ValueError, match="at least one column"):
        native.log_softmax(np.zeros((2, 0), np.float32))
    with pytest.raises(ValueError, match="weight"):
        native.layer_norm(np.zeros((2, 5), np.float32), np.zeros(4, np.float32), np.zeros(5, np.float32))
