"""Which arithmetic runs packed networks: the compiled kernels, or the NumPy definition."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from sottovoce.errors import ConfigError

VARIABLE = "SOTTOVOCE_KERNEL"
NUMPY = "numpy"
"""The value of SOTTOVOCE_KERNEL that forces the definition."""
MAX_THREADS = 256


@dataclass(frozen=True)
class KernelPath:
    """A path of the kernels, and whether this machine can run it."""

    name: str
    available: bool


@dataclass(frozen=True)
class KernelChoice:
    """What runs packed networks here. name: a path, or "numpy"; reason: why, in one line; forced: by the environment;
    paths: all that were compiled, the fastest first, none without the module; features: of the processor, those that
    paths are chosen by, and whether it has them."""

    name: str
    reason: str
    forced: bool
    paths: tuple[KernelPath, ...]
    features: tuple[tuple[str, bool], ...]


@cache
def native_module() -> tuple[Any, str]:
    """The compiled module and "", or None and what is wrong with it, in one line."""
    try:
        return import_module("sottovoce._native"), ""
    except ModuleNotFoundError:
        return None, "sottovoce was installed without the compiled kernels"
    except ImportError as error:
        return None, f"the compiled kernels cannot be loaded: {' '.join(str(error).split())}"


def choose_kernel() -> KernelChoice:
    """The best path that this machine can run, or what $SOTTOVOCE_KERNEL names.

    Raises ConfigError for a name that is unknown or cannot be run here.
    """
    module, missing = native_module()
    paths = tuple(KernelPath(*path) for path in module.kernel_paths()) if module else ()
    features = tuple(module.cpu_features()) if module else ()
    forced = os.environ.get(VARIABLE, "")
    if forced:
        _check_forced(forced, paths, missing)
        return KernelChoice(forced, f"forced by {VARIABLE}", True, paths, features)
    if module is None:
        return KernelChoice(NUMPY, missing, False, paths, features)
    name = next(path.name for path in paths if path.available)
    return KernelChoice(name, "the fastest path that this processor can run", False, paths, features)


def _check_forced(name: str, paths: tuple[KernelPath, ...], missing: str) -> None:
    usable = [path.name for path in paths if path.available] + [NUMPY]
    if name in usable:
        return
    why = f" ({missing})" if missing else ""
    raise ConfigError(f"{VARIABLE}: expected one of {', '.join(usable)} on this machine{why}, found {name!r}")


def compiled_path(kernel: str = "") -> tuple[Any, str]:
    """The compiled module and a path of it: the one named, or else the one in use.

    Raises ConfigError without the module, where NumPy is forced, or for a path that this machine cannot run.
    """
    module, missing = native_module()
    if module is None:
        raise ConfigError(f"kernels: {missing}")
    name = kernel or choose_kernel().name
    usable = [path for path, available in module.kernel_paths() if available]
    if name not in usable:
        raise ConfigError(f"kernel: expected one of {', '.join(usable)} on this machine, found {name!r}")
    return module, name


def check_threads(threads: int) -> None:
    """Raises ConfigError unless 1 to 256."""
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"num_threads: expected 1 to {MAX_THREADS}, found {threads!r}")


@cache
def warn_once(missing: str) -> None:
    """Say, once a process, that packed weights run on NumPy, what that costs, and what to do."""
    warnings.warn(
        f"{missing}: packed models run on NumPy, with the same results but many times slower and in several times the "
        "memory; install a C++20 compiler (such as g++ or clang) and then sottovoce again, with "
        "'pip install --force-reinstall --no-deps --no-cache-dir', to get them. "
        f"{VARIABLE}={NUMPY} chooses NumPy without this warning",
        RuntimeWarning,
        stacklevel=2,
    )
