"""A run is a folder; it says what it was made from, and refuses to be continued as something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from sottovoce.errors import ConfigError
from sottovoce.packed.replacing import replacing
from sottovoce.training.config import Recipe, parse_recipe


class Run:
    """``config.yaml`` (resolved), ``metrics.jsonl``, ``checkpoints/``, ``tokenizer.model``, ``plan.json``,
    ``module.safetensors``, ``model.safetensors``.

    ``module.safetensors`` holds the trained module, auxiliary heads included: what compression starts from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.safetensors"
        self.tokenizer = folder / "tokenizer.model"
        self.plan = folder / "plan.json"
        self.module = folder / "module.safetensors"

    @classmethod
    def begin(cls, folder: Path, settings: dict[str, Any]) -> Run:
        """Create the folder, or take it up when it was begun with equal settings.

        Raises ConfigError naming the first key that differs.
        """
        run = cls(folder)
        config = folder / "config.yaml"
        settings = json.loads(json.dumps(settings))
        if config.exists():
            difference = _difference(_read_yaml(config), settings)
            if difference:
                raise ConfigError(
                    f"{folder}: begun with other settings: {difference}; choose another --out or delete the folder"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_file(config, yaml.safe_dump(settings, sort_keys=False))
        return run

    @classmethod
    def open(cls, folder: Path) -> tuple[Run, Recipe, Path]:
        """A run made by ``train``, its recipe, and its data folder. Raises ConfigError when it is not one."""
        config = folder / "config.yaml"
        if not config.is_file():
            raise ConfigError(f"{folder}: expected a run folder made by 'sottovoce train', found no config.yaml")
        settings = _read_yaml(config)
        if "recipe" not in settings or "data" not in settings:
            raise ConfigError(f"{config}: expected keys recipe and data")
        return cls(folder), parse_recipe(settings["recipe"], str(config)), Path(settings["data"])


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot read ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(data).__name__}")
    return data


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The first key in which two nested settings differ, with both values; empty when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*old, *(k for k in new if k not in old)):
            found = _difference(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return ""
    return "" if old == new else f"{path} was {old!r}, now {new!r}"
