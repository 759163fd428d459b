"""What the options of ``sottovoce rescore`` say: models by name, weights, shares."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sottovoce.decoding.language_model import Interpolated, LanguageModel
from sottovoce.decoding.mixture import INTERPOLATED, Mixture
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.text import normalization
from sottovoce.errors import ConfigError, DataError, did_you_mean
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses
from sottovoce.evaluation.weight_search import WORD_PENALTY
from sottovoce.runtime.language_models import read_language_model
from sottovoce.runtime.rules import Arithmetic

EQUAL, EM = "equal", "em"


def read_models(given: Sequence[str], arithmetic: Arithmetic, num_threads: int) -> dict[str, LanguageModel]:
    """Models of ``NAME=PATH`` or ``PATH``, whose name is then that of the file or the run's folder.

    Raises ConfigError for names that are given twice or that stand for something else.
    """
    found: dict[str, LanguageModel] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        path = Path(rest if equals and not Path(text).exists() else text)
        name = name if path != Path(text) else path.name.split(".")[0]
        if not name or name in found or name in (INTERPOLATED, WORD_PENALTY):
            raise ConfigError(f"--lm {text}: expected models with names of their own; NAME=PATH gives one")
        if not path.exists():
            raise ConfigError(
                f"--lm {text}: expected a model file, an n-gram file or a run folder, found nothing at {path}"
            )
        found[name] = read_language_model(path, arithmetic=arithmetic, num_threads=num_threads)
    return found


def numbers_by_name(option: str, given: Sequence[str]) -> dict[str, float]:
    """``NAME=NUMBER``, each name once. Raises ConfigError for anything else."""
    found: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value) or name in found:
            raise ConfigError(f"{option}: expected NAME=NUMBER, each name once, found {text!r}")
        found[name] = value
    return found


def read_shares(text: str, names: Collection[str]) -> dict[str, float]:
    """Shares of all models: ``equal``, ``em`` (to begin with equal ones), or ``NAME=NUMBER,...``."""
    if text in (EQUAL, EM):
        return dict.fromkeys(names, 1 / len(names))
    return numbers_by_name("--interpolate", text.split(","))


def mixed_models(models: Mapping[str, LanguageModel], shares: Mapping[str, float]) -> dict[str, LanguageModel]:
    """The models whose scores are weighted: all, or the one that interpolates them.

    Raises ConfigError for shares that are not those of the models.
    """
    if not shares:
        return dict(models)
    if set(shares) != set(models):
        raise ConfigError(f"interpolation: expected shares of {', '.join(models)}, found {', '.join(shares)}")
    return {INTERPOLATED: Interpolated(tuple(models.values()), tuple(shares[name] for name in models))}


def chosen_weights(
    own: ScoreWeights,
    models: Collection[str],
    mixture: Mixture | None,
    factors: Mapping[str, float],
    word_penalty: float | None,
) -> ScoreWeights:
    """The second pass's: a mixture's, or else the first pass's own with each model at 1; then what options say.

    Raises ConfigError for the name of a score that is not there, and for a model that the mixture has no weight for.
    """
    weights = mixture.weights if mixture else own.replacing(**dict.fromkeys(models, 1.0))
    known = [*own.factors, *models]
    unknown = next((name for name in (*weights.factors, *factors) if name not in known), None)
    if unknown is not None:
        raise ConfigError(
            f"weights: expected scores among {', '.join(known)}, found {unknown!r}{did_you_mean(unknown, known)}"
        )
    weights = weights.replacing(**factors)
    without = next((name for name in models if name not in weights.factors), None)
    if without is not None:
        raise ConfigError(f"weights: expected one for the model {without!r}, found {', '.join(weights.factors)}")
    return weights if word_penalty is None else replace(weights, word_penalty=word_penalty)


def read_references(paths: Sequence[Path], form: str) -> dict[str, Hypothesis]:
    """References of several files, by utterance, in a normalization. Raises DataError for one that two files give
    differently."""
    rule, found = normalization(form), dict[str, Hypothesis]()
    for path in paths:
        for item in read_hypotheses(path):
            item = replace(item, text=rule(item.text))
            if item.id in found and found[item.id].text != item.text:
                raise DataError(f"{path}: {item.id}: expected the other file's reference, found {item.text[:40]!r}")
            found[item.id] = item
    return found
