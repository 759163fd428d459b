import json
import os
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_helpers import change_data, change_fields, header_of, matrices, saved, seal, small_model

from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, PackedModel, file_sizes, load_model, make_band
from sottovoce.packed.container import MAX_HEADER


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: ") and len(message) < len(str(path)) + 700
    return message.removeprefix(f"{path}: ")


@settings(max_examples=40)
@given(matrices(), matrices(), st.binary(max_size=9) | st.none())
def test_round_trip(first: PackedMatrix, second: PackedMatrix, tokenizer: bytes | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model = PackedModel({"a.weight": first, "b.weight": second}, tokenizer=tokenizer)
        model.save(path)
        loaded = load_model(path)
        assert loaded.tokenizer == tokenizer
        for name in ("a.weight", "b.weight"):
            assert np.array_equal(loaded.decode(name), model.decode(name))
            kept, made = loaded.tensors[name], model.tensors[name]
            assert [(b.start, b.stop, b.bits, b.kind, b.grouping, b.scale.dtype) for b in kept.bands] == [
                (b.start, b.stop, b.bits, b.kind, b.grouping, b.scale.dtype) for b in made.bands
            ]


def test_everything_comes_back(tmp_path: Path) -> None:
    model = small_model()
    model.save(str(tmp_path / "m"))
    loaded = load_model(tmp_path / "m")
    for key in ("architecture", "input", "tokenizer", "aliases", "provenance"):
        assert getattr(loaded, key) == getattr(model, key)
    for name in ("bias", "mean", "steps"):
        assert loaded.tensors[name].dtype == model.tensors[name].dtype
        assert np.array_equal(loaded.tensors[name], model.tensors[name])
    assert loaded.parameters == model.parameters and loaded.nbytes == model.nbytes


def test_same_model_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    model = small_model()
    model.save(tmp_path / "first")
    replace(model, tensors=dict(reversed(list(model.tensors.items())))).save(tmp_path / "second")
    load_model(tmp_path / "first").save(tmp_path / "third")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes() == (tmp_path / "third").read_bytes()


def test_safetensors_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    saved(path)
    arrays = safetensors.numpy.load_file(path)
    band = small_model().tensors["w"].bands[1]
    assert np.array_equal(arrays["w.1.codes"], band.codes) and np.array_equal(arrays["w.1.scale"], band.scale)
    assert arrays["__tokenizer__"].tobytes() == b"\x00pieces\xff" and arrays["steps"].shape == ()
    with safetensors.safe_open(path, "numpy") as opened:
        assert json.loads(opened.metadata()["sottovoce"])["version"] == 1


def test_tensors_are_views_of_the_file_and_aligned(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    band = loaded.tensors["w"].bands[1]
    for array in (loaded.tensors["mean"], loaded.tensors["steps"], loaded.tensors["bias"], band.scale, band.codes):
        assert not array.flags.owndata and not array.flags.writeable and array.flags.aligned


def test_sizes(tmp_path: Path) -> None:
    content = saved(tmp_path / "m")
    sizes = file_sizes(tmp_path / "m")
    assert (sizes.file_bytes, sizes.model_bytes, sizes.fp32_bytes) == (len(content), len(content) - 8, 100)


def test_five_bits_take_at_most_0_165_of_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.arange(-16, 16, dtype=np.int8)
    tensors: dict[str, object] = {}
    for layer in range(4):
        codes = rng.integers(0, 32, (2048, 256), dtype=np.uint8)
        scale = np.full(4, 0.01, np.float16)
        tensors[f"l{layer}.weight"] = PackedMatrix((2048, 256), (make_band(codes, levels, scale, 5, "u", "gate"),))
        tensors[f"l{layer}.bias"] = np.zeros(2048, np.float16)
    PackedModel(tensors, tokenizer=b"x" * 10_000).save(tmp_path / "m")
    sizes = file_sizes(tmp_path / "m")
    assert sizes.fp32_bytes >= 8_000_000 and sizes.model_bytes <= 0.165 * sizes.fp32_bytes


def test_any_flipped_bit_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path / "m")
    with (tmp_path / "m").open("r+b", buffering=0) as stream:
        for place, byte in enumerate(content):
            for bit in (0x01, 0x80):
                os.pwrite(stream.fileno(), bytes([byte ^ bit]), place)
                with pytest.raises(FormatError):
                    load_model(tmp_path / "m")
            os.pwrite(stream.fileno(), bytes([byte]), place)
    load_model(tmp_path / "m")


def test_any_cut_or_added_tail_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path / "m")
    assert "cut short or overlong" in refusal(tmp_path / "bad", content + b"\0")
    for length in reversed(range(len(content))):
        os.truncate(tmp_path / "m", length)
        with pytest.raises(FormatError, match=f"{tmp_path}"):
            load_model(tmp_path / "m")


