"""Preparation of a corpus by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sottovoce.data.corpora.an4 import prepare_an4
from sottovoce.data.corpora.fsdd import prepare_fsdd
from sottovoce.data.corpora.kaldi import prepare_kaldi
from sottovoce.data.corpora.librispeech import prepare_librispeech, prepare_mini_librispeech
from sottovoce.data.corpora.swda_synth import prepare_swda_synth
from sottovoce.data.corpora.tables import prepare_table
from sottovoce.data.prepared import Prepared
from sottovoce.data.synth import prepare_synth
from sottovoce.data.text_folder import TEXT_CORPORA, prepare_text
from sottovoce.errors import ConfigError, did_you_mean
from sottovoce.progress import Progress

__all__ = ["CORPORA", "TEXT_CORPORA", "options_of", "prepare"]

CORPORA: dict[str, Callable[..., Prepared]] = {
    "synth": prepare_synth,
    "swda-synth": prepare_swda_synth,
    "fsdd": prepare_fsdd,
    "an4": prepare_an4,
    "librispeech": prepare_librispeech,
    "mini_librispeech": prepare_mini_librispeech,
    "kaldi": prepare_kaldi,
    "table": prepare_table,
}


def prepare(
    name: str,
    source: str | Path | None,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare corpus ``name``, one of ``CORPORA`` or of ``TEXT_CORPORA``, from ``source`` into the folder ``out``.

    ``options`` are the keywords of its ``prepare_`` or ``read_`` function. A folder that is complete with the same
    options is returned at once. Raises ConfigError on an unknown name or option or a missing source, DataError on bad
    data.
    """
    if name in TEXT_CORPORA:
        if source is None:
            raise ConfigError(f"{name} needs --source, the folder (or file) with the text")
        return prepare_text(name, source, out, options or {})
    function = CORPORA.get(name)
    if function is None:
        known_names = [*CORPORA, *TEXT_CORPORA]
        raise ConfigError(
            f"there is no corpus {name!r}, only {', '.join(known_names)}{did_you_mean(name, known_names)}"
        )
    known = options_of(name)
    for key in options or {}:
        if key not in known:
            raise ConfigError(f"{name} has no option {key!r}, only {', '.join(known)}{did_you_mean(key, known)}")
    common = {**(options or {}), "seed": seed, "strict": strict, "progress": progress}
    if "source" not in inspect.signature(function).parameters:
        if source is not None:
            raise ConfigError(f"{name} makes its own data and takes no --source")
        return function(out, **common)
    if source is None:
        raise ConfigError(f"{name} needs --source, the folder (or table) with the corpus")
    return function(source, out, **common)


def options_of(name: str) -> dict[str, Any]:
    """The options of corpus ``name`` and their defaults."""
    parameters = inspect.signature(CORPORA[name]).parameters
    common = ("source", "out", "seed", "strict", "progress")
    return {key: parameter.default for key, parameter in parameters.items() if key not in common}
