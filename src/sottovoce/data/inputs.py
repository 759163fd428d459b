"""What a prepared folder holds, waveforms or features: the one place that decides what goes into a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhotse import CutSet

from sottovoce.data.features import cached_features, sorted_unique
from sottovoce.data.prepared import load_cuts, load_prepared
from sottovoce.errors import ConfigError, DataError, FormatError
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.progress import Progress
from sottovoce.runtime.result import ModelInput


def input_of(folder: str | Path, settings: FeatureSettings | None = None) -> dict[str, Any]:
    """The ``input`` of a model that is trained on ``folder``, as ``ModelInput.from_dict`` and the packed file take it.

    What ``prepared.json`` says under ``details.input``; without it the folder holds waveforms, and the features are
    those of ``settings``, by default the ones that sherpa-onnx computes. Raises DataError if it is not a prepared
    folder or says something else.
    """
    found = load_prepared(folder).details.get("input")
    if found is None:
        return {"kind": "waveform", **(settings or FeatureSettings()).to_dict()}
    try:
        ModelInput.from_dict(found)
    except (FormatError, TypeError, ValueError) as error:
        raise DataError(f"{folder}/prepared.json: {error}; prepare the data again") from None
    return dict(found)


def check_input(folder: str | Path, wanted: ModelInput) -> None:
    """Raises DataError unless ``folder`` can feed a model that takes ``wanted``.

    Waveforms serve every waveform model, for its features are computed; features serve as they are, or not at all.
    """
    found = ModelInput.from_dict(input_of(folder))
    computed = found.settings is not None and wanted.settings is not None
    if not computed and found != wanted:
        raise DataError(f"{folder}: holds {_described(found)}, and the model takes {_described(wanted)}")


def check_waveform_options(
    folder: str | Path, model_input: ModelInput, speeds: Sequence[float], noise: tuple[float, float] | None
) -> None:
    """Raises ConfigError for options that change waveforms, where ``folder`` holds features."""
    if model_input.settings is not None:
        return
    if tuple(speeds) != (1.0,):
        raise ConfigError(
            f"data.speeds: {folder} holds features, not waveforms: data.augment.slowest and fastest change their speed"
        )
    if noise is not None:
        raise ConfigError(f"data.noise_db: {folder} holds features, not waveforms: data.augment.noise adds noise there")


def split_cuts(
    folder: str | Path,
    split: str,
    model_input: ModelInput,
    *,
    speeds: Sequence[float] = (1.0,),
    noise: tuple[float, float] | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> CutSet:
    """The cuts of ``split`` with features for ``model_input``: those that ``folder`` holds, or computed and cached.

    In the order of their ids. The options are ``cached_features``'. Raises DataError as ``check_input`` does, and
    ConfigError as ``check_waveform_options`` does.
    """
    check_input(folder, model_input)
    check_waveform_options(folder, model_input, speeds, noise)
    cuts = load_cuts(folder, split)
    if model_input.settings is None:
        return CutSet.from_cuts(sorted_unique(cuts))
    return cached_features(
        cuts, folder, model_input.settings, speeds=speeds, noise=noise, seed=seed, jobs=jobs, progress=progress
    )


def _described(model_input: ModelInput) -> str:
    if model_input.settings is not None:
        return "waveforms"
    return f"features of {model_input.dim} values, {model_input.rate:g} frames a second"
