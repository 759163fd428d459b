"""Latency and energy of a packed RNN-T on a described accelerator, from its real layers and bits: pure arithmetic.

A layer streams its weights while it multiplies, so it takes as long as the slowest of bringing the weights, expanding
their codes and multiplying; layers follow one another. Weights stay on the chip if all of them fit; else each layer
brings its own, once an encoder frame: a recurrent matrix that is used several times in one frame (before a reduction)
is brought again for every use unless it fits on the chip. Activations, gates and norms are not counted: weights are
hundreds of times as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sottovoce.errors import FormatError
from sottovoce.evaluation.device_spec import DeviceSpec
from sottovoce.packed import PackedMatrix, PackedModel, RnntArchitecture

Part = Literal["encoder", "predictor", "joiner"]
PARTS: tuple[Part, ...] = ("encoder", "predictor", "joiner")
Bound = Literal["off-chip memory", "on-chip memory", "expansion", "arithmetic"]


@dataclass(frozen=True)
class Matrix:
    """A weight: bytes as stored (codes, levels and scales), and how often one frame multiplies by it. Frames that are
    joined share the pass over an input matrix (passes 1); a recurrent one is read for each of its uses. Codes of less
    than 8 bits are expanded."""

    weights: int
    bits: float
    bytes: int
    uses: int = 1
    passes: int = 1


@dataclass(frozen=True)
class Layer:
    """What runs for an encoder frame, a predictor step, or a joiner. looked_up: bytes of one row of a table; stored: of
    all of it."""

    name: str
    part: Part
    matrices: tuple[Matrix, ...] = ()
    looked_up: int = 0
    stored: int = 0


@dataclass(frozen=True)
class LayerCost:
    """bits: of a code, averaged over weights; seconds and joules once, overhead included; bound: what takes longest."""

    name: str
    part: Part
    bits: float
    macs: int
    off_chip_bytes: int
    on_chip_bytes: int
    seconds: float
    joules: float
    bound: Bound


@dataclass(frozen=True)
class Cost:
    """One network on one device. weight_bytes: of all its matrices; resident: whether they stay on the chip."""

    weight_bytes: int
    resident: bool
    layers: tuple[LayerCost, ...]
    frame_overhead_seconds: float

    def seconds(self, part: Part) -> float:
        """Of one encoder frame, predictor step or joiner; a frame's overhead counts with the encoder."""
        total = sum(layer.seconds for layer in self.layers if layer.part == part)
        return total + (self.frame_overhead_seconds if part == "encoder" else 0.0)

    def joules(self, part: Part) -> float:
        return sum(layer.joules for layer in self.layers if layer.part == part)


def layers_of(model: PackedModel, *, eight_bits: bool = False) -> list[Layer]:
    """The layers in order of their work, as packed, or with a byte for each weight.

    Raises FormatError for a weight that is missing or stored as floats.
    """
    a, read = RnntArchitecture.from_dict(model.architecture), _Reader(model, eight_bits)
    layers = []
    for i in range(a.encoder_layers):
        uses = a.reduction if i < a.reduction_after else 1
        layers.append(read.lstm("encoder", f"encoder.layers.{i}", f"encoder.layers.{i}", 0, uses))
    layers += [read.dense("encoder", "encoder.projection"), read.embedding("predictor", "predictor.embedding")]
    for i in range(a.predictor_layers):
        layers.append(read.lstm("predictor", f"predictor.lstm.{i}", "predictor.lstm", i, 1))
    return [*layers, read.dense("predictor", "predictor.projection"), read.dense("joiner", "joiner.output")]


def cost_of(layers: Sequence[Layer], spec: DeviceSpec) -> Cost:
    """What the layers take on the device."""
    weight_bytes = sum(layer.stored + sum(matrix.bytes for matrix in layer.matrices) for layer in layers)
    resident = weight_bytes <= spec.on_chip_bytes
    costs = tuple(layer_cost(layer, spec, resident=resident) for layer in layers)
    return Cost(weight_bytes, resident, costs, spec.frame_overhead_us * 1e-6)


