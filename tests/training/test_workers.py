"""Tasks in worker processes: what they need comes first, a failure ends all, and no worker outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sottovoce.errors import ConfigError
from sottovoce.training.workers import Task, run_tasks


def write_after(folder: Path, name: str, needs: tuple[str, ...]) -> list[bool]:
    """Whether what it needs was there already."""
    found = [(folder / other).exists() for other in needs]
    (folder / name).touch()
    return found


def fail(folder: Path) -> None:
    raise ConfigError("this task fails")


def stay(folder: Path) -> None:
    written = folder / "stays.new"
    written.write_text(str(os.getpid()))
    written.replace(folder / "stays")
    time.sleep(600)


def test_a_task_waits_for_what_it_needs_and_hands_its_result_back(tmp_path: Path) -> None:
    needs = {"late": ("base", "other"), "base": (), "middle": ("base",), "other": ()}
    tasks = [Task(name, write_after, (tmp_path, name, wanted), frozenset(wanted)) for name, wanted in needs.items()]
    results = dict(run_tasks(tasks, 2))
    assert set(results) == set(needs) and all(all(found) for found in results.values())
    assert len(results["late"]) == 2


def test_one_failure_ends_the_others_at_once(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(ConfigError, match="this task fails"):
        list(run_tasks([Task("a", stay, (tmp_path,)), Task("b", fail, (tmp_path,))], 2))
    assert time.monotonic() - begin < 500  # the task that stays would take ten minutes
    if (tmp_path / "stays").exists():
        assert not _alive(int((tmp_path / "stays").read_text()))


def test_tasks_that_need_each_other_are_an_error(tmp_path: Path) -> None:
    circle = [Task("a", stay, (tmp_path,), frozenset("b")), Task("b", stay, (tmp_path,), frozenset("a"))]
    with pytest.raises(ValueError, match="need each other: a, b"):
        list(run_tasks(circle, 2))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from sottovoce.training.workers import Task, run_tasks\n"
        "def stay(path):\n"
        "    Path(path).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    list(run_tasks([Task('a', stay, (sys.argv[1],))], 1))\n"
    )
    note = tmp_path / "worker"
    parent = subprocess.Popen([sys.executable, str(script), str(note)])
    worker = int(_text(note))
    parent.kill()
    parent.wait()
    for _ in range(600):
        if not _alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def _text(path: Path) -> str:
    for _ in range(3000):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError("the worker never began")


def _alive(process: int) -> bool:
    """Running, and not merely waiting to be collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
