"""Post-training quantization of a model file alone: no run, no data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sottovoce.errors import ConfigError
from sottovoce.models import network_of
from sottovoce.packed import load_model
from sottovoce.quant import BitPlan
from sottovoce.quant.loading import load
from sottovoce.schemes import PTQ, compress
from sottovoce.training.arms import plan_for
from sottovoce.training.config import CompressionConfig
from sottovoce.training.levels import histograms, planned_weights, write_weights
from sottovoce.training.run import make_folder


def round_file(path: Path, settings: CompressionConfig, folder: Path) -> Path:
    """Round a model file by the section's plan; writes ``folder``'s ``model.safetensors`` and ``plan.json``.

    Raises ConfigError for a scheme that trains and for a folder that holds another model, FormatError for a file of
    another kind of network, PlanError for a plan that does not fit.
    """
    if settings.scheme != "ptq":
        raise ConfigError(
            f"{path}: a model file alone can only be rounded (--scheme ptq); {settings.scheme} trains, and needs a "
            "run: one made by 'sottovoce train', or 'sottovoce import' with --recipe and --data"
        )
    network = network_of(load_model(path).architecture)
    base = load(path, into=network)
    plan = plan_for(settings, network)
    _check_free(path, plan, folder)
    make_folder(folder)
    plan.save(folder / "plan.json")
    write_weights(folder, before=histograms(planned_weights(plan.resolve(network))))
    packed = compress(network, plan, PTQ()).finish(float_dtype=settings.float_dtype)
    made = {"scheme": "ptq", "bits": settings.bits, **({} if settings.plan is None else {"planned": True})}
    replace(
        packed,
        architecture=base.architecture,
        input=base.input,
        tokenizer=base.tokenizer,
        provenance={**base.provenance, **made},
    ).save(folder / "model.safetensors")
    return folder / "model.safetensors"


def _check_free(path: Path, plan: BitPlan, folder: Path) -> None:
    """Raises ConfigError where something else than what this plan left there would be overwritten."""
    there, planned = folder / "model.safetensors", folder / "plan.json"
    ours = planned.is_file() and planned.read_text(encoding="utf-8") == plan.to_json()
    if (folder / "config.yaml").exists() or (there.exists() and (there.samefile(path) or not ours)):
        raise ConfigError(f"{folder}: expected a folder without another model; choose another --out")
