# ruff: noqa: E402 - imports follow the check that the extra is there
"""A transducer that somebody else exported for sherpa-onnx is compressed, and runs there as before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

for package in ("onnx", "onnxruntime", "sherpa_onnx"):
    pytest.importorskip(package, reason=f"{package} is not installed: it comes with the [export] extra")

import onnx
from onnx import TensorProto, helper, numpy_helper

from sottovoce.cli.main import app
from sottovoce.errors import ConfigError, ExportError, FormatError
from sottovoce.export import export_onnx_set
from sottovoce.export.graph import INT64, Graph
from sottovoce.export.onnx_set import filled
from sottovoce.export.product import save_graphs
from sottovoce.export.sessions import Session
from sottovoce.importing import import_onnx_set, is_onnx_set
from sottovoce.packed import PackedMatrix, load_model
from sottovoce.packed.onnx_set import OnnxSetArchitecture

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import random_matrix

F, T, D, H, J, E, V = 80, 8, 20, 28, 16, 12, 30


class Random:
    """Weights of a graph."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph, self.rng = graph, np.random.default_rng(seed)

    def __call__(self, name: str, *shape: int, scale: float = 0.0) -> str:
        spread = scale or 1.5 / np.sqrt(shape[-2] if len(shape) > 1 else 4)
        return self.graph.weight(name, self.rng.normal(0, spread, shape).astype(np.float32))


