"""The models that a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.errors import ConfigError, FormatError
from sottovoce.packed import file_sizes, load_model
from sottovoce.runtime import NativeRnnt, Recognizer
from sottovoce.serve.protocol import ModelFacts

_RUN_FILE = "model.safetensors"


@dataclass(frozen=True)
class ServedModel:
    """A recognizer, shared by all connections, and what is shown of it."""

    facts: ModelFacts
    recognizer: Recognizer


def open_models(given: Sequence[str], **options: Any) -> list[ServedModel]:
    """Model files or run folders, ``NAME=PATH`` to name one; options are the Recognizer's.

    Without a name it is the file's, or its folder's for a ``model.safetensors``. Raises ConfigError for a path with
    nothing there, names that are not different, or a model that takes no sound; FormatError as ``Recognizer``.
    """
    named = [_name_and_path(text) for text in given]
    names = [name for name, _ in named]
    for name, path in named:
        if names.count(name) > 1:
            raise ConfigError(f"{name}: two models have this name: name them, as in first={path}")
    return [_open(name, path, options) for name, path in named]


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, rest = text.partition("=")
    if not equals or Path(text).exists():
        name, rest = "", text
    path = Path(rest) / _RUN_FILE if Path(rest).is_dir() else Path(rest)
    if not path.is_file():
        raise ConfigError(f"{path}: expected a model file or a run folder, found none")
    own = path.absolute().parent.name if path.name == _RUN_FILE else path.stem
    return name or own or _RUN_FILE, path


def _open(name: str, path: Path, options: dict[str, Any]) -> ServedModel:
    packed, sizes = load_model(path), file_sizes(path)
    try:
        recognizer = Recognizer(packed, **options)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    if recognizer.input.settings is None:
        raise ConfigError(f"{path}: this model takes features, not sound")
    network = recognizer.network
    kernel = network.kernel if isinstance(network, NativeRnnt) else "numpy"
    facts = ModelFacts(
        name=name,
        bits=round(packed.average_bits, 2),
        file_bytes=sizes.file_bytes,
        model_bytes=sizes.model_bytes,
        fp32_bytes=sizes.fp32_bytes,
        kernel=kernel,
    )
    return ServedModel(facts, recognizer)
