"""Models to test with, and ways to damage a file so that its checksums still hold."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sottovoce.packed import Band, PackedMatrix, PackedModel, make_band

HEAD = b'{"__metadata__":{"crc32":"'
DIGITS = slice(8 + len(HEAD), 16 + len(HEAD))


@st.composite
def bands(draw: st.DrawFn, rows: int, columns: int, start: int) -> Band:
    bits = draw(st.integers(1, 8))
    count = draw(st.integers(1, 2**bits))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = np.sort(rng.choice(np.arange(-128, 128), count, replace=False)).astype(np.int8)
    grouping = draw(st.sampled_from(["tensor", "gate", "row"]))
    divisors = [g for g in range(1, rows + 1) if rows % g == 0]
    groups = {"tensor": 1, "row": rows}.get(grouping) or draw(st.sampled_from(divisors))
    scale = rng.uniform(1e-3, 2.0, groups).astype(draw(st.sampled_from([np.float16, np.float32])))
    codes = rng.integers(0, count, (rows, columns)).astype(np.uint8)
    return make_band(codes, levels, scale, bits, draw(st.sampled_from(["lloyd", "uniform"])), grouping, start)


@st.composite
def matrices(draw: st.DrawFn) -> PackedMatrix:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    columns = int(np.prod(shape))
    found: list[Band] = []
    for rows in draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)):
        found.append(draw(bands(rows, columns, found[-1].stop if found else 0)))
    return PackedMatrix((found[-1].stop, *shape), tuple(found))


def small_model() -> PackedModel:
    """One matrix of two bands, arrays of several types, a tokenizer and an alias; 5 weights a row need padding."""
    codes = np.arange(20, dtype=np.uint8).reshape(4, 5) % 3
    first = make_band(codes[:2], np.array([-4, 0, 7], np.int8), np.array([0.5, 0.25], np.float16), 2, "lloyd", "row")
    second = make_band(codes[2:], np.array([-1, 1, 2], np.int8), np.array([0.125], np.float32), 3, "table", "tensor", 2)
    return PackedModel(
        {
            "w": PackedMatrix((4, 5), (first, second)),
            "bias": np.array([1.5, -2.0], np.float16),
            "mean": np.array([0.1, 0.2, 0.3], np.float32),
            "steps": np.array(7, np.int64),
        },
        architecture={"type": "rnnt", "layers": [1, 2]},
        input={"waveform": {"rate": 16000}},
        tokenizer=b"\x00pieces\xff",
        aliases={"tied": "w"},
        provenance={"seed": 1, "name": "é"},
    )


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a file's bytes."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def seal(header: str | bytes | dict[str, Any], data: bytes) -> bytes:
    """A file whose header checksum is right, whatever the header says."""
    text = header if isinstance(header, str | bytes) else json.dumps(header, separators=(",", ":"))
    body = text.encode() if isinstance(text, str) else text
    whole = bytearray(len(body).to_bytes(8, "little") + body)
    whole[DIGITS] = b"00000000"
    whole[DIGITS] = f"{zlib.crc32(whole):08x}".encode()
    return bytes(whole) + data


def change_fields(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with its metadata object changed and its header checksum made right."""
    header, data = header_of(content)
    fields = json.loads(header["__metadata__"]["sottovoce"])
    change(fields)
    header["__metadata__"]["sottovoce"] = json.dumps(fields)
    return seal(header, data)


def change_data(content: bytes, name: str, values: np.ndarray) -> bytes:
    """The file with one tensor's bytes replaced and all checksums made right."""
    header, data = header_of(content)
    begin, end = header[name]["data_offsets"]
    raw = values.tobytes()
    assert len(raw) == end - begin

    def new_sum(fields: dict[str, Any]) -> None:
        fields["crc32"][name] = f"{zlib.crc32(raw):08x}"

    return change_fields(content[: len(content) - len(data)] + data[:begin] + raw + data[end:], new_sum)


def saved(path: Path) -> bytes:
    small_model().save(path)
    return path.read_bytes()
