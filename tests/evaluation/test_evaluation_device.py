"""Latency and energy of described accelerators, against sums done by hand."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import ConfigError, FormatError
from sottovoce.evaluation.device import PARTS, Layer, Matrix, cost_of, layer_cost, layers_of
from sottovoce.evaluation.device_spec import DeviceSpec, load_device, parse_device, shipped_devices
from sottovoce.packed import PackedMatrix

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
SMALL, random_model = tiny["SMALL"], tiny["random_model"]

# 100 MACs a cycle at 1 MHz: 1e8 a second. 1e6 bytes a second from outside.
FIELDS: dict[str, Any] = {
    "name": "by hand", "clock_hz": 1e6, "macs_per_cycle": 100, "off_chip_bytes_per_second": 1e6, "on_chip_bytes": 1000,
    "pj_per_mac": 2, "pj_per_off_chip_byte": 100, "pj_per_on_chip_byte": 10,
}  # fmt: skip
SPEC = DeviceSpec(**FIELDS)
# 10,000 weights of 4 bits in 5,000 bytes, and a recurrent matrix of 2,000 weights in 800 bytes, used twice a frame.
LAYER = Layer("lstm", "encoder", (Matrix(10_000, 4.0, 5_000, 2, 1), Matrix(2_000, 3.2, 800, 2, 2)))


def test_a_layer_from_memory_outside() -> None:
    cost = layer_cost(LAYER, SPEC, resident=False)
    assert cost.macs == 2 * 10_000 + 2 * 2_000
    assert cost.off_chip_bytes == 5_000 + 800  # the recurrent matrix fits, and stays for its second use
    assert cost.on_chip_bytes == 5_000 + 2 * 800
    assert cost.seconds == pytest.approx(5_800 / 1e6)  # arithmetic: 24,000 / 1e8 = 0.24 ms
    assert cost.bound == "off-chip memory"
    assert cost.joules == pytest.approx((5_800 * 100 + 6_600 * 10 + 24_000 * 2) * 1e-12)
    assert cost.bits == pytest.approx((10_000 * 4 + 2_000 * 3.2) / 12_000)


def test_a_recurrent_matrix_that_does_not_fit_comes_again() -> None:
    cost = layer_cost(LAYER, SPEC.model_copy(update={"on_chip_bytes": 799}), resident=False)
    assert cost.off_chip_bytes == 5_000 + 2 * 800


def test_weights_on_the_chip_leave_arithmetic_or_the_chip_s_own_memory() -> None:
    cost = layer_cost(LAYER, SPEC, resident=True)
    assert (cost.off_chip_bytes, cost.bound) == (0, "arithmetic")
    assert cost.seconds == pytest.approx(24_000 / 1e8)
    assert cost.joules == pytest.approx((6_600 * 10 + 24_000 * 2) * 1e-12)
    cost = layer_cost(LAYER, SPEC.model_copy(update={"on_chip_bytes_per_second": 1e7}), resident=True)
    assert (cost.seconds, cost.bound) == (pytest.approx(6_600 / 1e7), "on-chip memory")


def test_expansion_and_overheads() -> None:
    spec = SPEC.model_copy(update={"codes_per_cycle": 2.0, "pj_per_code": 3.0, "layer_overhead_us": 50.0})
    cost = layer_cost(LAYER, spec, resident=False)
    assert cost.bound == "expansion"  # 14,000 codes, 2e6 a second: 7 ms
    assert cost.seconds == pytest.approx(7e-3 + 50e-6)
    assert cost.joules == pytest.approx((5_800 * 100 + 6_600 * 10 + 24_000 * 2 + 14_000 * 3) * 1e-12)
    wide = replace(LAYER, matrices=tuple(replace(m, bits=8.0, bytes=m.weights) for m in LAYER.matrices))
    assert layer_cost(wide, spec, resident=False).bound == "off-chip memory"  # 8 bits are levels already


def test_a_network_s_layers_have_the_sizes_of_its_file() -> None:
    model = random_model()
    layers = layers_of(model)
    assert [layer.name for layer in layers] == [
        "encoder.layers.0", "encoder.layers.1", "encoder.projection", "predictor.embedding", "predictor.lstm.0",
        "predictor.lstm.1", "predictor.projection", "joiner.output",
    ]  # fmt: skip
    first = layers[0]  # before the reduction by 2: 20 inputs, 12 units
    assert [(m.weights, m.uses, m.passes) for m in first.matrices] == [(4 * 12 * 20, 2, 1), (4 * 12 * 12, 2, 2)]
    assert [(m.uses, m.passes) for m in layers[1].matrices] == [(1, 1), (1, 1)]
    assert first.matrices[0].bytes == model.tensor("encoder.layers.0.weight_ih_l0").nbytes
    assert first.matrices[0].bits == 4.5  # half of the rows in 4 bits, half in 5
    table = model.tensor("predictor.embedding.weight")
    assert layers[3].stored == table.nbytes and layers[3].looked_up == -(-table.nbytes // table.rows)
    packed = cost_of(layers, SPEC)
    assert packed.weight_bytes == sum(t.nbytes for t in model.tensors.values() if isinstance(t, PackedMatrix))
    wide = cost_of(layers_of(model, eight_bits=True), SPEC)
    assert wide.weight_bytes == sum(m.weights for layer in layers for m in layer.matrices) + 12 * 8
    assert [layer.macs for layer in wide.layers] == [layer.macs for layer in packed.layers]


def test_parts_add_up_and_a_chip_that_holds_all_reads_nothing() -> None:
    layers = layers_of(random_model())
    cost = cost_of(layers, DeviceSpec(**{**FIELDS, "frame_overhead_us": 1000}))
    assert not cost.resident
    total = sum(layer.seconds for layer in cost.layers)
    assert sum(cost.seconds(part) for part in PARTS) == pytest.approx(total + 1e-3)
    assert sum(cost.joules(part) for part in PARTS) == pytest.approx(sum(layer.joules for layer in cost.layers))
    for room, resident in ((cost.weight_bytes, True), (cost.weight_bytes - 1, False)):
        held = cost_of(layers, DeviceSpec(**{**FIELDS, "on_chip_bytes": room}))
        assert held.resident == resident
        assert (sum(layer.off_chip_bytes for layer in held.layers) == 0) == resident


@given(st.integers(1, 7), st.sampled_from(["ethos-u55-256", "ethos-u65-512"]))
def test_fewer_bits_never_cost_more(bits: int, device: str) -> None:
    spec = load_device(device)
    costs = [cost_of(layers_of(random_model(SMALL, bits=b)), spec) for b in (max(1, bits - 1), bits)]
    for part in PARTS:
        assert costs[0].seconds(part) <= costs[1].seconds(part)
        assert costs[0].joules(part) <= costs[1].joules(part)


def test_float_weights_are_refused_by_name() -> None:
    with pytest.raises(FormatError, match=r"encoder.layers.0.weight_ih_l0: .* packed weights, found float32"):
        layers_of(random_model(packed=False))


def test_shipped_devices_are_valid_and_name_their_sources() -> None:
    assert len(shipped_devices()) >= 2
    for name in shipped_devices():
        assert load_device(name).macs_per_cycle > 0
        path = Path(__file__).parents[2] / "src" / "sottovoce" / "devices" / f"{name}.yaml"
        assert "Horowitz" in path.read_text() and load_device(path) == load_device(name)


def test_mistakes_name_file_and_key(tmp_path: Path) -> None:
    for change, message in (
        ({"clock_hz": 0}, r"spec: clock_hz: Input should be greater than or equal to 1, found 0"),
        ({"clock_hz": "fast"}, r"spec: clock_hz: .*number.*found 'fast'"),
        ({"on_chip_bytes": 1.5}, r"spec: on_chip_bytes: .*found 1.5"),
        ({"pj_per_mac": float("nan")}, r"spec: pj_per_mac: .*finite.*"),
        ({"clock_hertz": 1}, r"spec: clock_hertz: no such key; did you mean 'clock_hz'\?"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_device({**FIELDS, **change}, "spec")
    with pytest.raises(ConfigError, match="spec: pj_per_mac: expected a value, found none"):
        parse_device({key: value for key, value in FIELDS.items() if key != "pj_per_mac"}, "spec")
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(FIELDS))
    assert load_device(path) == SPEC
    path.write_text("- 1")
    with pytest.raises(ConfigError, match=r"device.yaml: expected a device of keys and values, found list"):
        load_device(path)
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=r"device.yaml: cannot read the device"):
        load_device(path)
    with pytest.raises(ConfigError, match=r"found a folder"):
        load_device(tmp_path)
    with pytest.raises(ConfigError, match=r"nothing: no such device; the package has ethos-u55-256, ethos-u65-512"):
        load_device("nothing")
