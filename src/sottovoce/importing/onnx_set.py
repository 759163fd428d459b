"""sherpa-onnx's files of a transducer (icefall's streaming LSTM, say): their weights become ours, the graphs stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import FormatError
from sottovoce.packed import PackedModel
from sottovoce.packed.onnx_set import PARTS, TOKENS, OnnxSetArchitecture, graph_name, weight_name

# Which input of an operator is a weight, and whether the operator wants it as (C, R).
_USES: Mapping[tuple[str, int], bool] = {
    ("MatMul", 1): True,
    ("Gemm", 1): True,  # unless transB says otherwise
    ("LSTM", 1): False,
    ("LSTM", 2): False,
    ("GRU", 1): False,
    ("GRU", 2): False,
    ("Gather", 0): False,
    ("Conv", 1): False,
    ("Transpose", 0): False,
}


def is_onnx_set(path: Path) -> bool:
    """Whether a folder holds ONNX graphs of all three parts."""
    return path.is_dir() and all(any(path.glob(f"{part}*.onnx")) for part in PARTS)


def import_onnx_set(folder: Path) -> PackedModel:
    """encoder*.onnx, decoder*.onnx, joiner*.onnx (those that no ``.int8`` names) and tokens.txt, as a float32 model.

    Every float matrix that a MatMul, Gemm, LSTM, GRU, Conv, Gather or Transpose reads is a weight; what else a graph
    holds, and weights that are read in two ways, stays in the graph (``left_in_graphs``). Raises FormatError naming the
    file.
    """
    tensors: dict[str, Any] = {}
    weights: dict[str, tuple[int, ...]] = {}
    transposed: set[str] = set()
    for part in PARTS:
        model = _loaded(_file_of(folder, part))
        for initializer, turned in _weights_of(model.graph).items():
            name = weight_name(part, initializer.name)
            tensors[name] = _taken(initializer, turned)
            weights[name] = tensors[name].shape
            transposed |= {name} if turned else set()
        tensors[graph_name(part)] = np.frombuffer(model.SerializeToString(), np.uint8)
    tensors[graph_name(TOKENS)] = np.frombuffer(_tokens(folder), np.uint8)
    if not weights:
        raise FormatError(f"{folder}: expected float weights in the graphs, found none")
    lengths = {part: len(tensors[graph_name(part)]) for part in (*PARTS, TOKENS)}
    architecture = OnnxSetArchitecture(weights, frozenset(transposed), lengths)
    return PackedModel(tensors, architecture.to_dict(), provenance={"imported": True})


def left_in_graphs(model: PackedModel) -> list[str]:
    """Float matrices of imported graphs that are no weights of the file, and so stay as they are: part, name, shape."""
    import onnx

    taken = set(model.architecture["weights"])
    found = []
    for part in PARTS:
        graph = onnx.ModelProto.FromString(np.asarray(model.tensor(graph_name(part)), np.uint8).tobytes()).graph
        for name, tensor in _stored(graph):
            if weight_name(part, name) not in taken and tensor.data_type in _floats() and min(_matrix(tensor)) > 1:
                found.append(f"{part}: {name} {tuple(tensor.dims)}")
    return found


def _stored(graph: Any) -> Iterator[tuple[str, Any]]:
    """Names and tensors of a graph's initializers and constants, and of the bodies of its loops and branches."""
    yield from ((one.name, one) for one in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from _stored(inner)


def _floats() -> tuple[int, ...]:
    from onnx import TensorProto

    return (TensorProto.FLOAT, TensorProto.FLOAT16)


def _file_of(folder: Path, part: str) -> Path:
    files = [file for file in sorted(folder.glob(f"{part}*.onnx")) if ".int8" not in file.name]
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise FormatError(f"{folder}: expected one float {part}*.onnx, found {found}")
    return files[0]


def _tokens(folder: Path) -> bytes:
    path = folder / "tokens.txt"
    if not path.is_file():
        raise FormatError(f"{folder}: expected tokens.txt, found none")
    return path.read_bytes()


def _loaded(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: expected an ONNX file ({str(error).splitlines()[0]})") from error
    version = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if version < 13:
        raise FormatError(f"{path}: expected opset 13 or later, found {version}")
    return model


def _weights_of(graph: Any) -> dict[Any, bool]:
    """Initializers that are weights, and whether the graph wants them transposed."""
    uses: dict[str, set[bool | None]] = defaultdict(set)
    for node in graph.node:
        for place, name in enumerate(node.input):
            uses[name].add(_use(node, place))
        for attribute in node.attribute:  # what a loop's body reads from outside stays where it is
            for inner in attribute.g.node:
                for name in inner.input:
                    uses[name].add(None)
    floats = _floats()
    found = {}
    for initializer in graph.initializer:
        ways = uses[initializer.name]
        if initializer.data_type in floats and len(ways) == 1 and None not in ways and min(_matrix(initializer)) > 1:
            found[_Key(initializer)] = bool(next(iter(ways)))
    return found


class _Key:
    """An initializer that can be a key."""

    def __init__(self, proto: Any) -> None:
        self.proto, self.name = proto, str(proto.name)


def _matrix(initializer: Any) -> tuple[int, ...]:
    """Rows and columns, without the leading 1 of an LSTM's; (0, 0) for what is none."""
    shape = tuple(initializer.dims)
    shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    return (shape[0], int(np.prod(shape[1:]))) if len(shape) >= 2 else (0, 0)


def _use(node: Any, place: int) -> bool | None:
    turned = _USES.get((node.op_type, place)) if node.domain in ("", "ai.onnx") else None
    if turned and node.op_type == "Gemm":
        return not any(one.name == "transB" and one.i for one in node.attribute)
    return turned


def _taken(key: _Key, turned: bool) -> NDArray[np.float32]:
    """The weight, rows first; its values leave the graph."""
    from onnx import numpy_helper

    values = np.asarray(numpy_helper.to_array(key.proto), np.float32)
    for field in ("raw_data", "float_data", "int32_data"):
        key.proto.ClearField(field)
    if values.ndim == 3 and values.shape[0] == 1 and not turned:
        values = values[0]
    return np.ascontiguousarray(values.swapaxes(-1, -2) if turned else values)
