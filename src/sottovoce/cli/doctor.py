"""``sottovoce doctor``: what this installation can do here, and why."""

from __future__ import annotations

import json
import platform
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import sottovoce
from sottovoce.runtime.kernels import NUMPY, VARIABLE, KernelChoice, choose_kernel


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Show versions, the processor's features, the kernel paths, and which one runs packed models and why.

    Example:

        sottovoce doctor
    """
    facts = _facts(choose_kernel())
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        table.add_row(name, ", ".join(value) or "none" if isinstance(value, list) else str(value))
    Console().print(table)


def _facts(choice: KernelChoice) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "sottovoce": sottovoce.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "kernel": choice.name,
        "why": choice.reason,
    }
    if choice.paths:
        facts["processor has"] = [name for name, found in choice.features if found]
        facts["processor lacks"] = [name for name, found in choice.features if not found]
        facts["paths here"] = [path.name for path in choice.paths if path.available] + [NUMPY]
        facts["paths elsewhere"] = [path.name for path in choice.paths if not path.available]
        facts["to choose another"] = f"set {VARIABLE} to one of the paths here"
    else:
        facts["to get kernels"] = "install a C++20 compiler, then sottovoce again (pip install --force-reinstall)"
    return facts