def layer_cost(layer: Layer, spec: DeviceSpec, *, resident: bool) -> LayerCost:
    """One layer; resident: its weights are on the chip already."""
    weights = sum(matrix.weights for matrix in layer.matrices)
    macs = sum(matrix.weights * matrix.uses for matrix in layer.matrices)
    codes = sum(matrix.weights * matrix.passes for matrix in layer.matrices if matrix.bits < 8)
    on_chip = layer.looked_up + sum(matrix.bytes * matrix.passes for matrix in layer.matrices)
    off_chip = 0 if resident else layer.looked_up + sum(_brought(matrix, spec) for matrix in layer.matrices)
    times = dict(_times(spec, off_chip, on_chip, codes, macs))
    bound = max(times, key=lambda name: times[name])
    picojoules = (
        off_chip * spec.pj_per_off_chip_byte
        + on_chip * spec.pj_per_on_chip_byte
        + codes * spec.pj_per_code
        + macs * spec.pj_per_mac
    )
    bits = sum(matrix.weights * matrix.bits for matrix in layer.matrices) / weights if weights else 0.0
    seconds = times[bound] + spec.layer_overhead_us * 1e-6
    return LayerCost(layer.name, layer.part, bits, macs, off_chip, on_chip, seconds, picojoules * 1e-12, bound)


def _times(spec: DeviceSpec, off_chip: int, on_chip: int, codes: int, macs: int) -> Iterator[tuple[Bound, float]]:
    """Seconds of each of the things that go on at the same time; where two are equal, the first bounds."""
    yield "off-chip memory", off_chip / spec.off_chip_bytes_per_second
    if spec.on_chip_bytes_per_second is not None:
        yield "on-chip memory", on_chip / spec.on_chip_bytes_per_second
    if spec.codes_per_cycle is not None:
        yield "expansion", codes / (spec.codes_per_cycle * spec.clock_hz)
    yield "arithmetic", macs / (spec.macs_per_cycle * spec.clock_hz)


def _brought(matrix: Matrix, spec: DeviceSpec) -> int:
    """Bytes from outside the chip for one frame."""
    return matrix.bytes * (1 if matrix.bytes <= spec.on_chip_bytes else matrix.passes)


@dataclass(frozen=True)
class _Reader:
    model: PackedModel
    eight_bits: bool

    def lstm(self, part: Part, name: str, prefix: str, layer: int, uses: int) -> Layer:
        inputs = self._matrix(f"{prefix}.weight_ih_l{layer}", uses, 1)
        return Layer(name, part, (inputs, self._matrix(f"{prefix}.weight_hh_l{layer}", uses, uses)))

    def dense(self, part: Part, prefix: str) -> Layer:
        return Layer(prefix, part, (self._matrix(f"{prefix}.weight", 1, 1),))

    def embedding(self, part: Part, prefix: str) -> Layer:
        table = self._packed(f"{prefix}.weight")
        stored = self._bytes(table)
        return Layer(prefix, part, (), -(-stored // table.rows), stored)

    def _matrix(self, name: str, uses: int, passes: int) -> Matrix:
        tensor = self._packed(name)
        bits = sum(band.bits * band.rows for band in tensor.bands) / tensor.rows
        return Matrix(tensor.rows * tensor.columns, 8.0 if self.eight_bits else bits, self._bytes(tensor), uses, passes)

    def _bytes(self, tensor: PackedMatrix) -> int:
        return tensor.rows * tensor.columns if self.eight_bits else tensor.nbytes

    def _packed(self, name: str) -> PackedMatrix:
        tensor = self.model.tensor(name)
        if not isinstance(tensor, PackedMatrix):
            raise FormatError(f"{name}: a device is computed for packed weights, found {tensor.dtype}")
        return tensor