def encoder() -> onnx.ModelProto:
    """As icefall exports its projected LSTM: unrolled to MatMuls, over a convolution that subsamples by 4."""
    g = Graph("encoder")
    w = Random(g, 0)
    x, h, c = g.input("x", "N", T, F), g.input("state0", 1, "N", D), g.input("state1", 1, "N", H)
    x = g.add("Add", x, g.number(8.0))
    x = g.add("Conv", g.add("Transpose", x, perm=[0, 2, 1]), w("conv.weight", D, F, 4, scale=0.03), strides=[4])
    x = g.add("Transpose", g.add("Tanh", x), perm=[2, 0, 1])  # (T / 4, N, D)
    h, c = (g.add("Squeeze", value, g.integers(0)) for value in (h, c))
    outputs = []
    for t in range(T // 4):
        now = g.add("Squeeze", g.slice(x, t, t + 1, 0), g.integers(0))
        gates = g.add("Add", g.add("MatMul", now, w("onnx::MatMul_1", D, 4 * H)), w("lstm.bias", 4 * H, scale=0.3))
        gates = g.add("Add", gates, g.add("MatMul", h, w("onnx::MatMul_2", D, 4 * H)))
        i, f, cell, o = g.split(gates, [H] * 4, axis=1)
        kept = g.add("Mul", g.add("Sigmoid", f), c)
        c = g.add("Add", kept, g.add("Mul", g.add("Sigmoid", i), g.add("Tanh", cell)))
        h = g.add("MatMul", g.add("Mul", g.add("Sigmoid", o), g.add("Tanh", c)), w("lstm.weight_hr", H, D))
        outputs.append(g.add("Unsqueeze", g.add("MatMul", h, w("encoder_proj.weight", D, J)), g.integers(1)))
    g.output(g.concat(outputs, axis=1), "encoder_out", "N", T // 4, J)
    for value, name, width in ((h, "new_state0", D), (c, "new_state1", H)):
        g.output(g.add("Unsqueeze", value, g.integers(0)), name, 1, "N", width)
    sizes = {"num_encoder_layers": 1, "d_model": D, "rnn_hidden_size": H}
    return g.model({"model_type": "lstm", "T": T, "decode_chunk_len": T, **sizes}, opset=13)


def decoder() -> onnx.ModelProto:
    """icefall's stateless predictor: an embedding, and a convolution over two tokens."""
    g = Graph("decoder")
    w = Random(g, 1)
    y = g.input("y", "N", 2, kind=INT64)
    zero = g.weight("zero", np.array(0, np.int64))
    mask = g.add("Unsqueeze", g.add("Cast", g.add("Not", g.add("Less", y, zero)), to=1), g.integers(2))
    tokens = g.add("Where", g.add("Less", y, zero), zero, y)
    x = g.add("Mul", g.add("Gather", w("decoder.embedding.weight", V, E, scale=1.0), tokens), mask)
    x = g.add("Conv", g.add("Transpose", x, perm=[0, 2, 1]), w("decoder.conv.weight", E, E, 2, scale=0.3))
    x = g.add("Relu", g.add("Squeeze", x, g.integers(2)))
    g.output(g.add("Gemm", x, w("decoder_proj.weight", J, E, scale=0.8), transB=1), "decoder_out", "N", J)
    return g.model({"vocab_size": V, "context_size": 2}, opset=13)


def joiner() -> onnx.ModelProto:
    g = Graph("joiner")
    w = Random(g, 2)
    both = g.add("Tanh", g.add("Add", g.input("encoder_out", "N", J), g.input("decoder_out", "N", J)))
    bias = np.zeros(V, np.float32)
    bias[0] = 2.5
    logits = g.add("Gemm", both, w("output_linear.weight", V, J, scale=1.0), g.weight("bias", bias), transB=1)
    g.output(logits, "logit", "N", V)
    return g.model({"joiner_dim": J}, opset=13)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files named as icefall's, with an int8 one beside."""
    folder = tmp_path_factory.mktemp("theirs")
    parts = {"encoder": encoder(), "decoder": decoder(), "joiner": joiner()}
    save_graphs({f"{name}-epoch-99-avg-1": graph for name, graph in parts.items()}, folder)
    save_graphs({"encoder-epoch-99-avg-1.int8": parts["encoder"]}, folder)
    (folder / "tokens.txt").write_text("".join(f"{'<blk>' if i == 0 else f'▁w{i}'} {i}\n" for i in range(V)))
    return folder


def test_all_weights_are_found_rows_first(theirs: Path) -> None:
    assert is_onnx_set(theirs) and not is_onnx_set(theirs.parent)
    model = import_onnx_set(theirs)
    shapes = {name: tensor.shape for name, tensor in model.tensors.items() if name.endswith(".weight")}
    assert shapes == {
        "encoder.conv.weight.weight": (D, F, 4),
        "encoder.onnx::MatMul_1.weight": (4 * H, D),
        "encoder.onnx::MatMul_2.weight": (4 * H, D),
        "encoder.lstm.weight_hr.weight": (D, H),
        "encoder.encoder_proj.weight.weight": (J, D),
        "decoder.decoder.embedding.weight.weight": (V, E),
        "decoder.decoder.conv.weight.weight": (E, E, 2),
        "decoder.decoder_proj.weight.weight": (J, E),
        "joiner.output_linear.weight.weight": (V, J),
    }
    assert sum(model.tensors[f"graphs.{part}"].nbytes for part in ("encoder", "decoder", "joiner")) < 12_000


def run_once(graph: onnx.ModelProto) -> list[np.ndarray]:
    session, rng = Session(graph), np.random.default_rng(0)
    inputs = session.zeros(N=2).values()
    return session(*(rng.normal(size=x.shape).astype(x.dtype) if x.dtype == np.float32 else x + 3 for x in inputs))


@pytest.mark.slow
def test_what_is_not_compressed_comes_back_as_it_was(theirs: Path, tmp_path: Path) -> None:
    exported = export_onnx_set(import_onnx_set(theirs), tmp_path / "out", weights="float")
    assert exported.transcripts is not None and exported.transcripts.tokens > 50
    for part in ("encoder", "decoder", "joiner"):
        before, after = (
            onnx.load(path) for path in (theirs / f"{part}-epoch-99-avg-1.onnx", tmp_path / "out" / f"{part}.onnx")
        )
        assert {p.key: p.value for p in before.metadata_props} == {p.key: p.value for p in after.metadata_props}
        for expected, found in zip(run_once(before), run_once(after), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "out" / "tokens.txt").read_bytes() == (theirs / "tokens.txt").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_from_their_files_to_five_bits_and_back(theirs: Path, tmp_path: Path) -> None:
    def command(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    command("import", theirs, "--out", tmp_path / "model.safetensors")
    command("compress", tmp_path / "model.safetensors", "--scheme", "ptq", "--bits", 5, "--out", tmp_path / "five")
    packed = load_model(tmp_path / "five" / "model.safetensors")
    matrices = [tensor for tensor in packed.tensors.values() if isinstance(tensor, PackedMatrix)]
    assert len(matrices) == 9 and {band.bits for matrix in matrices for band in matrix.bands} == {5}
    told = command("export", tmp_path / "five", "--format", "sherpa-onnx", "--out", tmp_path / "out")
    assert "3 of 3 signals" in told and "as with the decoded weights" in told
    for part in ("encoder", "decoder", "joiner"):
        codes, before = (
            onnx.load(path) for path in (tmp_path / "out" / f"{part}.onnx", theirs / f"{part}-epoch-99-avg-1.onnx")
        )
        for expected, found in zip(run_once(before), run_once(codes), strict=True):
            assert 0 < np.mean(np.square(found - expected)) < 0.1 * np.mean(np.square(expected))
        assert {one.domain: one.version for one in codes.opset_import}[""] == 13
    with pytest.raises(ExportError, match="an imported set of graphs is written with codes or float, found 'int8'"):
        export_onnx_set(packed, tmp_path / "int8", weights="int8")


def test_folders_that_are_no_such_set_are_one_line(theirs: Path, tmp_path: Path) -> None:
    for name in ("encoder", "decoder", "joiner"):
        (tmp_path / f"{name}.onnx").write_bytes((theirs / f"{name}-epoch-99-avg-1.onnx").read_bytes())
    with pytest.raises(FormatError, match=r"expected tokens\.txt, found none"):
        import_onnx_set(tmp_path)
    (tmp_path / "encoder-2.onnx").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"expected one float encoder\*\.onnx, found encoder-2\.onnx, encoder\.onnx"):
        import_onnx_set(tmp_path)
    (tmp_path / "encoder.onnx").unlink()
    with pytest.raises(FormatError, match=r"encoder-2\.onnx: expected an ONNX file"):
        import_onnx_set(tmp_path)
    done = CliRunner().invoke(app, ["import", str(tmp_path / "tokens.txt"), "--out", str(tmp_path / "m")])
    assert isinstance(done.exception, ConfigError) and "expected --mapping, or a folder with" in str(done.exception)


def folder_of(folder: Path, parts: dict[str, onnx.ModelProto]) -> Path:
    save_graphs(parts, folder)
    (folder / "tokens.txt").write_text("".join(f"{'<blk>' if i == 0 else f'w{i}'} {i}\n" for i in range(V)))
    return folder


def halved(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The joiner with its Gemm in float16."""
    nodes = graph.graph.node
    gemm = next(node for node in nodes if node.op_type == "Gemm")
    place, given, made = list(nodes).index(gemm), gemm.input[0], gemm.output[0]
    for one in graph.graph.initializer:
        if one.name in gemm.input:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float16), one.name))
    gemm.input[0], gemm.output[0] = "half", "half_logits"
    nodes.insert(place, helper.make_node("Cast", [given], ["half"], to=TensorProto.FLOAT16))
    nodes.insert(place + 2, helper.make_node("Cast", ["half_logits"], [made], to=TensorProto.FLOAT))
    return graph


def with_initializers_as_inputs(graph: onnx.ModelProto) -> onnx.ModelProto:
    """As exporters wrote it before IR version 4."""
    for one in graph.graph.initializer:
        graph.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
    return graph


@pytest.mark.parametrize("change", [halved, with_initializers_as_inputs])
def test_weights_keep_their_type_and_their_place(
    change: Callable[[onnx.ModelProto], onnx.ModelProto], tmp_path: Path
) -> None:
    model = import_onnx_set(
        folder_of(tmp_path, {"encoder": encoder(), "decoder": decoder(), "joiner": change(joiner())})
    )
    a = OnnxSetArchitecture.from_dict(model.architecture)
    name = "joiner.output_linear.weight.weight"
    assert name in a.weights
    packed = replace(model, tensors={**model.tensors, name: random_matrix(np.random.default_rng(0), V, J)})
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=(2, J)).astype(np.float32) for _ in "ab"]
    expected, found = (
        Session(filled(one, "joiner", a, form))(*inputs) for one, form in ((packed, "float"), (packed, "codes"))
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-2 if change is halved else 1e-5, atol=1e-2)
    Session(filled(model, "joiner", a, "float"))
    graph = filled(packed, "joiner", a, "codes").graph  # a name has one origin, whatever ONNX Runtime forgives
    assert {one.name for one in graph.input}.isdisjoint(out for node in graph.node for out in node.output)


def test_what_stays_in_the_graphs_is_named(tmp_path: Path) -> None:
    graph = joiner()
    weight = next(one for one in graph.graph.initializer if one.name == "output_linear.weight")
    constant = helper.make_node("Constant", [], [weight.name], value=weight)
    graph.graph.initializer.remove(weight)
    graph.graph.node.insert(0, constant)
    folder = folder_of(tmp_path, {"encoder": encoder(), "decoder": decoder(), "joiner": graph})
    done = CliRunner().invoke(app, ["import", str(folder), "--out", str(tmp_path / "model.safetensors")])
    assert done.exit_code == 0
    left = [line.strip() for line in done.output.splitlines() if "uncompressed" in line]
    assert left == [f"left in the graphs, uncompressed: joiner: output_linear.weight ({V}, {J})"]


def test_a_damaged_graph_and_an_option_without_effect_are_one_line(theirs: Path, tmp_path: Path) -> None:
    model = import_onnx_set(theirs)
    graphs = {**model.tensors, "graphs.encoder": np.frombuffer(b"\xff" * 40, np.uint8)}
    with pytest.raises(FormatError, match=r"tensor graphs\.encoder: expected an ONNX graph"):
        export_onnx_set(replace(model, tensors=graphs), tmp_path / "out", check=False)
    model.save(tmp_path / "model.safetensors")
    command = ["export", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ConfigError) and "written back with --format sherpa-onnx" in str(done.exception)
    done = CliRunner().invoke(app, [*command, "--format", "sherpa-onnx", "--predictor", "stateful"])
    assert isinstance(done.exception, ConfigError) and "--predictor: it changes nothing" in str(done.exception)
