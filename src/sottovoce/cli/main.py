"""The ``sottovoce`` command. Each subcommand is imported when it is asked for, so that the device side starts
without PyTorch."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from sottovoce.errors import SottovoceError

# name -> (module, what to mount: a command's function or a group's app)
_COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "demo"),
    "data": ("data", "app"),
    "train": ("train", "train"),
    "compress": ("compress", "compress"),
    "evaluate": ("evaluate", "evaluate"),
    "transcribe": ("transcribe", "transcribe"),
    "inspect": ("inspect", "inspect"),
}
_INTERRUPTED = 130  # how typer ends on ctrl-c
_EXTRAS = {"torch": "train", "lightning": "train", "lhotse": "train", "tensorboard": "train", "espeakng_loader": "demo"}


class LazyGroup(TyperGroup):
    """Knows its commands by name and loads one when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _load(cmd_name) if cmd_name in _COMMANDS else None


def _load(name: str) -> Any:
    module, attribute = _COMMANDS[name]
    found: Any = getattr(import_module(f"sottovoce.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_command(found)
        group.name = name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(name)(found)
    return typer.main.get_command(app)


app = typer.Typer(
    cls=LazyGroup,
    help="Sottovoce: speech recognition under eight bits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Sottovoce: speech recognition under eight bits."""


def run() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2; an interruption is 130."""
    try:
        app()
    except SottovoceError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}; install it with: pip install 'sottovoce[{extra}]'")
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            Console(stderr=True).print("interrupted; the same command goes on from here")
        raise


def _fail(message: str) -> None:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print("error: " + message, style="red")
    sys.exit(2)
