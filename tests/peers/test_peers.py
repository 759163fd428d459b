"""The peers compute the network of the packed file: in floats nearly to the bit, in int8 within int8's error."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sottovoce.errors import ConfigError
from sottovoce.packed import Pcen
from sottovoce.peers import PEERS, bench_against, check_peers, make_peer, signal_to_noise
from sottovoce.runtime import make_network

pytest.importorskip("onnxruntime", reason="the [bench] extra is not installed")
tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
SMALL = tiny["SMALL"]
ARCHITECTURES = {
    "reduction inside": SMALL,
    "reduction at the end": replace(SMALL, reduction_after=SMALL.encoder_layers),
    "neither reduction nor norm": replace(SMALL, reduction_after=0, layer_norm=False),
    "no overlap": replace(SMALL, stack=2, stride=2),
    "much overlap": replace(SMALL, stack=7, stride=2, predictor_layers=1),
    "PCEN": replace(SMALL, pcen=Pcen()),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_the_same_network(name: str, architecture: Any) -> None:
    model = tiny["random_model"](architecture)
    floor = 80 if name.endswith("fp32") else 12  # narrow layers: few products for int8's errors to average over
    assert signal_to_noise(make_peer(name, model), model, steps=9) > floor


@pytest.mark.parametrize("name", PEERS)
def test_another_network_is_noticed(name: str) -> None:
    peer = make_peer(name, tiny["random_model"](seed=1))
    assert signal_to_noise(peer, tiny["random_model"](seed=2)) < 6


def test_ours_is_within_int8_of_the_floats() -> None:
    model = tiny["random_model"]()
    assert 15 < signal_to_noise(make_network(model), model) < 100


def test_no_history_is_a_zero_vector() -> None:
    model = tiny["random_model"]()
    expected = make_network(model, arithmetic="float")
    for name in PEERS:
        peer = make_peer(name, model)
        for token in (-1, 0, model.architecture["vocabulary"] - 1):
            tokens = np.array([token], np.int64)
            found, _ = peer.predictor_step(tokens, peer.predictor_start(1))
            theirs, _ = expected.predictor_step(tokens, expected.predictor_start(1))
            np.testing.assert_allclose(found, theirs, atol=1e-5 if name.endswith("fp32") else 0.1)


def test_int8_really_runs_in_int8() -> None:
    model = tiny["random_model"]()
    operators = make_peer("onnxruntime-int8", model).operators  # type: ignore[attr-defined]
    layers = SMALL.encoder_layers + SMALL.predictor_layers
    assert operators["DynamicQuantizeLSTM"] == layers and operators["DynamicQuantizeMatMul"] == 3
    assert "LSTM" not in operators and "MatMul" not in operators
    assert make_peer("onnxruntime-fp32", model).operators["LSTM"] == layers  # type: ignore[attr-defined]


def test_a_file_beside_its_peers(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tiny["random_model"]().save(path)
    ours, *peers = bench_against(path, ["torch-int8", "onnxruntime-int8"], frames=9)
    assert (ours.name, ours.ratio, ours.signal_to_noise_db) == ("sottovoce", 1.0, None)
    for speed in peers:
        assert speed.ratio == pytest.approx(ours.p50_ms / speed.p50_ms)
        assert 0 < speed.p50_ms <= speed.p90_ms and speed.description
    assert [speed.name for speed in peers] == ["torch-int8", "onnxruntime-int8"]


def test_unknown_and_missing_peers_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"found 'torch-int4'; did you mean 'torch-int8'\?"):
        check_peers(["torch-int4"])
    missing: dict[str, ModuleType | None] = {"onnxruntime": None}
    monkeypatch.setattr(sys, "modules", sys.modules | missing)
    with pytest.raises(ConfigError, match=r"onnxruntime-fp32 needs onnxruntime.*pip install 'sottovoce\[bench\]'"):
        check_peers(["onnxruntime-fp32"])
