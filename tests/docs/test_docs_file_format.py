"""The page on the file format is enough for another team: a reader written from it alone reproduces every weight."""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce.packed import PackedModel, load_model, make_band
from sottovoce.packed.matrix import PackedMatrix

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import SMALL, random_model

PAGE = Path(__file__).parents[2] / "docs" / "file-format.md"
OPENING = b'{"__metadata__":{"crc32":"'
SIZES = {"U8": ("u1", 1), "I8": ("i1", 1), "I16": ("<i2", 2), "I32": ("<i4", 4), "I64": ("<i8", 8)}
SIZES |= {"F16": ("<f2", 2), "F32": ("<f4", 4)}


def read(raw: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any], bytes | None]:
    """Weights, metadata and tokenizer. Knows the page's sentences, and nothing of ``sottovoce.packed``."""
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0 and length <= 67_108_864
    head = raw[: 8 + length]
    assert head[8:].startswith(OPENING)
    at = 8 + len(OPENING)
    assert zlib.crc32(head[:at] + b"00000000" + head[at + 8 :]) == int(head[at : at + 8], 16)
    header = json.loads(head[8:].decode("ascii"))
    metadata = header.pop("__metadata__")
    assert set(metadata) == {"crc32", "sottovoce"}
    fields = json.loads(metadata["sottovoce"])
    wanted = {"version", "matrices", "aliases", "architecture", "input", "provenance", "crc32"}
    assert set(fields) == wanted and fields["version"] == 1
    tensors = tensors_of(raw[8 + length :], header, fields["crc32"])
    tokenizer = tensors.pop("__tokenizer__", None)
    assert not any(name.startswith("__") for name in tensors)
    weights = {name: matrix(tensors, name, entry) for name, entry in fields["matrices"].items()}
    weights |= tensors
    weights |= {alias: weights[name] for alias, name in fields["aliases"].items()}
    return weights, fields, None if tokenizer is None else tokenizer.tobytes()


def tensors_of(data: bytes, header: dict[str, Any], sums: dict[str, str]) -> dict[str, NDArray[Any]]:
    tensors, at, keys = {}, 0, []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, size = SIZES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        assert begin == at and end - begin == size * int(np.prod(entry["shape"])) and begin % size == 0
        assert int(sums[name], 16) == zlib.crc32(data[begin:end])
        tensors[name] = np.frombuffer(data[begin:end], dtype).reshape(entry["shape"])
        keys.append((-size, name))
        at = end
    assert at == len(data) and keys == sorted(keys) and set(sums) == set(header)
    return tensors


def matrix(tensors: dict[str, NDArray[Any]], name: str, entry: dict[str, Any]) -> NDArray[np.float32]:
    """One weight at a time, by whole numbers: no packed bit is looked at by the means that wrote it."""
    rows, columns = entry["shape"][0], int(np.prod(entry["shape"][1:]))
    weight = np.full((rows, columns), np.nan, np.float32)
    for k, band in enumerate(entry["bands"]):
        codes, levels, scale = (tensors.pop(f"{name}.{k}.{part}") for part in ("codes", "levels", "scale"))
        start, stop = band["rows"]
        assert codes.shape == (stop - start, -(-columns * band["bits"] // 8)) and len(levels) <= 2 ** band["bits"]
        for r in range(stop - start):
            stream = int.from_bytes(codes[r].tobytes(), "little")
            for c in range(columns):
                code = stream >> c * band["bits"] & 2 ** band["bits"] - 1
                group = r // ((stop - start) // len(scale))
                weight[start + r, c] = np.float32(scale[group]) * np.float32(levels[code])
            assert stream >> columns * band["bits"] == 0
    return weight.reshape(entry["shape"])


def every_width(rng: np.random.Generator) -> PackedModel:
    """All widths, groupings and dtypes of scales, three dimensions, bands, a tied weight, plain tensors."""
    tensors: dict[str, Any] = {}
    for bits in range(1, 9):
        bands = [band(rng, bits, "row", 0, 5), band(rng, 9 - bits, "gate", 5, 13), band(rng, bits, "tensor", 13, 14)]
        tensors[f"w{bits}"] = PackedMatrix((14, 3, 7), tuple(bands))
    tensors["bias"] = rng.normal(size=5).astype(np.float16)
    tensors["table"] = rng.normal(size=(2, 3)).astype(np.float32)
    tensors["order"] = np.arange(6)
    return PackedModel(tensors, tokenizer=b"any bytes", aliases={"tied": "w5"}, provenance={"by": "a test"})


def band(rng: np.random.Generator, bits: int, grouping: str, start: int, stop: int) -> Any:
    most = min(2**bits, 255)
    levels = np.sort(rng.choice(np.arange(-127, 128), rng.integers(1, most + 1), replace=False)).astype(np.int8)
    scale = rng.uniform(0.01, 1, {"tensor": 1, "gate": 4, "row": stop - start}[grouping])
    codes = rng.integers(0, len(levels), (stop - start, 21)).astype(np.uint8)
    return make_band(codes, levels, scale.astype(rng.choice(["f2", "f4"])), bits, "any", grouping, start)


@pytest.mark.parametrize("model", [random_model(SMALL), every_width(np.random.default_rng(0))], ids=["rnnt", "widths"])
def test_a_reader_written_from_the_page_reproduces_the_weights(model: PackedModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    weights, fields, tokenizer = read(path.read_bytes())
    loaded = load_model(path)
    assert tokenizer == loaded.tokenizer and fields["architecture"] == loaded.architecture
    assert weights.keys() == {*loaded.tensors, *loaded.aliases} and any(fields["matrices"])
    for name, weight in weights.items():
        assert np.array_equal(weight.astype(np.float32), loaded.decode(name)), name


@pytest.mark.parametrize("seed", range(3))
def test_the_reader_on_the_page_reads_every_width(seed: int, tmp_path: Path) -> None:
    """The block at the page's end, run as it stands on another file than the page's."""
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[-1]
    names: dict[str, Any] = {}
    exec(block[: block.index("weights = read(")], names)
    model = every_width(np.random.default_rng(seed))
    model.save(tmp_path / "m.safetensors")
    weights = names["read"](tmp_path / "m.safetensors")
    assert weights.pop("__tokenizer__").tobytes() == b"any bytes"
    assert weights.keys() == {*model.tensors, *model.aliases}
    assert all(np.array_equal(weight, model.decode(name)) for name, weight in weights.items() if weight.ndim == 3)


def test_the_page_counts_right() -> None:
    from sottovoce.packed import pack_codes

    page = PAGE.read_text()
    assert "`0xD1 0x00`" in page and f"exactly these {len(OPENING)} bytes" in page and OPENING.decode() in page
    assert pack_codes(np.array([[1, 2, 3]], np.uint8), 3).tobytes() == b"\xd1\x00"