def test_damage_names_the_tensor(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "m"))
    header, data = header_of(content)
    content[len(content) - len(data) + header["w.0.codes"]["data_offsets"][0]] ^= 1
    assert refusal(tmp_path / "bad", bytes(content)).startswith("tensor w.0.codes does not match its checksum")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="none: cannot be read: No such file"):
        load_model(tmp_path / "none")
    with pytest.raises(FormatError, match="cannot be read"):
        load_model(tmp_path)
    with pytest.raises(FormatError, match="cannot be written: No such file"):
        small_model().save(tmp_path / "none" / "m")


def test_oversized_header(tmp_path: Path) -> None:
    content = saved(tmp_path / "m")
    huge = (MAX_HEADER + 1).to_bytes(8, "little") + content[8:]
    assert f"at most {MAX_HEADER} bytes, found {MAX_HEADER + 1}" in refusal(tmp_path / "bad", huge)
    assert "cut short" in refusal(tmp_path / "bad", (1 << 20).to_bytes(8, "little") + content[8:])


def test_another_safetensors_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    safetensors.numpy.save_file({"w": np.zeros(2, np.float32)}, path)
    assert "not a Sottovoce model file" in refusal(path, path.read_bytes())


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (
            "w.0.scale",
            np.array([np.nan, 1], np.float16),
            "tensor w.0.scale: expected finite values above zero, found nan",
        ),
        ("w.1.scale", np.array([np.inf], np.float32), "tensor w.1.scale: expected finite"),
        ("w.1.scale", np.array([0], np.float32), "tensor w.1.scale: expected finite values above zero, found 0.0"),
        ("w.1.scale", np.array([-1], np.float32), "tensor w.1.scale: expected finite values above zero, found -1.0"),
        ("mean", np.array([0, np.nan, 0], np.float32), "tensor mean: expected numbers, found NaN"),
        ("w.0.levels", np.array([3, 2, 4], np.int8), "tensor w.0.levels: expected strictly increasing"),
        ("w.0.codes", np.full((2, 2), 0x03, np.uint8), "tensor w.0.codes: expected codes below the 3 levels, found 3"),
        ("w.0.codes", np.full((2, 2), 0x80, np.uint8), "tensor w.0.codes: expected zero bits"),
    ],
)
def test_wrong_values_with_right_checksums(tmp_path: Path, name: str, values: np.ndarray, words: str) -> None:
    assert refusal(tmp_path / "bad", change_data(saved(tmp_path / "m"), name, values)).startswith(words)


def _matrix(key, value):
    return lambda fields: fields["matrices"]["w"].__setitem__(key, value)


