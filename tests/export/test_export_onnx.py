# ruff: noqa: E402 - imports follow the check that the extra is there
"""Plain ONNX graphs compute the packed network, in every form of weights."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="the [export] extra is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the [export] extra is not installed")

import onnx
from export_models import LMS, RNNTS, SMALL, lm_model, random_model, saved, speaking_model

from sottovoce.cli.main import app
from sottovoce.errors import ConfigError, ExportError, FormatError
from sottovoce.export import FORMS, WeightForm, export_onnx
from sottovoce.export.checks import FLOORS_DB, check_close, lm_pairs, onnx_rnnt_pairs
from sottovoce.export.graph import Graph
from sottovoce.export.networks import onnx_graphs
from sottovoce.export.sessions import Session
from sottovoce.export.sherpa import lstm_graphs
from sottovoce.export.weights import BLOCK, decoded, int4_weight, int8_weight
from sottovoce.packed import PackedMatrix, PackedModel, RnntArchitecture, make_band

sys.path.append(str(Path(__file__).parents[1] / "packed"))
from packed_helpers import matrices

EXACT = ("codes", "float")


@settings(max_examples=60)
@given(matrices())
def test_codes_unpack_to_the_decoded_weights_bit_for_bit(matrix: PackedMatrix) -> None:
    flat = PackedMatrix((matrix.rows, matrix.columns), matrix.bands)
    graph = Graph("weights")
    graph.output(decoded(graph, "w", flat), "w_decoded", flat.rows, flat.columns)
    (found,) = Session(graph.model())()
    np.testing.assert_array_equal(found, flat.decode())


@given(st.integers(1, 4), st.integers(1, 3 * BLOCK), st.booleans(), st.integers(0, 2**32 - 1))
def test_blocks_of_4_bits_hold_even_levels_exactly(bits: int, columns: int, spread: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 2**bits - (bits == 4)
    levels = ((np.arange(count) - count // 2) * (11 if spread else 1)).astype(np.int8)
    codes = rng.integers(0, count, (6, columns)).astype(np.uint8)
    scale = rng.uniform(0.1, 2.0, 6).astype(np.float16)
    matrix = PackedMatrix((6, columns), (make_band(codes, levels, scale, bits, "uniform", "row"),))
    np.testing.assert_allclose(int4_weight(matrix).decode(), matrix.decode(), rtol=1e-6)


@given(st.integers(1, 2 * BLOCK), st.integers(0, 2**32 - 1))
def test_blocks_of_4_bits_round_within_a_sixth_of_the_largest_weight(columns: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, columns)).astype(np.float32)
    found = int4_weight(values).decode()
    assert found.shape == values.shape
    blocks = np.pad(np.abs(values), ((0, 0), (0, -columns % BLOCK))).reshape(3, -1, BLOCK).max(axis=-1)
    allowed = np.repeat(blocks, BLOCK, axis=1)[:, :columns]
    # The coarsest scale tried is a sixth of the largest, and rounds within half of itself; a finer one that is better
    # on the whole may clip the largest by up to 2 / 9 of it.
    assert (np.abs(found - values) <= allowed * (2 / 9) + 1e-6).all()
    plain = np.abs(values).max(axis=1, keepdims=True) / 7
    assert np.square(found - values).sum() <= np.square(np.rint(values / plain) * plain - values).sum() * 1.1 + 1e-12


def test_int8_keeps_the_levels_and_rounds_float_weights_to_127() -> None:
    model = random_model()
    matrix = model.tensors["encoder.layers.0.weight_ih_l0"]
    weight = int8_weight(matrix)
    np.testing.assert_array_equal(weight.levels * weight.row_scale[:, None], matrix.decode())
    values = np.array([[0.5, -2.0, 1.0], [0, 0, 0]], np.float32)
    rounded = int8_weight(values)
    assert rounded.levels.tolist() == [[32, -127, 64], [0, 0, 0]]
    np.testing.assert_allclose(rounded.row_scale, [2 / 127, 1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", RNNTS.values(), ids=RNNTS)
def test_an_rnnt_is_the_packed_network(architecture: RnntArchitecture, form: WeightForm) -> None:
    model = random_model(architecture)
    found = check_close(onnx_rnnt_pairs(onnx_graphs(model, form), model, form), form)
    assert [one.graph for one in found] == ["encoder", "predictor", "joiner"]
    assert all(one.signal_to_noise_db > (90 if form in EXACT else 15) for one in found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", LMS, ids=LMS)
def test_a_language_model_is_the_packed_network(architecture: str, form: WeightForm) -> None:
    model = lm_model(LMS[architecture])
    (found,) = check_close(lm_pairs(onnx_graphs(model, form), model, form), form)
    assert found.signal_to_noise_db > (100 if form in EXACT else 20)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 6, 7])
def test_every_width_is_a_form_of_codes(bits: int) -> None:
    model = random_model(bits=bits)
    check_close(onnx_rnnt_pairs(onnx_graphs(model, "codes"), model, "codes"), "codes")


@pytest.mark.parametrize("form", FORMS)
def test_weights_stored_as_floats_are_exported_too(form: WeightForm) -> None:
    model = random_model(packed=False)
    check_close(onnx_rnnt_pairs(onnx_graphs(model, form), model, form), form)


@pytest.mark.parametrize("form", FORMS)
def test_another_network_is_noticed(form: WeightForm) -> None:
    graphs = onnx_graphs(random_model(seed=1), form)
    with pytest.raises(ExportError, match=rf"^encoder: expected outputs at least {FLOORS_DB[form]:.0f} dB over"):
        check_close(onnx_rnnt_pairs(graphs, random_model(seed=2), form), form)


def operators(graph: onnx.ModelProto) -> Counter[str]:
    """Of a graph as ONNX Runtime runs it."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(Path(folder) / "optimized.onnx").graph.node)


