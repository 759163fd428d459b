"""How the scores of a second pass are mixed, as a small JSON file that tuning writes and later runs read.

``{"factors": {"acoustic": 1.0, "lstm": 11.5}, "word_penalty": -0.25, "shares": {"lstm": 0.5, "4gram": 0.5}}``:
``ScoreWeights``, and, where language models are interpolated, the share of each; ``"tuned"`` may say on what.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.text_files import read_lines, write_text
from sottovoce.errors import DataError

INTERPOLATED = "interpolated"
"""The name of the score of models that are interpolated."""
_KEYS = {"factors", "word_penalty", "shares", "tuned"}


@dataclass(frozen=True)
class Mixture:
    """``weights`` of named scores; ``shares`` of language models in a linear interpolation, empty without one."""

    weights: ScoreWeights
    shares: Mapping[str, float]


def read_mixture(path: str | Path) -> Mixture:
    """Raises DataError naming a file that ``write_mixture`` would not have written."""
    path = Path(path)
    try:
        value: Any = json.loads("\n".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a JSON object with factors and word_penalty ({error})") from error
    if not isinstance(value, dict) or not {"factors", "word_penalty"} <= set(value) <= _KEYS:
        raise DataError(f"{path}: expected the keys {', '.join(sorted(_KEYS))}, found {str(value)[:60]!r}")
    factors = _numbers(path, "factors", value["factors"])
    penalty = _numbers(path, "word_penalty", {"word_penalty": value["word_penalty"]})["word_penalty"]
    return Mixture(ScoreWeights(factors, penalty), _numbers(path, "shares", value.get("shares") or {}))


def _numbers(path: Path, key: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not all(
        isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= sys.float_info.max for x in value.values()
    ):
        raise DataError(f"{path}: expected finite numbers by name as {key}, found {str(value)[:60]!r}")
    return {name: float(x) for name, x in value.items()}


def write_mixture(path: str | Path, mixture: Mixture, tuned: Mapping[str, Any] | None = None) -> None:
    """Write the file, whole or not at all; ``tuned``: what else is to be known of it. Raises DataError for a path that
    cannot be written."""
    value: dict[str, Any] = {
        "factors": dict(mixture.weights.factors),
        "word_penalty": mixture.weights.word_penalty,
    }
    if mixture.shares:
        value["shares"] = dict(mixture.shares)
    if tuned is not None:
        value["tuned"] = dict(tuned)
    write_text(Path(path), json.dumps(value, indent=2, ensure_ascii=False) + "\n")
