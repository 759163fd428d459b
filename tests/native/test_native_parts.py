"""The C++ parts of a device without Python, one at a time, against their Python definitions: bit for bit."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from native_build import Build
from numpy.typing import NDArray

from sottovoce.decoding import Beam, ContextGraph, Greedy, Phrase
from sottovoce.decoding.nbest import Hypothesis
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend import FeatureSettings, LinearResampler
from sottovoce.frontend.fbank import fbank
from sottovoce.packed import PackedMatrix, PackedModel, load_model, make_band
from sottovoce.runtime.words import words_of

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import speaking_model, tokenizer

pytestmark = pytest.mark.slow  # compiles the kernels once a session

Floats = NDArray[np.float32]
STATES, VOCABULARY = 64, 9
HOTWORDS = [
    Phrase((1, 2, 3), 1.5),
    Phrase((2,), 0.3),
    Phrase((3, 1, 2, 4), 0.7),
    Phrase((1, 2), 2.1),
    Phrase((8, 8), 0.1),
]


def noise(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)


# Reading files


def test_a_file_decodes_to_the_same_floats(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    speaking_model().save(path)
    model = load_model(path)
    expected = {name: f"{zlib.crc32(model.decode(name).tobytes()):08x}" for name in model.tensors}
    assert dict(line.split() for line in build.probe("file", path).decode().splitlines()) == expected


def test_every_kind_of_scale_and_alias_is_read(build: Build, tmp_path: Path) -> None:
    model = speaking_model()
    tensors: dict[str, Any] = dict(model.tensors)
    for i, grouping in enumerate(("tensor", "gate", "row")):
        tensors[f"extra.{grouping}"] = regrouped(model.tensors["joiner.output.weight"], grouping, bool(i % 2))
    whole = PackedModel(tensors, model.architecture, model.input, model.tokenizer, {"tied": "extra.gate"})
    path = tmp_path / "model.safetensors"
    whole.save(path)
    lines = build.probe("file", path).decode().splitlines()
    assert f"extra.gate {zlib.crc32(whole.decode('tied').tobytes()):08x}" in lines


def regrouped(matrix: Any, grouping: str, wide: bool) -> PackedMatrix:
    """Eight rows of random codes over the first band's levels, with the scales of another grouping."""
    band = matrix.bands[0]
    rows = 8
    codes = np.random.default_rng(1).integers(0, len(band.levels), (rows, matrix.columns)).astype(np.uint8)
    groups = {"tensor": 1, "gate": 4, "row": rows}[grouping]
    scale: Any = np.linspace(0.01, 0.02, groups).astype(np.float32 if wide else np.float16)
    return PackedMatrix((rows, matrix.columns), (make_band(codes, band.levels, scale, band.bits, "x", grouping),))