def _band(key, value):
    return lambda fields: fields["matrices"]["w"]["bands"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(version=2), "metadata: expected format version 1, found 2"),
        (lambda f: f.update(version=True), "expected format version 1, found True"),
        (lambda f: f.pop("version"), "expected format version 1, found None"),
        (lambda f: f.update(extra=1), "metadata: unknown key 'extra'"),
        (lambda f: f.pop("input"), "metadata: missing key 'input'"),
        (lambda f: f.update(input=[]), "metadata: expected input to be an object"),
        (lambda f: f.pop("crc32"), "metadata: expected crc32"),
        (lambda f: f["crc32"].pop("bias"), "tensor 'bias': found a tensor without a checksum"),
        (lambda f: f["crc32"].update(ghost="0"), "tensor 'ghost': found a checksum without its tensor"),
        (lambda f: f["crc32"].update(bias=7), "tensor bias does not match its checksum"),
        (lambda f: f["aliases"].update(tied="none"), "aliases: expected 'tied'"),
        (lambda f: f["aliases"].update(bias="w"), "aliases: expected 'bias'"),
        (lambda f: f["aliases"].update(tied=["w"]), "aliases: expected 'tied'"),
        # Its tensors become plain arrays, and the alias hangs in the air.
        (lambda f: f["matrices"].clear(), "aliases: expected 'tied'"),
        (lambda f: f["matrices"].update({"x\n": {}}), "tensor 'x\\n': expected a name"),
        (lambda f: f["matrices"].update(bias=f["matrices"]["w"]), "tensor bias.0.codes: declared in the metadata"),
        (_matrix("shape", [4, 7]), "tensor w.1.codes: expected uint8 of (2, 3), found uint8 (2, 2)"),
        (_matrix("shape", [5, 5]), "tensor w: expected bands over all 5 rows"),
        (_matrix("shape", [20]), "tensor w: expected a shape"),
        (_matrix("shape", [4, -5]), "matrix w: expected shape to be integers"),
        (_matrix("shape", [4, 5.0]), "matrix w: expected shape to be integers"),
        (_matrix("shape", [4, True]), "matrix w: expected shape to be integers"),
        (_matrix("shape", [1 << 32, 5]), "matrix w: expected shape to be integers"),
        (_matrix("shape", "ab"), "matrix w: expected shape to be integers"),
        (_matrix("bands", {}), "matrix w: expected a shape and a list of bands"),
        (_matrix("bands", []), "tensor w: expected bands over all 4 rows, found them over 0"),
        (_matrix("extra", 1), "matrix w: expected a shape and a list of bands"),
        (lambda f: f["matrices"]["w"]["bands"].pop(), "tensor w: expected bands over all 4 rows, found them over 2"),
        (lambda f: f["matrices"]["w"]["bands"].append(None), "band w.2: expected bits"),
        (_band("rows", [0, 3]), "tensor w.0.codes: expected uint8 of (3, 2)"),
        (_band("rows", [0]), "band w.0: expected two rows"),
        (_band("rows", [1, 2]), "tensor w.0: expected rows from 0 on"),
        (_band("bits", 3), "tensor w.0.codes: expected codes below the 3 levels, found"),
        (_band("bits", 0), "tensor w.0: expected 1 to 8 bits, found 0"),
        (_band("bits", 99), "band w.0: expected bits to be integers from 0 to 8"),
        (_band("kind", 5), "band w.0: expected two rows"),
        (_band("kind", "x" * 65), "tensor w.0: expected a kind"),
        (_band("grouping", "tensor"), "tensor w.0.scale: 2 entries do not fit grouping tensor"),
        (_band("grouping", "none"), "tensor w.0: expected grouping"),
        (_band("extra", "none"), "band w.0: expected bits"),
    ],
)
def test_wrong_metadata_with_right_checksums(tmp_path: Path, change, words: str) -> None:
    assert words in refusal(tmp_path / "bad", change_fields(saved(tmp_path / "m"), change))


def _entry(name, key, value):
    return lambda header: header[name].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_entry("bias", "dtype", "F64"), "tensor bias: expected dtype"),
        (_entry("bias", "dtype", ["F16"]), "tensor bias: expected dtype"),
        (_entry("bias", "shape", [3]), "tensor bias: data_offsets"),
        (_entry("bias", "shape", [-2]), "tensor bias: expected shape to be integers"),
        (_entry("bias", "shape", [1] * 9), "tensor bias: expected at most 8 dimensions"),
        (_entry("bias", "shape", [0, 1 << 31, 1 << 31]), "tensor bias: expected at most 8 dimensions and"),
        (_entry("bias", "data_offsets", [0, 4]), "tensor"),
        (_entry("bias", "data_offsets", [4, 0]), "tensor bias: data_offsets"),
        (_entry("bias", "data_offsets", [0, 1, 2]), "tensor bias: data_offsets"),
        (_entry("bias", "data_offsets", [10**300, 10**300 + 4]), "tensor bias: expected data_offsets to be integers"),
        (_entry("bias", "more", 1), "tensor bias: expected dtype, shape and data_offsets"),
        (lambda h: h.update(bias=3), "tensor bias: expected dtype, shape and data_offsets"),
        (lambda h: h.pop("bias"), "expected to begin"),
        (lambda h: h.update({"": h["bias"]}), "tensor '': expected a name"),
        (lambda h: h.update({"\ud800": h["bias"]}), r"tensor '\ud800': expected a name"),
        (lambda h: h["__metadata__"].update(more="x"), "header: expected metadata entries"),
        (lambda h: h["__metadata__"].update(sottovoce=3), "header: expected metadata sottovoce to be text"),
        (lambda h: h["__metadata__"].update(sottovoce="[1]"), "metadata: expected a JSON object"),
        (lambda h: h["__metadata__"].update(sottovoce='{"a":1,"a":2}'), "given twice"),
        (lambda h: h["__metadata__"].update(sottovoce='{"a":NaN}'), "NaN"),
        (lambda h: h["__metadata__"].update(sottovoce='{"a":"\ud800"}'), "metadata: expected a JSON object"),
        (lambda h: h["__metadata__"].update(sottovoce='{"a":' + "[" * 100_000), "nested"),
        (lambda h: h["__metadata__"].update(sottovoce='{"a":' + "1" * 5000 + "}"), "metadata: expected a JSON object"),
    ],
)
def test_wrong_headers_with_right_checksums(tmp_path: Path, change, words: str) -> None:
    header, data = header_of(saved(tmp_path / "m"))
    change(header)
    assert words in refusal(tmp_path / "bad", seal(header, data))


