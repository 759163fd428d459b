"""Which arithmetic runs a model, what is said when the kernels are missing, and what loading costs."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_rnnt import random_model, shapes, speaking_model, tokenizer, vocabulary

from sottovoce.errors import ConfigError
from sottovoce.evaluation.cold import cold_start
from sottovoce.packed import PackedMatrix, PackedModel, RnntArchitecture, load_model, make_band
from sottovoce.packed.mapping import release_pages
from sottovoce.runtime import NativeRnnt, PackedRnnt, Recognizer, choose_kernel, make_network
from sottovoce.runtime.kernels import native_module, warn_once


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where sottovoce was installed without a compiler."""
    monkeypatch.setitem(sys.modules, "sottovoce._native", None)
    monkeypatch.delenv("SOTTOVOCE_KERNEL", raising=False)
    for cached in (native_module, warn_once):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (native_module, warn_once):
        cached.cache_clear()


def test_without_kernels_numpy_runs_with_one_warning(no_kernels: None) -> None:
    choice = choose_kernel()
    assert (choice.name, choice.paths, choice.forced) == ("numpy", (), False)
    assert "without the compiled kernels" in choice.reason
    with pytest.warns(RuntimeWarning, match=r"many times slower.*compiler.*pip install"):
        assert isinstance(make_network(random_model()), PackedRnnt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_network(random_model())
    with pytest.raises(ConfigError, match="kernels: sottovoce was installed without"):
        NativeRnnt(random_model())


def test_what_the_kernels_would_not_run_warns_of_nothing(no_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_network(random_model(packed=False))
        make_network(random_model(), arithmetic="float")
        monkeypatch.setenv("SOTTOVOCE_KERNEL", "numpy")
        make_network(random_model())
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "avx2")
    with pytest.raises(ConfigError, match=r"expected one of numpy on this machine \(sottovoce was installed without"):
        make_network(random_model())


def test_numpy_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "numpy")
    assert isinstance(Recognizer(speaking_model()).network, PackedRnnt)
    choice = choose_kernel()
    assert choice.forced and choice.name == "numpy" and "SOTTOVOCE_KERNEL" in choice.reason


@pytest.mark.parametrize("threads", [0, -1, 257, True])
def test_threads_out_of_range_are_refused_on_every_path(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for kernel in ("", "numpy"):
        monkeypatch.setenv("SOTTOVOCE_KERNEL", kernel)
        with pytest.raises(ConfigError, match="num_threads: expected 1 to 256"):
            Recognizer(speaking_model(), num_threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_result(threads: int) -> None:
    features = np.random.default_rng(0).normal(0, 2, (300, 20)).astype(np.float32)
    one = Recognizer(speaking_model(), method="beam").transcribe_batch([features, features[:99]])
    assert (
        Recognizer(speaking_model(), method="beam", num_threads=threads).transcribe_batch([features, features[:99]])
        == one
    )


def test_released_pages_can_be_read_again(tmp_path: Path) -> None:
    speaking_model().save(tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    for name in model.tensors:
        before = model.decode(name)
        tensor = model.tensors[name]
        for array in [tensor] if isinstance(tensor, np.ndarray) else [band.codes for band in tensor.bands]:
            release_pages(array)
        np.testing.assert_array_equal(model.decode(name), before)
    release_pages(np.zeros(3))
    release_pages(np.zeros(0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("levels", ["full", "one fewer"])
def test_loading_needs_little_more_memory_than_the_file(tmp_path: Path, levels: str) -> None:
    """At most 1.25 times the file and 20 MB above a bare interpreter with NumPy, also where codes must be checked."""
    if native_module()[0] is None:
        pytest.skip("installed without a compiler")
    path = tmp_path / "model.safetensors"
    wide_model(full=levels == "full").save(path)
    size = path.stat().st_size
    assert size > 20e6  # a copy more would show
    cold = cold_start(path)
    assert size < cold.load_bytes <= 1.25 * size + 20e6
    assert cold.peak_bytes <= 1.25 * size + 20e6


def wide_model(*, full: bool) -> PackedModel:
    """A speaking model whose second encoder layer has 34 million weights of 5 bits."""
    a = RnntArchitecture(
        features=20, vocabulary=vocabulary(), encoder_units=1700, embedding=8, predictor_units=8, joiner_units=12
    )
    small = random_model(dataclasses.replace(a, encoder_units=1))
    tensors = dict(small.tensors)
    rng = np.random.default_rng(0)
    values = np.arange(-16, 16 if full else 15).astype(np.int8)
    for name, shape in shapes(a).items():
        if tensors[name].shape == shape:
            continue
        if len(shape) == 1:
            tensors[name] = np.ones(shape, np.float32)
            continue
        codes = rng.integers(0, len(values), shape, dtype=np.uint8)
        band = make_band(codes, values, np.full(shape[0], 1e-3, np.float16), 5, "test", "row")
        tensors[name] = PackedMatrix(shape, (band,))
    return PackedModel(
        tensors, architecture=a.to_dict(), tokenizer=tokenizer(), input={"kind": "waveform", "bins": a.features}
    )
