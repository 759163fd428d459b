"""Where each run came from: what decided it, and what it was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sottovoce.report.markup import Markup, element
from sottovoce.report.runs import RunFolder


def provenance(runs: Sequence[RunFolder]) -> list[Markup]:
    """A closed block for each run: facts, then its configuration whole."""
    return [_block(run) for run in runs]


def _block(run: RunFolder) -> Markup:
    facts = [pair for key, value in _facts(run).items() if value for pair in (element("dt", key), element("dd", value))]
    config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True) if run.config else ""
    whole = element("details", element("summary", "config.yaml"), element("pre", config)) if config else None
    return element("details", element("summary", run.name), element("dl", *facts, class_="facts"), whole, class_="run")


def _facts(run: RunFolder) -> dict[str, str]:
    made: Mapping[str, Any] = {} if run.model is None else run.model.provenance
    config = run.config
    environment = run.json("environment.json")
    versions = ", ".join(f"{name} {value}" for name, value in (environment or {}).items() if value)
    redo = "not recorded; runs that are begun from now on keep environment.json"
    return {
        "folder": str(run.folder),
        "recipe": str(made.get("recipe") or run.recipe.get("name") or ""),
        "recipe hash": str(made.get("recipe_hash") or ""),
        "seed": str(config.get("seed", run.recipe.get("seed", made.get("seed", "")))),
        "scheme": str(config.get("scheme") or made.get("scheme") or ""),
        "data": str(config.get("data") or ""),
        "data hash": str(config.get("data_hash") or ""),
        "began from": " ".join(f"{key} {config[key]}" for key in ("base", "module") if config.get(key)),
        "model file": file_hash(run.file) if run.file.exists() else "none yet",
        "versions": versions or redo,
        "parameters": "" if run.model is None else f"{run.model.parameters:,}",
    }


def file_hash(path: Path) -> str:
    """The first 16 digits of a file's SHA-256, as runs name the files that they began from."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
