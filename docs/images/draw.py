"""The pictures of docs/how-it-works.md and docs/file-format.md, from the package's own functions.

python docs/images/draw.py [FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.packed import make_band, pack_codes
from sottovoce.quant import BandSpec, BitPlan
from sottovoce.quant.makers import make_codebook

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .mono { font-family: ui-monospace, monospace }
.middle { text-anchor: middle } .end { text-anchor: end }
.axis { stroke: #888; fill: none } .faint { stroke: #ccc; fill: none } .cells { fill: #dde3ea; stroke: none }
.line { stroke: #2060c0; stroke-width: 1.5; fill: none } .mark { fill: #2060c0 }
.other { stroke: #b06a10; stroke-width: 1.5; fill: none }
.box { fill: none; stroke: #888 }
@media (prefers-color-scheme: dark) {
text { fill: #ccc } .axis, .box { stroke: #888 } .faint { stroke: #444 } .cells { fill: #38424e }
.line { stroke: #7fb2ff } .mark { fill: #7fb2ff } .other { stroke: #e0a050 } }
"""


@dataclass
class Picture:
    """An SVG of ``width`` by ``height`` that follows the reader's light or dark setting."""

    width: int
    height: int
    label: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{words}</text>')

    def line(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        self.parts.append(f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" class="{kind}"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>')

    def svg(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">'
        return "\n".join([head, f"<title>{self.label}</title>", f"<style>{STYLE}</style>", *self.parts, "</svg>\n"])


def kernel() -> Tensor:
    """A weight matrix as training leaves them, (256, 256): many near zero, few far out."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.exp(0.4 * torch.randn(256, 1, generator=generator))
    return torch.randn(256, 256, generator=generator) * spread * 0.12


def levels() -> Picture:
    """Where eight levels go: Lloyd-Max centroids on the int8 grid, and evenly spaced ones."""
    picture = Picture(640, 275, "A histogram of weights; below it the levels at 3 bits of two tables")
    weight = kernel()
    left, right, floor, unit = 20.0, 620.0, 140.0, 1 / 128
    made = {kind: make_codebook(weight, BandSpec(3, kind)) for kind in ("lloyd-max", "uniform")}
    reach = 1.05 * max(float(book.levels.abs().max() * book.scale[0]) for book in made.values())

    def x(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (right - left)

    edges = np.arange(-np.floor(reach / unit), np.floor(reach / unit) + 1) * unit - unit / 2
    counts = np.histogram(weight.numpy(), edges)[0]
    for count, (low, high) in zip(counts, pairwise(edges), strict=True):
        height = 115 * count / counts.max()
        picture.box(x(low) + 0.5, floor - height, x(high) - x(low) - 1, height, "cells")
    picture.line([(left, floor), (right, floor)], "axis")
    names = {"lloyd-max": "Lloyd-Max: close together where weights are many", "uniform": "evenly spaced"}
    for step, (kind, book) in enumerate(made.items()):
        y = floor + 45 + 50 * step
        squared = float((book.decode(book.assign(weight)) - weight).square().mean() / weight.square().mean())
        picture.text(left, y - 14, f"{names[kind]}; squared error {100 * squared:.1f} % of the weights' power")
        picture.line([(left, y), (right, y)], "faint")
        for level in book.levels.tolist():
            at = x(level * float(book.scale[0]))
            picture.box(at - 1.5, y - 7, 3, 14, "mark")
            picture.text(at, y + 20, str(level), "mono middle")
    return picture


def penalty() -> Picture:
    """The absolute-cosine penalty over the cells between levels, and what the pull does to a weight there."""
    picture = Picture(
        640, 300, "The penalty: zero at each level, highest half-way between; the pull points to the nearest level"
    )
    book = make_codebook(kernel(), BandSpec(4, "regions"))
    values = book.decode(torch.arange(len(book.levels))[None])[0]
    reach = 1.12 * float(values.abs().max())
    w = torch.linspace(-reach, reach, 1201)[:, None]
    cost = torch.stack([book.penalty(each[None])[0] for each in w])
    moved = book.pull_(w.clone(), 0.2) - w
    moved[w.abs() > float(values.abs().max())] = torch.nan  # clipped there, which is no pull

    def x(value: float) -> float:
        return 20 + (value + reach) / (2 * reach) * 600

    for value, level in zip(values.tolist(), book.levels.tolist(), strict=True):
        picture.line([(x(value), 30), (x(value), 265)], "faint")
        picture.text(x(value), 285, str(level), "mono middle")
    picture.text(20, 18, "penalty: 1 − |cos| between neighbouring levels")
    picture.line([(x(float(a)), 130 - 90 * float(b)) for a, b in zip(w, cost, strict=True)], "line")
    picture.text(20, 158, "pull: how far a step moves a weight, upwards or downwards")
    picture.line([(20, 215), (620, 215)], "axis")
    largest = float(moved.nan_to_num().abs().max())
    inside = [(x(float(a)), 215 - 42 * float(b) / largest) for a, b in zip(w, moved, strict=True) if not b.isnan()]
    picture.line(inside, "other")
    return picture


def bands() -> Picture:
    """An embedding whose frequent words have more bits than its rare ones."""
    rows, columns = 96, 48
    plan = BitPlan.uniform(nn.ModuleDict({"embedding": nn.Embedding(rows, columns)}), 8, kind="uniform", grouping="row")
    plan = plan.split_rows("embedding.weight", 32, bits=(8, 2))
    picture = Picture(640, 250, "Rows of an embedding in two bands, eight bits above and two below")
    for band in plan.weights["embedding.weight"]:
        stop = rows if band.stop is None else band.stop
        top, bottom = 20 + 2.2 * band.start, 20 + 2.2 * stop
        for row in range(band.start, stop):
            picture.box(200, 20 + 2.2 * row, 36 * band.bits, 1.6, "cells")
        picture.line([(188, top), (182, top), (182, bottom - 1), (188, bottom - 1)], "axis")
        words = "frequent words" if band.start == 0 else "rare words"
        picture.text(172, (top + bottom) / 2 - 4, words, "end")
        picture.text(172, (top + bottom) / 2 + 11, f"rows {band.start} to {stop - 1}", "end")
        picture.text(210 + 36 * band.bits, (top + bottom) / 2 + 4, f"{band.bits} bits")
    return picture


def representation() -> Picture:
    """From packed bytes to weights: ``scale * level[code]``, eight weights of one row."""
    weight = kernel()[7:8, :8]
    book = make_codebook(kernel(), BandSpec(4))
    codes = book.assign(weight).numpy()
    band = make_band(codes, book.levels.numpy(), book.scale.numpy().astype(np.float16), 4, book.kind, "tensor")
    packed = pack_codes(codes, 4)
    decoded = np.float32(band.scale[0]) * band.levels.astype(np.float32)[codes]
    picture = Picture(640, 225, "Packed bytes, the codes in them, the level of each code, and scale times level")
    rows: Sequence[tuple[str, int, Callable[[int], str]]] = (
        ("bytes in the file", 4, lambda i: f"{packed[0, i]:02X}"),
        ("codes of 4 bits", 8, lambda i: str(codes[0, i])),
        ("level[code], int8", 8, lambda i: str(band.levels[codes[0, i]])),
        ("scale × level, float32", 8, lambda i: f"{decoded[0, i]:.3f}"),
    )
    for place, (name, count, value) in enumerate(rows):
        y, width = 14 + 52 * place, 464 / count
        picture.text(150, y + 21, name, "end")
        for i in range(count):
            picture.box(160 + i * width + 1, y, width - 2, 32, "box")
            picture.text(160 + (i + 0.5) * width, y + 21, value(i), "mono middle")
            if place:
                picture.line([(160 + (i + 0.5) * width, y - 18), (160 + (i + 0.5) * width, y - 2)], "faint")
    picture.text(392, 218, f"one scale for the whole matrix here: {float(band.scale[0]):g}", "middle")
    return picture


PICTURES = {"levels": levels, "penalty": penalty, "bands": bands, "representation": representation}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
