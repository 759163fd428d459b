"""What run folders hold, read without PyTorch: the runs that a report is about."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses
from sottovoce.evaluation.scores import SentenceScore, read_scores
from sottovoce.packed import FileSizes, PackedModel, file_sizes, is_language_model, load_model

SPLITS = ("test", "dev")
MODEL, CONFIG, BENCH = "model.safetensors", "config.yaml", "bench.json"
SERIES = 8  # colours that the style knows


@dataclass(frozen=True)
class RunFolder:
    """A run by the name that the report gives it. Files are read when they are asked for; each may be missing.
    ``asked``: it was given itself, and not found in a folder of runs."""

    name: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    asked: bool = False

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

    @property
    def blank_penalty(self) -> float:
        """The recipe's. Raises ConfigError for one that is no number."""
        decoding = self.recipe.get("decoding") or {}
        value = (decoding.get("blank_penalty") if isinstance(decoding, dict) else decoding) or 0.0
        if not isinstance(value, int | float):
            raise ConfigError(
                f"{self.folder / CONFIG}: recipe.decoding.blank_penalty: expected a number, found {value!r}"
            )
        return float(value)

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
        penalty = self.blank_penalty
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
        return _object(path, read_text(path)) if path.exists() else None

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """A file of JSON objects, nothing where there is none; a last line without its end is left out.

        Raises DataError for another one."""
        path = self.folder / name
        if not path.exists():
            return []
        text = read_text(path)
        whole = text[: text.rfind("\n") + 1]  # the end of a line that a killed run did not finish is no line
        return [_object(path, line, n) for n, line in enumerate(whole.splitlines(), start=1) if line.strip()]

    @cached_property
    def latency(self) -> tuple[float, float | None] | None:
        """P50 and, where it was kept, P90 of a frame in ms, as ``bench --json`` left them.

        Raises DataError for another file."""
        if not self.measured(BENCH):
            return None
        found = (self.json(BENCH) or {}).get("latency_ms")
        if found is None:
            return None
        try:
            p50, p90 = float(found["p50"]), found.get("p90")
            times = (p50, None if p90 is None else float(p90))
            if not all(0 < v < math.inf for v in times if v is not None):
                raise ValueError("milliseconds above 0")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.folder / BENCH}: expected latency_ms with p50, found {found!r}") from error
        return times


def series_of(runs: Sequence[RunFolder]) -> dict[str, int]:
    """A colour for each scheme, in the order of the runs; float has the first."""
    names = ["float", *dict.fromkeys(run.scheme for run in runs if run.scheme != "float")]
    return {name: k % SERIES for k, name in enumerate(names)}


def read_text(path: Path) -> str:
    """A text file whole. Raises DataError for one that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _object(path: Path, text: str, line: int | None = None) -> dict[str, Any]:
    where = f"{path}:{line}" if line else str(path)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: expected JSON, found {text[:60]!r}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {text[:60]!r}")
    return value