def test_flipped_bits_and_cut_files_are_refused_in_one_line(build: Build, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    speaking_model().save(source)
    whole = source.read_bytes()
    rng = np.random.default_rng(0)
    head = 8 + int.from_bytes(whole[:8], "little")
    spots = [*range(0, 64, 3), *rng.integers(0, head, 40).tolist(), *rng.integers(head, len(whole), 40).tolist()]
    for spot in spots:
        damaged = bytearray(whole)
        damaged[spot] ^= 1 << int(rng.integers(8))
        assert_refused(build, tmp_path, bytes(damaged))
    for length in [0, 1, 7, 8, 9, 40, head - 1, head, head + 1, len(whole) - 1, *rng.integers(0, len(whole), 20)]:
        assert_refused(build, tmp_path, whole[: int(length)])
    assert_refused(build, tmp_path, whole + b"\0")


def test_wrong_declarations_with_right_checksums_are_refused(build: Build, tmp_path: Path) -> None:
    """What a checksum cannot find: a header that lies. Each integer and each text of it is changed in turn."""
    source = tmp_path / "model.safetensors"
    speaking_model().save(source)
    whole = source.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    for name in [key for key in header if key != "__metadata__"][::5]:
        for key, value in (
            ("dtype", "F32"),
            ("dtype", "U9"),
            ("shape", [1 << 31] * 8),
            ("shape", []),
            ("shape", [-1]),
            ("shape", [1.5]),
            ("data_offsets", [0, 1 << 62]),
            ("data_offsets", [1 << 62, 0]),
            ("data_offsets", [0]),
            ("data_offsets", None),
        ):
            changed = {**header, name: {**header[name], key: value}}
            if changed != header:
                assert_refused(build, tmp_path, sealed(changed, data))
    fields = json.loads(header["__metadata__"]["sottovoce"])
    for name, declared in list(fields["matrices"].items())[::3]:
        band = declared["bands"][0]
        for changed_band in (
            {**band, "bits": 0},
            {**band, "bits": 9},
            {**band, "bits": band["bits"] % 8 + 1},
            {**band, "rows": [0, 1 << 31]},
            {**band, "rows": [1, 0]},
            {**band, "grouping": "tensor"},
            {**band, "kind": "\n"},
            {},
        ):
            matrices = {**fields["matrices"], name: {**declared, "bands": [changed_band, *declared["bands"][1:]]}}
            text = json.dumps({**fields, "matrices": matrices})
            metadata = {**header["__metadata__"], "sottovoce": text}
            assert_refused(build, tmp_path, sealed({**header, "__metadata__": metadata}, data))


def sealed(header: dict[str, Any], data: bytes) -> bytes:
    """A file with this header, its own checksum right."""
    metadata = {**header["__metadata__"], "crc32": "0" * 8}
    body = json.dumps(
        {"__metadata__": metadata, **{k: v for k, v in header.items() if k != "__metadata__"}}, separators=(",", ":")
    ).encode()
    whole = bytearray(struct.pack("<Q", len(body)) + body)
    at = whole.index(b"0" * 8)
    whole[at : at + 8] = f"{zlib.crc32(whole):08x}".encode()
    return bytes(whole) + data


def assert_refused(build: Build, folder: Path, content: bytes) -> None:
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    done = subprocess.run([build.folder / "probe", "file", path], capture_output=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2, (done.returncode, lines)
    assert len(lines) == 1 and lines[0].startswith(str(path)), lines


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', '{"a":NaN}', '{"a":01}', '{"a":1.}', '{"a":"\\ud800"}', '{"a":"\\x"}', '{"a":1}x', "[1]", "",
        '{"a":' * 100 + "1" + "}" * 100, '{"a":1,}', '{"a"}', '{"a":"\x01"}', '{"a":1e999}',
    ],
)  # fmt: skip
def test_json_that_is_not_strict_is_refused(build: Build, text: str) -> None:
    done = subprocess.run([build.folder / "probe", "fbank", text, "16000", "1"], input=b"", capture_output=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2 and b"settings: expected a JSON object" in done.stderr


# Front-end


@pytest.mark.parametrize("rates", [(8000, 16000), (44100, 16000), (48000, 16000), (16000, 8000), (11025, 16000),
                                   (192000, 16000), (22050, 16000), (16000, 16000), (96000, 16000),
                                   (44101, 16000), (79999, 16000)])  # fmt: skip
@pytest.mark.parametrize("chunk", [1, 160, 100_000])
def test_resampling_is_the_same_to_the_bit(build: Build, rates: tuple[int, int], chunk: int) -> None:
    samples = noise(4001)
    expected = LinearResampler(*rates).accept(samples, last=True)
    found = np.frombuffer(build.probe("resample", *rates, chunk, data=samples.tobytes()), np.float32)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rate", [-1, 0, 999, 768_001, 10**9])
def test_rates_that_python_refuses_are_refused(build: Build, rate: int) -> None:
    _both_refuse(build, rate, "a sample rate must be an integer")


@pytest.mark.parametrize("rate", [96_001, 767_999])
def test_filters_that_python_refuses_are_refused(build: Build, rate: int) -> None:
    _both_refuse(build, rate, f"resampling from {rate} to 16000 Hz: expected a filter of at most 1000000 weights")


def _both_refuse(build: Build, rate: int, line: str) -> None:
    with pytest.raises(DataError, match=line) as caught:
        LinearResampler(rate, 16_000)
    done = subprocess.run([build.folder / "probe", "resample", str(rate), "16000", "1"], input=b"", capture_output=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2 and done.stderr.decode().strip() == str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{}, {"sample_rate": 8000, "bins": 40}, {"bins": 23, "frame_ms": 32.0, "shift_ms": 12.5, "high_hz": 7000},
     {"style": "nemo", "low_hz": 0, "high_hz": 0}],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 100, 6000])