def test_codes_are_expanded_once_at_load() -> None:
    for graph in onnx_graphs(random_model(), "codes").values():
        left = operators(graph)
        assert not left.keys() & {"BitShift", "Cast"}, left
        assert left["Gather"] <= 1  # that of the embedding


def test_int8_runs_on_integers() -> None:
    graphs = onnx_graphs(random_model(), "int8")
    found = sum((operators(graph) for graph in graphs.values()), Counter())
    assert found["DynamicQuantizeLSTM"] == SMALL.encoder_layers + SMALL.predictor_layers
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == 3
    assert not found.keys() & {"LSTM", "MatMul", "Gemm"}


def test_int8_products_are_of_unsigned_bytes() -> None:
    """Without a dot product of bytes (AVX2) those of uint8 and int8 saturate in ONNX Runtime. On such a machine the
    tests of closeness see it; this one sees it on any."""
    weights_at = {"DynamicQuantizeLSTM": (1, 2), "MatMulInteger": (1,)}
    for graph in onnx_graphs(random_model(), "int8").values():
        types = {weight.name: weight.data_type for weight in graph.graph.initializer}
        read = [node.input[at] for node in graph.graph.node for at in weights_at.get(node.op_type, ())]
        assert read and all(types[name] == onnx.TensorProto.UINT8 for name in read)


def big(bits: int) -> PackedModel:
    a = RnntArchitecture(
        features=80, vocabulary=500, encoder_units=128, embedding=64, predictor_units=64, joiner_units=64
    )
    return random_model(a, bits=bits)


@pytest.mark.parametrize("bits", [2, 5])
def test_files_are_as_small_as_the_packed_one(bits: int, tmp_path: Path) -> None:
    model = big(bits)
    model.save(tmp_path / "model.safetensors")
    ours = (tmp_path / "model.safetensors").stat().st_size
    sizes = {form: sum(export_onnx(model, tmp_path / form, weights=form).files.values()) for form in FORMS}  # type: ignore[arg-type]
    assert sizes["codes"] < ours * 1.15  # nodes and 32-bit biases
    assert sizes["int8"] < 1.1 * model.parameters and sizes["int4"] < 0.75 * model.parameters
    assert sizes["float"] > 4 * model.parameters


