"""Tasks in processes of their own, each after those that it needs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from typing import Any


@dataclass(frozen=True)
class Task:
    """``run(*arguments)`` in another process, which must be able to import both; ``needs`` names earlier tasks."""

    name: str
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: frozenset[str] = frozenset()


def run_tasks(tasks: Sequence[Task], workers: int) -> Iterator[tuple[str, Any]]:
    """Names and results as tasks finish, ``workers`` at a time, in the order given wherever their needs allow it.

    No more tasks are handed out than there are workers, so that a failure leaves none waiting: when one fails, or the
    user interrupts, the workers are killed. They end with their parent too.
    """
    others = set(active_children())
    with ProcessPoolExecutor(workers, get_context("spawn"), _die_with, (os.getpid(),)) as pool:
        try:
            yield from _in_order(pool, workers, list(tasks))
        except BaseException:  # files are written whole, so nothing waits
            for worker in set(active_children()) - others:
                worker.kill()
            raise


def _in_order(pool: ProcessPoolExecutor, workers: int, due: list[Task]) -> Iterator[tuple[str, Any]]:
    unfinished = {task.name for task in due}
    running: dict[Future[Any], str] = {}
    while due or running:
        for task in [task for task in due if not task.needs & unfinished][: workers - len(running)]:
            due.remove(task)
            running[pool.submit(task.run, *task.arguments)] = task.name
        if not running:
            raise ValueError(f"tasks that need each other: {', '.join(task.name for task in due)}")
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            result = future.result()
            unfinished.discard(running[future])
            yield running.pop(future), result


def _die_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed command must leave nobody writing into its folder."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
