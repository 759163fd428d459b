"""A network of ours filled with tensors from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce.decoding.tokens import Tokenizer
from sottovoce.decoding.vocabulary import read_vocabulary
from sottovoce.errors import ConfigError, FormatError, did_you_mean
from sottovoce.importing.mapping import TensorMap, TensorRule
from sottovoce.importing.tokenizers import lm_vocabulary, recognizer_tokenizer
from sottovoce.models import network_of
from sottovoce.packed import PackedModel, RnntArchitecture, is_language_model, lm_architecture
from sottovoce.runtime import ModelInput, TextInput
from sottovoce.schemes import pack_float

Tensors = Mapping[str, NDArray[np.float32]]


def import_model(tensors: Tensors, mapping: TensorMap, folder: Path) -> PackedModel:
    """The packed float32 model that a mapping makes of tensors; files that it names lie in ``folder``.

    Raises ConfigError with a line for each tensor that the mapping lacks, does not know, or gives another shape;
    FormatError for an architecture, an input or a tokenizer that cannot be.
    """
    module = network_of(mapping.architecture)
    filled = fill_tensors({k: tuple(v.shape) for k, v in module.state_dict().items()}, tensors, mapping)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in filled.items()})
    packed = pack_float(module)
    architecture = _described(mapping.architecture)
    return replace(
        packed,
        architecture=architecture,
        input=_input(mapping, architecture),
        tokenizer=_tokenizer(mapping, folder, architecture),
        provenance={"imported": True},
    )


def unread(tensors: Tensors, mapping: TensorMap) -> list[str]:
    """Tensors of theirs that no tensor of ours is made of, by name: a layer that the mapping forgot shows here."""
    rules = mapping.rules_for(network_of(mapping.architecture).state_dict())
    used = {source for rule in rules.values() for source in rule.sources}
    return sorted(set(tensors) - used)


def fill_tensors(shapes: Mapping[str, tuple[int, ...]], tensors: Tensors, mapping: TensorMap) -> dict[str, Any]:
    """Every tensor of ours, float32 of its shape. Raises ConfigError with one line for each that cannot be."""
    rules = mapping.rules_for(shapes)
    problems = [f"{name}: expected a tensor of the network, found none of that name{did_you_mean(name, shapes)}"
                for name in mapping.unused(shapes)]  # fmt: skip
    filled: dict[str, Any] = {}
    for name, shape in shapes.items():
        if name not in rules:
            problems.append(f"{name}: expected a source of shape {shape}, found none in the mapping")
            continue
        try:
            filled[name] = _made(rules[name], shape, tensors)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return filled


def _made(rule: TensorRule, shape: tuple[int, ...], tensors: Tensors) -> NDArray[np.float32]:
    """Raises ValueError with what was expected and found."""
    if rule.fill is not None:
        return np.full(shape, rule.fill, np.float32)
    missing = next((source for source in rule.sources if source not in tensors), None)
    if missing is not None:
        raise ValueError(
            f"expected shape {shape} from {missing!r}, found no such tensor{did_you_mean(missing, tensors)}"
        )
    parts = [_shaped(rule, tensors[source], len(shape)) for source in rule.sources]
    for source, part in zip(rule.sources, parts, strict=True):
        if part.shape != shape:
            raise ValueError(f"expected shape {shape}, found {part.shape} in {source!r}")
        if not np.isfinite(part).all():
            raise ValueError(f"expected finite numbers, found others in {source!r}")
    total: NDArray[np.float32] = np.stack(parts).sum(axis=0)
    if rule.gates is not None:
        if len(total) % 4:
            raise ValueError(f"expected four gates in the rows, found {len(total)} rows in {rule.sources[0]!r}")
        blocks = np.split(total, 4)
        total = np.concatenate([blocks[rule.gates.index(gate)] for gate in "ifgo"])
    return np.ascontiguousarray(np.roll(total, 1, axis=0) if rule.blank == "last" else total)


def _shaped(rule: TensorRule, array: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    while array.ndim > dimensions and array.shape[0] == 1:
        array = array[0]
    if rule.rows is not None:
        array = array[slice(*rule.rows)]
    return array.T if rule.transpose else array


def _described(given: Mapping[str, Any]) -> dict[str, Any]:
    """With all sizes, defaults among them."""
    if is_language_model(given):
        return lm_architecture(given).to_dict()
    return RnntArchitecture.from_dict(given).to_dict()


def _input(mapping: TensorMap, architecture: Mapping[str, Any]) -> dict[str, Any]:
    if is_language_model(architecture):
        return TextInput.from_dict(mapping.input or TextInput("plain").to_dict()).to_dict()
    given = mapping.input or {"kind": "waveform", "bins": architecture["features"]}
    dim = ModelInput.from_dict(given).dim
    if dim != architecture["features"]:
        raise FormatError(f"input: expected {architecture['features']} features a frame, found {dim}")
    return dict(given)


def _tokenizer(mapping: TensorMap, folder: Path, architecture: Mapping[str, Any]) -> bytes | None:
    if mapping.tokenizer is None:
        return None
    path = folder / mapping.tokenizer
    lm = is_language_model(architecture)
    content = lm_vocabulary(path) if lm else recognizer_tokenizer(path)
    found = read_vocabulary(content).size if lm else Tokenizer(content).vocabulary
    if found != architecture["vocabulary"]:
        raise FormatError(f"{path}: expected {architecture['vocabulary']} tokens as in the network, found {found}")
    return content