def test_headers_that_are_no_json(tmp_path: Path) -> None:
    content = saved(tmp_path / "m")
    header, data = header_of(content)
    text = json.dumps(header, separators=(",", ":"))
    twice = text[:-1] + ',"bias":' + json.dumps(header["bias"]) + "}"
    assert "given twice" in refusal(tmp_path / "bad", seal(twice, data))
    assert "header: expected a JSON object" in refusal(tmp_path / "bad", seal(text[:-1], data))
    assert "header: expected a JSON object" in refusal(tmp_path / "bad", seal(text.encode() + b"\xff", data))
    deep = text[:-1] + ',"x":' + "[" * 200_000
    assert "nested" in refusal(tmp_path / "bad", seal(deep, data))


def test_an_array_in_a_matrix_place_is_refused(tmp_path: Path) -> None:
    header, data = header_of(saved(tmp_path / "m"))
    header["w.7.codes"] = header.pop("bias")
    fields = json.loads(header["__metadata__"]["sottovoce"])
    fields["crc32"]["w.7.codes"] = fields["crc32"].pop("bias")
    header["__metadata__"]["sottovoce"] = json.dumps(fields)
    assert "tensor w.7.codes: unknown" in refusal(tmp_path / "bad", seal(header, data))


def test_a_tokenizer_must_be_bytes(tmp_path: Path) -> None:
    header, data = header_of(saved(tmp_path / "m"))
    header["__tokenizer__"]["shape"] = [2, 4]
    assert "tensor __tokenizer__: expected uint8" in refusal(tmp_path / "bad", seal(header, data))


def test_a_header_too_long_to_read_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.packed.container.MAX_HEADER", 1000)
    with pytest.raises(FormatError, match="header: expected at most 1000 bytes"):
        small_model().save(tmp_path / "m")


def test_too_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(tmp_path / "m")
    monkeypatch.setattr("sottovoce.packed.container.MAX_TENSORS", 3)
    assert "expected at most 3 tensors" in refusal(tmp_path / "bad", content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensors": {"x": np.zeros(2, np.float64)}, "aliases": {}}, "tensor x: expected one of"),
        ({"tensors": {"x": np.array([np.nan], np.float16)}, "aliases": {}}, "tensor x: expected numbers, found NaN"),
        ({"tensors": {"": np.zeros(2, np.float32)}, "aliases": {}}, "tensor '': expected a name"),
        ({"tensors": {"__tokenizer__": np.zeros(2, np.uint8)}, "aliases": {}}, "its name is taken"),
        ({"tensors": small_model().tensors | {"w.3.scale": np.zeros(2, np.float32)}}, "its name is taken"),
        ({"aliases": {"tied": "gone"}}, "aliases: expected 'tied'"),
        ({"provenance": {"x": {1, 2}}}, "metadata: expected values that JSON can hold"),
        ({"provenance": {"x": float("nan")}}, "metadata: expected values that JSON can hold"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path, changes, words: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with pytest.raises(FormatError, match=f"{path}: .*{words}"):
        replace(small_model(), **changes).save(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    old = saved(path)

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(small_model(), tokenizer=b"new").save(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def _try(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        path.write_bytes(content)
        try:
            model = load_model(path)
        except FormatError as error:
            assert "\n" not in str(error)
        else:
            assert all(model.decode(name).shape is not None for name in model.tensors)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 220))
def test_fuzz_random_bytes(content: bytes, length: int) -> None:
    _try(content)
    _try(length.to_bytes(8, "little") + content)
    _try(seal(b'{"__metadata__":{"crc32":"00000000' + content, b""))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["w", "F16"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@cache
def small_content() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return saved(Path(folder) / "m")


@settings(max_examples=150)
@given(st.data())
def test_fuzz_sealed_headers(data: st.DataObject) -> None:
    header, tail = header_of(small_content())
    fields = json.loads(header["__metadata__"]["sottovoce"])
    place = data.draw(st.sampled_from([header, fields]))
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[key], dict | list) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(_JSON)
    if isinstance(header.get("__metadata__"), dict) and "sottovoce" in header["__metadata__"] and place is not header:
        header["__metadata__"]["sottovoce"] = json.dumps(fields)
    _try(seal(header, tail))
