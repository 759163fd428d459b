"""Named tensors out of the files that trained models come in. Nothing that a file holds is executed."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from sottovoce.errors import FormatError

Tensors = dict[str, NDArray[np.float32]]
_INSIDE = ("state_dict", "model")
"""Where checkpoints keep the weights beside other things."""


def read_tensors(path: Path) -> Tensors:
    """The float tensors of a safetensors file, of a file that ``torch.save`` wrote (a state_dict, or a checkpoint that
    holds one under ``state_dict`` or ``model``), of an ONNX file, or of all ONNX files in a folder, as float32.

    Tensors of an ONNX file go by the name of their initializer; those of a folder by ``FILE/INITIALIZER``, the file
    without its suffix. Raises FormatError naming the file.
    """
    if path.is_dir():
        files = sorted(path.glob("*.onnx"))
        if not files:
            raise FormatError(f"{path}: expected ONNX files in the folder, found none")
        return {f"{file.stem}/{name}": array for file in files for name, array in _onnx(file).items()}
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return _onnx(path)
    found = _floats(_safetensors(path) if path.suffix == ".safetensors" else _torch(path))
    if not found:
        raise FormatError(f"{path}: expected a state_dict, found no float tensor")
    return found


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path}: expected a safetensors file ({_line(error)})") from error


def _torch(path: Path) -> Mapping[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({_line(error)})") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever bytes of another kind make of a pickle
        # Its own message advises to run what is in the file.
        kind = "nothing but tensors" if isinstance(error, pickle.UnpicklingError) else "tensors"
        raise FormatError(
            f"{path}: expected a file of {kind} that torch.save wrote, or *.safetensors, *.onnx"
        ) from error
    for key in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: expected a state_dict, found {type(found).__name__}")
    return found


def _floats(values: Mapping[str, Any]) -> Tensors:
    return {
        str(name): value.detach().to(torch.float32).numpy()
        for name, value in values.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def _onnx(path: Path) -> Tensors:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: expected an ONNX file ({_line(error)})") from error
    return {
        one.name: np.asarray(numpy_helper.to_array(one), np.float32) for one in _float_initializers(graph.initializer)
    }


def _float_initializers(initializers: Iterable[Any]) -> Iterable[Any]:
    from onnx import TensorProto

    return (one for one in initializers if one.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16))


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
