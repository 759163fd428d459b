"""What run folders hold, read without PyTorch: the runs that a report is about."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses
from sottovoce.evaluation.scores import SentenceScore, read_scores
from sottovoce.packed import FileSizes, PackedModel, file_sizes, is_language_model, load_model

SPLITS = ("test", "dev")
MODEL = "model.safetensors"


@dataclass(frozen=True)
class RunFolder:
    """A run by the name that the report gives it. Files are read when they are asked for; each may be missing."""

    name: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / MODEL

    @cached_property
    def model(self) -> PackedModel | None:
        """None where the run is not finished. Raises FormatError for a damaged file."""
        return load_model(self.file) if self.file.exists() else None

    @cached_property
    def sizes(self) -> FileSizes | None:
        return file_sizes(self.file) if self.model else None

    @property
    def is_language_model(self) -> bool:
        if self.model is not None:
            return is_language_model(self.model.architecture)
        return self.recipe.get("task") == "lm"

    @property
    def recipe(self) -> Mapping[str, Any]:
        found = self.config.get("recipe")
        return found if isinstance(found, dict) else {}

    @cached_property
    def bits(self) -> float | None:
        """Bits a packed weight on average, 32 for a float model."""
        return None if self.model is None else self.model.average_bits

    @property
    def scheme(self) -> str:
        """How it was compressed, ``float`` where it was not."""
        if self.model is None or self.bits == 32:
            return "float"
        return str(self.model.provenance.get("scheme") or "packed")

    @property
    def data(self) -> Path | None:
        return Path(self.config["data"]) if self.config.get("data") else None

    def measured(self, name: str) -> Path | None:
        """A file of what the model was measured to do, where there is one: without a model, or older than it, what it
        says is of another."""
        path = self.folder / name
        there = path.exists() and self.file.exists()
        return path if there and path.stat().st_mtime_ns >= self.file.stat().st_mtime_ns else None

    def hypotheses_file(self, split: str) -> Path | None:
        """What the model made of a split, as the recipe decodes it; None where it was not evaluated."""
        penalty = float((self.recipe.get("decoding") or {}).get("blank_penalty") or 0)
        names = [f"{split}-blank{penalty}.jsonl"] if penalty else []
        return next(filter(None, map(self.measured, (*names, f"{split}.jsonl"))), None)

    def hypotheses(self, split: str) -> list[Hypothesis] | None:
        """Those of ``hypotheses_file``."""
        path = self.hypotheses_file(split)
        return None if path is None else read_hypotheses(path)

    def scores(self) -> list[SentenceScore] | None:
        """A language model's log-probabilities; None where it was not evaluated."""
        path = self.measured("scores.jsonl")
        return None if path is None else read_scores(path)

    def json(self, name: str) -> dict[str, Any] | None:
        """A file of one JSON object, None where there is none. Raises DataError for another one."""
        path = self.folder / name
        return _object(path, _read(path)) if path.exists() else None

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """A file of JSON objects, nothing where there is none. Raises DataError for another one."""
        path = self.folder / name
        return [_object(path, line) for line in _read(path).splitlines() if line.strip()] if path.exists() else []


def open_runs(given: Sequence[str]) -> list[RunFolder]:
    """Runs from folders, ``NAME=FOLDER`` for a name of one's own; a folder of runs stands for those in it, float models
    first and then by bits.

    Raises ConfigError for a folder that is no run and holds none, or a name given twice.
    """
    found: list[RunFolder] = []
    for text in given:
        name, equals, rest = text.partition("=")
        named = bool(equals) and not Path(text).exists()
        folder = Path(rest if named else text)
        found += [_open(folder, name if named else folder.resolve().name)] if _is_run(folder) else _inside(folder)
    names = [run.name for run in found]
    found = [replace(run, name=str(run.folder)) if names.count(run.name) > 1 else run for run in found]
    twice = next((run.name for run in found if [other.name for other in found].count(run.name) > 1), None)
    if twice:
        raise ConfigError(f"{twice}: given twice; expected runs with names of their own (NAME=FOLDER gives one)")
    return found


def _inside(folder: Path) -> list[RunFolder]:
    if folder.is_file():
        raise ConfigError(f"{folder}: expected a run folder, found a file")
    inner = [path for depth in ("*", "*/*") for path in folder.glob(depth) if _is_run(path)]
    if not inner:
        raise ConfigError(
            f"{folder}: expected a run folder with {MODEL} or config.yaml, or a folder of such, found none"
        )
    return sorted((_open(path, path.name) for path in inner), key=_rank)


def _rank(run: RunFolder) -> tuple[float, list[str | int]]:
    """Float models first, then by falling bits, numbers in names as numbers."""
    parts: list[str | int] = [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", run.name)]
    return -(run.bits or 0), parts


def _is_run(folder: Path) -> bool:
    return (folder / MODEL).is_file() or (folder / "config.yaml").is_file()


def _open(folder: Path, name: str) -> RunFolder:
    path = folder / "config.yaml"
    if not path.exists():
        return RunFolder(name, folder)
    try:
        config = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: cannot read ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(config).__name__}")
    return RunFolder(name, folder, config)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found {text[:60]!r}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {text[:60]!r}")
    return value
