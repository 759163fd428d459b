"""An imported set of ONNX graphs, written back with its weights as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from sottovoce.errors import ExportError, FormatError
from sottovoce.export.graph import FLOAT, Graph
from sottovoce.export.product import new_files, save_graphs
from sottovoce.export.sherpa_files import SherpaExported, Transcripts, paths_of
from sottovoce.export.transcripts import check_installed, differing, padded, run_sherpa, synthetic
from sottovoce.export.weights import WeightForm, decoded
from sottovoce.packed import PackedMatrix, PackedModel
from sottovoce.packed.onnx_set import PARTS, TOKENS, OnnxSetArchitecture, graph_name, weight_name
from sottovoce.runtime.arithmetic import Floats

RATE = 16_000
"""Hz of the sound that such a set is checked on."""
_PEER = "with the decoded weights"
_SILENCE = 200  # frames at the end: more than any model's T


def export_onnx_set(
    model: PackedModel,
    folder: str | Path,
    *,
    weights: WeightForm = "codes",
    sounds: Sequence[Floats] = (),
    check: bool = True,
) -> SherpaExported:
    """Write ``{encoder,decoder,joiner}.onnx`` and tokens.txt as they were imported, with the model's weights.

    ``codes`` are expanded at load; with ``check`` stock sherpa-onnx gives the tokens that it gives with the decoded
    weights, for synthetic sound and for ``sounds``, float32 (S,) at ``RATE``. Raises ExportError where it does not, or
    for another form of weights; ConfigError where sherpa-onnx is not installed.
    """
    if weights not in ("codes", "float"):
        raise ExportError(f"weights: an imported set of graphs is written with codes or float, found {weights!r}")
    architecture = OnnxSetArchitecture.from_dict(model.architecture)
    if check:
        check_installed()
    transcripts = None
    with new_files(Path(folder)) as scratch:
        _write(model, architecture, scratch, weights)
        if check:
            with TemporaryDirectory() as reference:
                _write(model, architecture, Path(reference), "float")
                transcripts = _compared(scratch, Path(reference), sounds)
        sizes = {file.name: file.stat().st_size for file in sorted(scratch.iterdir())}
    return SherpaExported(Path(folder), sizes, {}, (), float("inf"), transcripts, peer=_PEER)


def filled(model: PackedModel, part: str, architecture: OnnxSetArchitecture, form: WeightForm) -> onnx.ModelProto:
    """One graph with its weights: nodes that expand codes come first, and give the values under the old names."""
    graph = onnx.ModelProto()
    try:
        graph.ParseFromString(np.asarray(model.tensor(graph_name(part)), np.uint8).tobytes())
    except DecodeError as error:
        raise FormatError(f"tensor {graph_name(part)}: expected an ONNX graph ({error})") from error
    made = Graph(part, prefix="sottovoce_", constants="sottovoce_")
    kept = []
    for initializer in graph.graph.initializer:
        name = weight_name(part, initializer.name)
        if name not in architecture.weights:
            kept.append(initializer)
            continue
        tensor, turned = model.tensor(name), name in architecture.transposed
        if form == "float" or not isinstance(tensor, PackedMatrix):
            values = model.decode(name)
            values = (values.swapaxes(-1, -2) if turned else values).reshape(tuple(initializer.dims))
            kind = helper.tensor_dtype_to_np_dtype(initializer.data_type)
            kept.append(numpy_helper.from_array(np.ascontiguousarray(values, kind), initializer.name))
            continue
        value = decoded(made, f"sottovoce.{name}", tensor)
        value = made.reshape(value, *tensor.shape)
        if turned:
            axes = [*range(len(tensor.shape) - 2), len(tensor.shape) - 1, len(tensor.shape) - 2]
            value = made.add("Transpose", value, perm=axes)
        value = made.add("Cast", value, to=initializer.data_type) if initializer.data_type != FLOAT else value
        made.output(made.reshape(value, *initializer.dims), initializer.name)
    body = made.proto()
    nodes = [*body.node, *graph.graph.node]
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend([*kept, *body.initializer])
    graph.graph.node.extend(nodes)
    computed = {one.name for one in body.output}  # before IR version 4 initializers were inputs too
    inputs = [one for one in graph.graph.input if one.name not in computed]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    onnx.checker.check_model(graph)
    return graph


def _write(model: PackedModel, architecture: OnnxSetArchitecture, folder: Path, form: WeightForm) -> None:
    save_graphs({part: filled(model, part, architecture, form) for part in PARTS}, folder)
    (folder / "tokens.txt").write_bytes(np.asarray(model.tensor(graph_name(TOKENS)), np.uint8).tobytes())


def _compared(folder: Path, reference: Path, sounds: Sequence[Floats]) -> Transcripts:
    signals = [padded(sound, RATE, _SILENCE) for sound in (*synthetic(RATE), *sounds)]
    ran = run_sherpa([{**paths_of(one), "num_threads": 1} for one in (folder, reference)], signals, RATE)
    ours, theirs = ([result["tokens"] for result in one["results"]] for one in ran["passes"])
    wrong = list(differing(theirs, ours))
    if wrong:
        raise ExportError(
            f"sherpa-onnx {ran['version']}: expected the tokens of the decoded weights, found others in {len(wrong)} "
            f"of {len(signals)} signals"
        )
    return Transcripts(ran["version"], len(signals), sum(map(len, ours)), 0, 0.0)
