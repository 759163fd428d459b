"""A drawing of the network with the bits of each matrix as bars in its layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.report.markup import Markup, element, join
from sottovoce.report.plots import WIDTH, svg

_GAP, _ROW, _TITLE, _ARROW = 14.0, 33.0, 21.0, 18.0
_MOST = 8  # bits of a full bar
_COLUMN = 12  # boxes in a column, where a network is no RNN-T
_BLOCK = re.compile(r"(.*\blayers\.\d+)\.(.+)")
_RECURRENT = re.compile(r"(?:(.*)\.)?weight_(ih|hh)_l(\d+)(_reverse)?")


@dataclass(frozen=True)
class Matrix:
    """``bands``: share of the rows and bits of each, in order; bits 16 or 32 for floats."""

    label: str
    shape: tuple[int, ...]
    bands: tuple[tuple[float, int], ...]
    bytes: int

    @property
    def bits(self) -> str:
        widths = list(dict.fromkeys(bits for _, bits in self.bands))
        return "float" + str(widths[0]) if widths[0] > _MOST else "+".join(map(str, widths)) + " bits"


@dataclass(frozen=True)
class Layer:
    """Matrices that are drawn in one box."""

    title: str
    matrices: tuple[Matrix, ...]

    @property
    def height(self) -> float:
        return _TITLE + _ROW * len(self.matrices) + 2


def layers_of(model: PackedModel) -> list[Layer]:
    """The model's matrices, layer by layer, in the file's order."""
    found: dict[str, list[Matrix]] = {}
    for name, tensor in model.tensors.items():
        if len(tensor.shape) >= 2:
            title, label = _place(name)
            found.setdefault(title, []).append(_matrix(label, tensor))
    return [Layer(title, tuple(matrices)) for title, matrices in found.items()]


def draw(model: PackedModel, name: str) -> Markup:
    """The network from its input, below, to its output, above."""
    layers = layers_of(model)
    architecture = model.architecture
    if architecture.get("type") == "rnnt":
        lanes = [[layer for layer in layers if layer.title.startswith(part)] for part in ("encoder", "predictor")]
        top = [layer for layer in layers if layer not in lanes[0] + lanes[1]]
        ends: tuple[str, ...] = (f"{architecture.get('features')} features a frame", "the last token")
        return _drawn(lanes, top, ends, f"bits of each layer of {name}")
    columns = [layers[k : k + _COLUMN] for k in range(0, len(layers), _COLUMN)]
    ends = ("tokens",) if len(columns) == 1 else tuple("" for _ in columns)
    return _drawn(columns, [], ends, f"bits of each layer of {name}")


def _place(name: str) -> tuple[str, str]:
    """Box and label of a tensor."""
    block = _BLOCK.fullmatch(name)
    inner = block[2] if block else name
    recurrent = _RECURRENT.fullmatch(inner)
    if recurrent:
        label = {"ih": "input", "hh": "recurrent"}[recurrent[2]] + (" reversed" if recurrent[4] else "")
        parent = block[1] if block else f"{recurrent[1] or 'rnn'} {int(recurrent[3]) + 1}"
        return _title(parent), label
    inner = inner.removesuffix(".weight")
    if block:
        return _title(block[1]), inner
    return _title(inner), "weight"


def _title(name: str) -> str:
    found = re.sub(r"\blayers\.(\d+)$", lambda m: f"layer {int(m[1]) + 1}", name)
    return found.replace(".", " ").replace("_", " ")


def _matrix(label: str, tensor: PackedMatrix | NDArray[Any]) -> Matrix:
    shape = tuple(tensor.shape)
    if isinstance(tensor, PackedMatrix):
        return Matrix(label, shape, tuple((band.rows / tensor.rows, band.bits) for band in tensor.bands), tensor.nbytes)
    return Matrix(label, shape, ((1.0, 8 * tensor.dtype.itemsize),), int(np.asarray(tensor).nbytes))


def _drawn(lanes: list[list[Layer]], top: list[Layer], ends: tuple[str, ...], label: str) -> Markup:
    count = max(len(lanes), 1)
    width = (WIDTH - _GAP * (count - 1)) / min(count, 2)
    whole = width * count + _GAP * (count - 1)
    above = sum(layer.height + _ARROW for layer in top)
    tallest = max(sum(layer.height + _ARROW for layer in lane) for lane in lanes)
    bottom = above + tallest + 14
    marks = []
    for k, (lane, end) in enumerate(zip(lanes, ends, strict=True)):
        left, at = k * (width + _GAP), bottom - 14
        marks.append(element("text", end, x=left + width / 2, y=bottom - 1, class_="tick", text_anchor="middle"))
        for layer in lane:
            marks.append(_arrow(left + width / 2, at, at - _ARROW))
            at -= _ARROW + layer.height
            marks.append(_box(layer, left, at, width))
        if top:  # the lanes meet in what stands above them
            marks.append(element("line", x1=left + width / 2, x2=left + width / 2, y1=at, y2=above, class_="flow"))
    at = above
    for layer in top:
        marks.append(_arrow(whole / 2 if layer is not top[0] else None, at, at - _ARROW, whole, width))
        at -= _ARROW + layer.height
        marks.append(_box(layer, 0.0, at, whole))
    return svg(whole, bottom + 3, join(*marks), label=label, class_="network")


def _arrow(x: float | None, start: float, end: float, whole: float = 0.0, width: float = 0.0) -> Markup:
    """From ``start`` up to ``end``; without an x one from the middle of each of the two lanes."""
    places = [x] if x is not None else [width / 2, whole - width / 2]
    heads = [f"M{at:.1f},{start:.1f}V{end + 1:.1f}m-3.5,5l3.5,-5l3.5,5" for at in places]
    return element("path", d="".join(heads), class_="flow")


def _box(layer: Layer, left: float, top: float, width: float) -> Markup:
    rows = [_bars(matrix, left + 9, top + _TITLE + k * _ROW, width - 18) for k, matrix in enumerate(layer.matrices)]
    frame = element("rect", x=left + 0.5, y=top + 0.5, width=width - 1, height=layer.height - 1, rx=5, class_="box")
    return element("g", frame, element("text", layer.title, x=left + 9, y=top + 15, class_="name"), *rows)


def _bars(matrix: Matrix, left: float, top: float, width: float) -> Markup:
    """A bar as long as its bits; bands of rows lie one below the other, each as thick as its share of the rows."""
    shape = "×".join(map(str, matrix.shape))
    texts = (
        element("text", f"{matrix.label} {shape}", x=left, y=top + 9, class_="tick"),
        element("text", matrix.bits, x=left + width, y=top + 9, class_="value", text_anchor="end"),
    )
    track, high = top + 13, 13.0
    marks = [element("rect", x=left, y=track, width=width, height=high, class_="track")]
    at = track
    for share, bits in matrix.bands:
        kind = "bits" if bits <= _MOST else "bits float"
        long = width * min(bits, _MOST) / _MOST
        marks.append(element("rect", x=left, y=at, width=long, height=max(high * share - 0.4, 0.5), class_=kind))
        at += high * share
    ticks = "".join(f"M{left + width * b / _MOST:.1f},{track:.1f}v{high:g}" for b in range(1, _MOST))
    title = element("title", f"{matrix.label} {shape}: {matrix.bits}, {matrix.bytes:,} bytes")
    return element("g", title, *texts, *marks, element("path", d=ticks, class_="notch"))


def same_bits(model: PackedModel) -> Mapping[str, tuple[tuple[float, int], ...]]:
    """What a drawing shows: two models with equal ones need one drawing."""
    return {f"{layer.title} {m.label} {m.shape}": m.bands for layer in layers_of(model) for m in layer.matrices}