def test_graphs_are_for_the_runtimes_that_people_have() -> None:
    for graph in (*onnx_graphs(random_model(), "codes").values(), *onnx_graphs(random_model(), "int8").values()):
        onnx.checker.check_model(graph, full_check=False)
        assert graph.ir_version <= 8
        assert {one.domain: one.version for one in graph.opset_import}[""] == 17


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    exported = export_onnx(speaking_model(), out)
    assert set(exported.files) == {"encoder.onnx", "predictor.onnx", "joiner.onnx", "tokens.txt"}
    assert exported.files == {file.name: file.stat().st_size for file in out.iterdir()}
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    monkeypatch.setattr("sottovoce.export.onnx_files.onnx_graphs", lambda *_: onnx_graphs(speaking_model(1), "float"))
    with pytest.raises(ExportError, match="encoder: expected outputs"):
        export_onnx(speaking_model(), out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights: expected one of codes, int8, int4, float, found 'int5'; did you"):
        export_onnx(random_model(), tmp_path, weights="int5")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="expected an RNN-T or a language model, found 'resnet'"):
        export_onnx(PackedModel({}, {"type": "resnet"}), tmp_path)
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(ExportError, match="taken: cannot be written"):
        export_onnx(random_model(), taken)


def test_the_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    saved(speaking_model(), run / "model.safetensors")
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "onnx")])
    assert done.exit_code == 0 and "weights exact" in done.output and "encoder.onnx" in done.output
    assert Session(onnx.load(tmp_path / "onnx" / "joiner.onnx")).zeros(N=1)["frames"].shape == (1, 12)
    lm = saved(lm_model(LMS["lstm"]), tmp_path / "lm.safetensors")
    done = CliRunner().invoke(app, ["export", str(lm), "--out", str(tmp_path / "lm"), "--weights", "int4"])
    assert done.exit_code == 0 and "weights rounded" in done.output
    done = CliRunner().invoke(app, ["export", str(lm), "--out", str(tmp_path / "lm"), "--format", "sherpa"])
    assert isinstance(done.exception, ConfigError) and "did you mean 'sherpa-onnx'?" in str(done.exception)


def names_of(graph: onnx.GraphProto) -> list[str]:
    """All names that a graph and the bodies inside it give to values."""
    mine = [one.name for one in (*graph.initializer, *graph.input)] + [
        out for node in graph.node for out in node.output
    ]
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return mine + [name for body in bodies for name in names_of(body)]


@pytest.mark.parametrize("form", FORMS)
def test_no_value_of_a_loop_bears_the_name_of_one_around_it(form: WeightForm) -> None:
    model = random_model(RNNTS["PCEN"])
    for graph in (*onnx_graphs(model, form).values(), *lstm_graphs(model, form, chunk=16, window=5).values()):
        assert [name for name, count in Counter(names_of(graph.graph)).items() if count > 1] == []


def test_what_no_file_can_hold_and_what_onnx_runtime_refuses_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx_graphs(random_model(), "codes")["joiner"]
    graph.opset_import[0].version = 999
    with pytest.raises(ExportError, match=r"^joiner: ONNX Runtime .* refuses the graph: ") as caught:
        Session(graph)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("onnx.checker.MAXIMUM_PROTOBUF", 1000)
    with pytest.raises(ExportError, match=r"^encoder\.onnx: expected at most 1,000 bytes"):
        onnx_graphs(random_model(), "codes")


def test_options_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    path = saved(speaking_model(), tmp_path / "model.safetensors")
    for option in (["--predictor", "stateful"], ["--window", "9"], ["--chunk", "64"], ["--no-check"]):
        done = CliRunner().invoke(app, ["export", str(path), "--out", str(tmp_path / "out"), *option])
        assert isinstance(done.exception, ConfigError) and str(done.exception).startswith(f"{option[0]}: it changes")
    assert not (tmp_path / "out").exists()
