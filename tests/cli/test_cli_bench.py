"""``bench``, ``doctor`` and ``--version``: what they say of the kernels, and figures that hang together."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sottovoce.evaluation.bandwidth import read_bandwidth
from sottovoce.evaluation.bench import Latency, bench, bench_in_turns, bench_paths
from sottovoce.packed import LstmLmArchitecture
from sottovoce.runtime import choose_kernel
from sottovoce.runtime.kernels import native_module

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
needs_kernels = pytest.mark.skipif(native_module()[0] is None, reason="installed without a compiler")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tiny["speaking_model"]().save(path)
    return path


def test_doctor_and_version_name_the_kernel_and_why(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOTTOVOCE_KERNEL", raising=False)
    choice = choose_kernel()
    for command in ("doctor", "--version"):
        code, out, _ = run(command)
        assert code == 0 and choice.name in out and choice.reason in out
    facts = json.loads(run("doctor", "--json")[1])
    assert facts["kernel"] == choice.name
    assert facts.get("paths here", ["numpy"])[-1] == "numpy"
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "numpy")
    assert "kernel numpy: forced by SOTTOVOCE_KERNEL" in run("--version")[1]
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "abacus")
    for command in ("doctor", "--version"):
        code, _, err = run(command)
        assert code == 2 and err.startswith("error: SOTTOVOCE_KERNEL: expected one of") and "Traceback" not in err


@needs_kernels
def test_bench_prints_and_writes_its_figures(run, model: Path, tmp_path: Path) -> None:
    to = tmp_path / "bench.json"
    code, out, _ = run("bench", model, "--frames", 30, "--kernels", "--json", to)
    assert code == 0
    for text in ("real-time factor", "P99", "first token", "peak memory", "GB/s", "portable", "(used)"):
        assert text in out, text
    figures = json.loads(to.read_text())
    assert figures["frames"] == 30 and figures["frame_seconds"] == 0.04
    latency = figures["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert figures["real_time_factor"] == pytest.approx(latency["mean"] / 40)
    assert figures["share"] == pytest.approx(figures["streamed_bytes"] / latency["p50"] * 1e3 / figures["bandwidth"])
    assert [path["name"] for path in figures["kernels"]][-2:] == ["portable", "numpy"]
    assert sum(path["used"] for path in figures["kernels"]) == 1
    assert figures["cold"]["peak_bytes"] >= figures["cold"]["load_bytes"] > 0


def test_models_that_take_turns_have_the_figures_of_their_own_files(model: Path, tmp_path: Path) -> None:
    floats = tmp_path / "floats.safetensors"
    tiny["speaking_model"](packed=False).save(floats)
    told: list[tuple[int, int]] = []
    found = bench_in_turns([model, floats], frames=45, progress=lambda *at: told.append(at))
    assert [(f.model, f.file_bytes) for f in found] == [(str(p), p.stat().st_size) for p in (model, floats)]
    assert [f.frames for f in found] == [45, 45] and told == [(1, 3), (2, 3), (3, 3)]
    assert all(f.tokens for f in found)


def test_bench_of_numpy_and_of_a_float_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "numpy")
    found = bench(model, frames=3)
    assert (found.kernel, found.streamed_bytes, found.share) == ("numpy", None, None)
    monkeypatch.delenv("SOTTOVOCE_KERNEL")
    floats = tmp_path / "floats.safetensors"
    tiny["speaking_model"](packed=False).save(floats)
    found = bench(floats, frames=3)
    assert found.kernel == "numpy"
    if native_module()[0] is not None:
        assert "stored as floats" in found.why
    assert [path.name for path in bench_paths(floats, frames=1) if path.latency_ms] == ["numpy"]


def test_bench_against_peers(run, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the [bench] extra is not installed")
    to = tmp_path / "bench.json"
    code, out, _ = run("bench", model, "--frames", 5, "--against", "torch-int8, onnxruntime-fp32", "--json", to)
    assert code == 0
    for text in ("ours / theirs", "sottovoce", "torch-int8", "ONNX Runtime"):
        assert text in out, text
    figures = json.loads(to.read_text())["against"]
    assert [speed["name"] for speed in figures] == ["sottovoce", "torch-int8", "onnxruntime-fp32"]


def test_mistakes_are_one_line(run, model: Path, tmp_path: Path) -> None:
    lm = LstmLmArchitecture(vocabulary=9, embedding=8, units=8, layers=1).to_dict()
    replace(tiny["speaking_model"](), architecture=lm).save(tmp_path / "lm.safetensors")
    for arguments, message in (
        (("bench", tmp_path / "none.safetensors"), "none.safetensors"),
        (("bench", tmp_path / "lm.safetensors"), "lm.safetensors: architecture: expected type 'rnnt', found 'lstm-lm'"),
        (("bench", model, "--threads", 1000), "error: num_threads: expected 1 to 256, found 1000"),
        (("bench", model, "--against", "torch-int9"), "torch-int9"),
        (("bench", model, "--against", "torch-int8,"), "torch-int8"),
        (("bench", model, "--frames", 2, "--json", tmp_path / "no" / "folder.json"), "there is no such folder"),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and message in err, err


def test_a_described_device_is_computed_beside_eight_bits(run, model: Path, tmp_path: Path) -> None:
    to = tmp_path / "device.json"
    code, out, _ = run("bench", model, "--device", "ethos-u55-256", "--json", to)
    assert code == 0
    for text in ("computed, not measured", "which fit into 4,194,304 on the chip", "joiner.output", "at 8 bits", "mW"):
        assert text in out, text
    figures = json.loads(to.read_text())
    assert figures["frame_seconds"] == 0.04 and figures["device"]["macs_per_cycle"] == 256
    parts = figures["packed"]["parts"]
    named = [layer["seconds"] for layer in figures["packed"]["layers"] if layer["part"] == "encoder"]
    assert parts["encoder"]["seconds"] == pytest.approx(sum(named)) and parts["joiner"]["joules"] > 0
    assert figures["packed"]["weight_bytes"] < figures["eight_bits"]["weight_bytes"]
    floats = tmp_path / "floats.safetensors"
    tiny["speaking_model"](packed=False).save(floats)
    for arguments, message in (
        ((model, "--device", "abacus"), "abacus: no such device"),
        ((model, "--device", "ethos-u55-256", "--kernels"), "does not go with --kernels"),
        ((floats, "--device", "ethos-u55-256"), f"{floats}: encoder.layers.0.weight_ih_l0"),
    ):
        code, _, err = run("bench", *arguments)
        assert code == 2 and err.startswith("error: ") and message in err and err.count("\n") == 1, err


def test_latency_is_in_milliseconds() -> None:
    found = Latency.of(list(np.arange(1, 102) / 1000))
    assert (found.p50, found.p90, found.p99, found.mean) == pytest.approx((51, 91, 100, 51))


@needs_kernels
def test_bandwidth_is_of_this_world() -> None:
    assert 1e8 < read_bandwidth(2) < 1e13
