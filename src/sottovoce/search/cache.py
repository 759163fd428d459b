"""What a search has found so far, by the content of what it was found from, so that an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sottovoce.errors import ConfigError
from sottovoce.quant.spec import BandSpec
from sottovoce.search.clustering import Cluster
from sottovoce.search.rounding import Prototypes

Value = Any


class Cache:
    """One line of JSON a finding, in ``folder/KEY.jsonl``; without a folder it remembers nothing beyond the process."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self._path = None if folder is None else folder / f"{key}.jsonl"
        self._found: dict[str, Value] = {}
        if self._path is not None and self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    name, value = json.loads(line)
                except ValueError:  # the line that was being written when the search was stopped
                    continue
                self._found[name] = value

    def get(self, name: str, find: Callable[[], Value]) -> Value:
        """The finding of that name, found now if it is not there yet; floats, and lists and mappings of them."""
        if name not in self._found:
            self._found[name] = find()
            self._append(name)
        return self._found[name]

    def _append(self, name: str) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            cut = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
            with self._path.open("a") as stream:
                stream.write("\n" * cut + json.dumps([name, self._found[name]]) + "\n")
        except OSError as error:
            raise ConfigError(f"{self._path}: the search's findings cannot be written ({error.strerror})") from error


def search_cache(
    folder: str | Path | None,
    model: nn.Module,
    content: Iterable[Any],
    metric: str,
    options: Mapping[str, Any],
    clusters: Sequence[Cluster],
    levels: BandSpec,
    prototypes: Prototypes | None = None,
) -> Cache:
    """The findings of one search: of these weights, ``content``, options, clusters, levels and prototypes."""
    if folder is None:
        return Cache(None, "")
    parts = [[c.name, *([p.weight, p.start, p.stop] for p in c.parts)] for c in clusters]
    table = [levels.kind, levels.grouping, levels.zero, levels.scale_dtype]
    values = prototypes or {}
    content = [*content, *(dict(values[width]) for width in sorted(values))]
    return Cache(
        Path(folder), f"{metric}-{content_key(model, content, {**options, 'clusters': parts, 'levels': table})}"
    )


def content_key(model: nn.Module, batches: Iterable[Any], options: Mapping[str, Any]) -> str:
    """Hash of the model's state, of the batches, and of options that JSON can hold.

    Raises ConfigError for a batch of something whose content cannot be read.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        _read(value, digest)
    for batch in batches:
        _read(batch, digest)
    return digest.hexdigest()[:16]


def _read(value: Any, digest: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(str(key).encode())
            _read(item, digest)
    elif isinstance(value, str | bytes | int | float | None):
        digest.update(repr(value).encode())
    elif isinstance(value, Sequence):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _read(item, digest)
    elif is_dataclass(value) and not isinstance(value, type):
        _read(asdict(value), digest)
    else:
        raise ConfigError(f"cache: expected batches of tensors, numbers and text, found {type(value).__name__}")
