"""Run folders as a user names them, opened and told apart."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from sottovoce.errors import ConfigError
from sottovoce.report.runs import CONFIG, MODEL, RunFolder, read_text


def open_runs(given: Sequence[str]) -> list[RunFolder]:
    """Runs from folders, ``NAME=FOLDER`` for a name of one's own; a folder of runs stands for those in it, float models
    first and then by bits. Folders of one name are told apart by those above them.

    Raises ConfigError for a folder that is no run and holds none, and for a name given twice.
    """
    found: list[RunFolder] = []
    own: set[int] = set()  # places of those that a user named
    for text in given:
        name, equals, rest = text.partition("=")
        named = bool(equals) and not Path(text).exists()
        folder = Path(rest if named else text)
        own |= {len(found)} if named else set()
        if _is_run(folder):
            found.append(replace(_open(folder, name if named else folder.resolve().name), asked=True))
        else:
            found += _inside(folder)
    names = _told_apart(found, own)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"{twice}: given twice; expected runs with names of their own (NAME=FOLDER gives one)")
    return [replace(run, name=name) for run, name in zip(found, names, strict=True)]


def _told_apart(runs: Sequence[RunFolder], own: Collection[int]) -> list[str]:
    """Names, of which equal ones that are not a user's own have as many of the folders above as make them different."""
    names = [run.name for run in runs]
    parts = [run.folder.resolve().parts for run in runs]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        equal = {k for k, name in enumerate(names) if names.count(name) > 1} - set(own)
        for k in equal:
            names[k] = "/".join(parts[k][-depth:]).replace("//", "/")
    return names


def _inside(folder: Path) -> list[RunFolder]:
    if folder.is_file():
        raise ConfigError(f"{folder}: expected a run folder, found a file")
    inner = [path for depth in ("*", "*/*") for path in folder.glob(depth) if _is_run(path)]
    if not inner:
        raise ConfigError(f"{folder}: expected a run folder with {MODEL} or {CONFIG}, or a folder of such, found none")
    return sorted((_open(path, path.name) for path in inner), key=_rank)


def _rank(run: RunFolder) -> tuple[float, list[str | int]]:
    """Float models first, then by falling bits, numbers in names as numbers."""
    parts: list[str | int] = [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", run.name)]
    return -(run.bits or 0), parts


def _is_run(folder: Path) -> bool:
    return (folder / MODEL).is_file() or (folder / CONFIG).is_file()


def _open(folder: Path, name: str) -> RunFolder:
    path = folder / CONFIG
    if not path.exists():
        return RunFolder(name, folder)
    try:
        config = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: cannot read ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(config).__name__}")
    if not isinstance(config.get("data"), str | None):
        raise ConfigError(f"{path}: data: expected a folder, found {config['data']!r}")
    return RunFolder(name, folder, config)
