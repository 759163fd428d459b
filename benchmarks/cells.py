"""Finished cells of a benchmark: one JSON line each, kept, and never measured twice."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from sottovoce.errors import SottovoceError


def run_script(main: Callable[[], None]) -> None:
    """Run a script; a mistake of its user's is one line, and exit code 2, as in the commands."""
    try:
        main()
    except SottovoceError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hex digits that name a configuration, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def commit_id() -> str:
    """The commit that is measured, with ``+`` if tracked files differ from it; ``unknown`` outside a repository."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "--short", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, threads asked for, system and Python."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


Row = dict[str, Any]
Result = tuple[dict[str, Any], int, dict[str, Any], float]  # configuration, seed, figures, seconds


class Cells:
    """The finished cells of one file; a cell is a configuration and a seed."""

    def __init__(self, path: Path | str) -> None:
        """Read what is there; lines cut short by a kill are skipped, and their cells run again."""
        self.path = Path(path)
        self._commit = commit_id()  # of the code as it was read, whatever is committed while it measures
        self._rows: dict[tuple[str, int], Row] = {}
        self._read: set[tuple[str, int]] = set()
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                row = _row(line)
                if row is not None:
                    self._rows[row["config_hash"], row["seed"]] = row

    def done(self, config: Mapping[str, Any], seed: int) -> Row | None:
        """The finished row of this cell, its measures under ``figures``; None if it has yet to run."""
        key = (config_hash(config), seed)
        self._read.add(key)
        return self._rows.get(key)

    def rows(self) -> Iterator[Row]:
        """All finished rows, in the order of the file."""
        return iter(self._rows.values())

    def latest(self, key: Callable[[dict[str, Any]], Hashable | None]) -> dict[Any, list[Row]]:
        """Finished rows by what ``key`` makes of their configuration, None to leave it out: of configurations that are
        alike in it all seeds of the one that was recorded last. For those that want only to show what is there."""
        last = {found: row["config_hash"] for row in self._rows.values() if (found := key(row["config"])) is not None}
        chosen = {
            found: [row for row in self._rows.values() if row["config_hash"] == name] for found, name in last.items()
        }
        self._read |= {(row["config_hash"], row["seed"]) for rows in chosen.values() for row in rows}
        return {found: sorted(rows, key=lambda row: int(row["seed"])) for found, rows in chosen.items()}

    @contextmanager
    def read(self) -> Iterator[dict[tuple[str, int], Row]]:
        """Filled when the block ends: the finished rows that were given within it, in the order of the file."""
        self._read, used = set(), dict[tuple[str, int], Row]()
        yield used
        used.update({key: row for key, row in self._rows.items() if key in self._read})

    def keep(self, result: Result) -> None:
        """Record what a task returned, unless its cell is there already."""
        config, seed, figures, seconds = result
        if self.done(config, seed) is None:
            self.record(config, seed, figures, seconds)

    def record(self, config: Mapping[str, Any], seed: int, figures: Mapping[str, Any], seconds: float) -> Row:
        """Append a finished cell to the file and return its row."""
        row: Row = {
            "config_hash": config_hash(config),
            "config": dict(config),
            "seed": seed,
            "figures": dict(figures),
            "seconds": round(seconds, 3),
            "commit": self._commit,
            "machine": machine(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        start = "" if _ends_with_newline(self.path) else "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(start + json.dumps(row, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[row["config_hash"], seed] = row
        return row


def print_machine(**more: Any) -> None:
    """One line of machine facts, with what else the benchmark depends on (versions of libraries, say)."""
    print(", ".join(f"{name} {value}" for name, value in (machine() | more).items()), flush=True)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and {"config_hash", "config", "seed", "figures"} <= row.keys() else None


def _ends_with_newline(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
