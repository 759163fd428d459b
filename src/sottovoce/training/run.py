"""A run is a folder; it says what it was made from, and refuses to be continued as something else."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sottovoce.data.prepared import SPLITS
from sottovoce.errors import ConfigError, DataError, SottovoceError
from sottovoce.packed.replacing import replacing
from sottovoce.training.config import Recipe, parse_recipe
from sottovoce.training.environment import environment


class Run:
    """``config.yaml`` (resolved), ``metrics.jsonl``, ``checkpoints/``, ``tokenizer.model``, ``plan.json``,
    ``module.safetensors``, ``model.safetensors``, and where the recipe forks, ``fork.ckpt``. For the report:
    ``environment.json``, and of a compressed run ``weights.json`` and ``levels.jsonl``.

    ``module.safetensors`` holds the trained module, auxiliary heads included: what compression starts from, unless it
    starts from the snapshot in ``fork.ckpt``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.safetensors"
        self.tokenizer = folder / "tokenizer.model"
        self.plan = folder / "plan.json"
        self.module = folder / "module.safetensors"
        self.fork = folder / "fork.ckpt"

    @classmethod
    def begin(cls, folder: Path, settings: dict[str, Any]) -> Run:
        """Create the folder, or take it up when it was begun with equal settings.

        Raises ConfigError naming the first key that differs.
        """
        run = cls(folder)
        config = folder / "config.yaml"
        settings = json.loads(json.dumps(settings))
        if config.exists():
            difference = _difference(_deciding(_read_yaml(config), config), _deciding(settings, config))
            if difference:
                raise ConfigError(
                    f"{folder}: begun with other settings: {difference}; choose another --out or delete the folder"
                )
        make_folder(folder)
        write_file(config, yaml.safe_dump(settings, sort_keys=False))
        if not run.model.exists():  # what a finished run was made with stays what it was
            write_file(folder / "environment.json", json.dumps(environment(), indent=1) + "\n")
        return run

    @classmethod
    def open(cls, folder: Path) -> tuple[Run, Recipe, Path]:
        """A run made by ``train``, its recipe, and its data folder. Raises ConfigError when it is not one."""
        config, settings = folder / "config.yaml", cls.settings(folder)
        if "recipe" not in settings or "data" not in settings:
            raise ConfigError(f"{config}: expected keys recipe and data")
        return cls(folder), parse_recipe(settings["recipe"], str(config)), Path(settings["data"])

    @staticmethod
    def settings(folder: Path) -> dict[str, Any]:
        """What the run was made from. Raises ConfigError for a folder that is no run."""
        config = folder / "config.yaml"
        if not config.is_file():
            raise ConfigError(f"{folder}: expected a run folder made by 'sottovoce train', found no config.yaml")
        return _read_yaml(config)


@contextmanager
def taking_back(folder: Path) -> Iterator[None]:
    """Where the block raises one of our errors, or the system's, the files are removed that it put into the folder, and
    the folder where it made that: the corrected command may use it."""
    made = not folder.exists()
    before = set(folder.iterdir()) if folder.is_dir() else set()
    try:
        yield
    except (SottovoceError, OSError):
        for path in (path for path in folder.glob("*") if path not in before and path.is_file()):
            path.unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def make_folder(folder: Path) -> None:
    """Raises ConfigError where no folder can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: expected a folder that can be written, found none ({error.strerror})") from error


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


def _deciding(settings: dict[str, Any], source: Path) -> dict[str, Any]:
    """Settings without the recipe's decoding section, which changes no weight: it is chosen once the run is trained.

    Options that a recipe of an earlier version did not have yet are at their defaults.
    """
    recipe = settings.get("recipe")
    if not isinstance(recipe, dict):
        return settings
    known = parse_recipe(recipe, str(source)).model_dump(mode="json")
    known = {key: value for key, value in known.items() if key != "decoding"}
    return {"devices": 1, **settings, "recipe": known}


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The first key in which two nested settings differ, with both values; empty when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*old, *(k for k in new if k not in old)):
            found = _difference(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return ""
    return "" if old == new else f"{path} was {old!r}, now {new!r}"


def data_hash(folder: Path) -> str:
    """Hash of the manifests' content, so that nothing is continued on other data.

    Raises DataError naming a manifest that is missing or damaged.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        path = folder / f"{split}.jsonl.gz"
        try:
            digest.update(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: expected a manifest made by 'sottovoce data prepare' ({error})") from error
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Hash of a file's bytes. Raises ConfigError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ConfigError(f"{path}: cannot read ({error.strerror})") from error
