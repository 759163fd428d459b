"""The metrics of ``sottovoce search`` and what each can be told beside the options of all: ``--set KEY=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import PositiveInt, TypeAdapter, ValidationError

from sottovoce.errors import ConfigError, did_you_mean
from sottovoce.search import NAS, Searchable, SensitivityTable, mean_loss, search_architecture, sensitivity
from sottovoce.search.hessian import Distribution, Products
from sottovoce.search.kl import Form
from sottovoce.search.measuring import Perturbation
from sottovoce.training.config import apply_override

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "kl": {"form": Form},
    "hessian": {
        "probes": PositiveInt,
        "distribution": Distribution,
        "products": Products,
        "normalize": bool,
        "perturbation": Perturbation,
    },
    "nas": {
        **{name: hint for name, hint in get_type_hints(NAS).items() if name != "seed"},  # --seed is that of all
        "rounds": PositiveInt,
    },
}
"""Types of the settings by metric and name: those of ``sensitivity``, ``NAS`` and ``search_architecture``."""


def parse_settings(metric: str, options: Mapping[str, Any], items: Sequence[str], seed: int) -> dict[str, Any]:
    """What the metric is called with: the command's options (None: not given), over them ``KEY=VALUE``, values in YAML.
    For the rest it has its own defaults.

    Raises ConfigError for an option, a key or a value that the metric does not know.
    """
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name not in SETTINGS[metric]:
            of = next(other for other, known in SETTINGS.items() if name in known)
            raise ConfigError(f"--{name} is for --metric {of}, found --metric {metric}")
        given[name] = value
    for item in items:
        apply_override(given, item)
    found = {name: _checked(metric, name, value) for name, value in given.items()}
    if metric == "nas":
        own = {name: found.pop(name) for name in list(found) if name != "rounds"}
        return {"settings": NAS(**own, seed=seed), **found}
    return {**found, "seed": seed}


def batches_for(chosen: Mapping[str, Any]) -> int:
    """Batches that the metric needs at least, told what ``parse_settings`` gave."""
    return 2 if "settings" in chosen and chosen["settings"].weights == "pipelined" else 1


def search_by(
    metric: str, module: Searchable, batches: Sequence[Any], chosen: Mapping[str, Any], average_bits: float, **rest: Any
) -> SensitivityTable:
    """The table by a metric with what ``parse_settings`` gave; ``average_bits`` is what NAS searches for, and ``rest``
    what all metrics take."""
    loss = mean_loss(module, batches)
    if metric == "nas":
        return search_architecture(module.model, batches, loss, average_bits=average_bits, **chosen, **rest)
    others = dict(chosen)
    observed = module.observed if others.pop("form", "full") == "observed" else None
    return sensitivity(
        module.model,
        batches,
        metric,
        logits=module.logits,
        loss=loss,
        position_weights=module.position_weights,
        observed=observed,
        **others,
        **rest,
    )


def _checked(metric: str, name: str, value: Any) -> Any:
    known = SETTINGS[metric]
    if name not in known:
        raise ConfigError(
            f"--set {name}: the settings of --metric {metric} are {', '.join(known)}{did_you_mean(name, known)}"
        )
    try:
        # As JSON, in which a list may be a pair and a number of steps is no truth value.
        return TypeAdapter(known[name]).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(f"--set {name}: {error.errors()[0]['msg']}, found {value!r}") from error