def test_filterbanks_are_those_of_the_wheel(build: Build, settings: dict[str, Any], count: int) -> None:
    wanted = FeatureSettings.from_dict(settings)
    samples = noise(count)
    samples[count // 2 :] *= np.float32(1e-4)
    expected = fbank(samples, wanted)
    for chunk in (1, 333, 100_000):
        found = build.probe("fbank", json.dumps(settings), wanted.sample_rate, chunk, data=samples.tobytes())
        frames = np.frombuffer(found, np.float32).reshape(-1, wanted.bins)
        assert frames.shape == expected.shape
        assert np.array_equal(frames, expected), np.abs(frames - expected).max()


@pytest.mark.parametrize("settings", [{"bins": 2}, {"bins": 200}, {"low_hz": 9000}, {"x": 1}, {"shift_ms": 30.0},
                                      {"bins": 80.0}, {"sample_rate": True}, {"style": "htk"},
                                      {"style": "nemo"}])  # fmt: skip
def test_settings_that_python_refuses_are_refused(build: Build, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FeatureSettings.from_dict(settings)
    done = subprocess.run([build.folder / "probe", "fbank", json.dumps(settings), "16000", "1"], input=b"",
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 2


# Decoding


class TableModel:
    """The probe's: a predictor that counts modulo 64, and a joiner that looks log-probabilities up."""

    def __init__(self, table: Floats) -> None:
        self.table = table
        self.vocabulary = table.shape[1]

    def predictor_start(self, n: int) -> tuple[Floats, ...]:
        return (np.zeros((n, 1), np.float32),)

    def predictor_step(self, tokens: Any, state: tuple[Floats, ...]) -> tuple[Floats, tuple[Floats, ...]]:
        after = (7 * (tokens[:, None] + 1).astype(np.float32) + 3 * state[0] + 1) % np.float32(STATES)
        return after.copy(), (after,)

    def joiner(self, encoder: Floats, predictor: Floats) -> Floats:
        log_probs: Floats = self.table[(encoder + predictor)[:, 0].astype(int) % STATES]
        return log_probs


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize(
    "search",
    [Greedy(1, 0.0), Greedy(4, -1.5), Greedy(3, 2.25), Beam(1, 0.0), Beam(4, 0.0), Beam(7, 1.5), Beam(40, -0.25),
     Beam(1, hotwords=ContextGraph(HOTWORDS, VOCABULARY)), Beam(6, 1.0, ContextGraph(HOTWORDS, VOCABULARY))],
)  # fmt: skip
def test_searches_find_the_same_to_the_bit(build: Build, search: Greedy | Beam, chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (STATES, VOCABULARY))
    logits[:, 0] += seed % 3  # blanks: from seldom to mostly
    table = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    table = np.round(table, seed % 2 + 1)  # ties
    frames = rng.integers(0, STATES, (60 if seed else 3000, 1)).astype(np.float32)
    if seed == 0 and isinstance(search, Beam) and search.beam > 4:
        frames = frames[:500]
    model = TableModel(table)
    state = search.advance(model, frames[None], np.array([len(frames)]), search.start(model, 1))
    (expected,) = search.results(state)
    beam = search.beam if isinstance(search, Beam) else 1
    symbols = search.max_symbols if isinstance(search, Greedy) else 1
    method = "beam" if isinstance(search, Beam) else "greedy"
    phrases = HOTWORDS if isinstance(search, Beam) and search.hotwords else []
    hotwords = [":".join(map(str, (phrase.score, *phrase.tokens))) for phrase in phrases]
    lines = build.probe("search", method, beam, symbols, search.blank_penalty, VOCABULARY, chunk, *hotwords,
                        data=table.tobytes() + frames.tobytes()).decode().splitlines()  # fmt: skip
    assert [parse(line) for line in lines] == [
        (h.score, list(zip(h.tokens, h.times, h.token_log_probs, strict=True))) for h in expected
    ]


def parse(line: str) -> tuple[float, list[tuple[int, int, float]]]:
    score, *steps = line.split()
    parts = [step.split(":") for step in steps]
    return float.fromhex(score), [(int(token), int(time), float.fromhex(value)) for token, time, value in parts]


def trained(model_type: str, **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four", "five  six sevén", "eight nine zero ten"] * 20),
        model_writer=model, model_type=model_type, hard_vocab_limit=False, normalization_rule_name="identity",
        pad_id=0, pad_piece="<blk>", unk_id=1, bos_id=-1, eos_id=-1, minloglevel=2, **options,
    )  # fmt: skip
    return model.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("char", {"vocab_size": 30}),
        ("bpe", {"vocab_size": 50}),
        ("unigram", {"vocab_size": 40}),
        ("bpe", {"vocab_size": 310, "byte_fallback": True}),
        ("bpe", {"vocab_size": 50, "add_dummy_prefix": False, "remove_extra_whitespaces": False}),
        ("char", {"vocab_size": 30, "remove_extra_whitespaces": False}),
        ("char", {"vocab_size": 30, "add_dummy_prefix": False}),
        ("bpe", {"vocab_size": 50, "user_defined_symbols": ["<x>"], "control_symbols": ["<c>"], "unk_surface": "?"}),
    ],
)
def test_tokens_become_the_same_text(build: Build, tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(trained(kind, **options))
    python = Tokenizer(path.read_bytes())
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, min(python.vocabulary, top), length).tolist()
             for length in (0, 1, 2, 3, 8, 20) for top in (4, 60, 10_000) for _ in range(40)]  # fmt: skip
    lists = [ids for ids in lists if not any(python.pieces[i] in ("<0x09>", "<0x0A>", "<0x0D>", "<0x00>") for i in ids)]
    lines = build.probe("detokenize", path, data="".join(f"{' '.join(map(str, ids))}\n" for ids in lists).encode())
    for ids, line in zip(lists, lines.decode().split("\n")[:-1], strict=True):
        assert line == python.decode(ids), [python.pieces[i] for i in ids]
    lines = build.probe("words", path, data="".join(f"{' '.join(map(str, ids))}\n" for ids in lists).encode())
    for ids, line in zip(lists, lines.decode().split("\n")[:-1], strict=True):
        ticks = range(len(ids))
        spoken = Hypothesis(tuple(ids), tuple(ticks), 0.0, tuple(-i / 8 for i in ticks))
        expected = [(w.text, w.start.hex(), w.end.hex(), w.confidence.hex()) for w in words_of(spoken, python, 0.04)]
        fields = line.split("\t")[:-1]
        rows = [fields[i : i + 4] for i in range(0, len(fields), 4)]
        found = [(text, *(float.fromhex(number).hex() for number in numbers)) for text, *numbers in rows]
        assert found == expected


def test_damaged_tokenizers_are_refused_or_read(build: Build, tmp_path: Path) -> None:
    whole = tokenizer()
    rng = np.random.default_rng(0)
    path = tmp_path / "tokenizer.model"
    for spot in rng.integers(0, len(whole), 80).tolist():
        damaged = bytearray(whole)
        damaged[spot] ^= 1 << int(rng.integers(8))
        for content in (bytes(damaged), whole[:spot]):
            path.write_bytes(content)
            done = subprocess.run([build.folder / "probe", "detokenize", path], input=b"2 3 4\n", capture_output=True,
                                  check=False)  # fmt: skip
            assert done.returncode in (0, 2), done
            assert done.returncode == 0 or done.stderr.startswith((b"tokenizer: ", b"token id "))
