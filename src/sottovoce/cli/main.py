"""The ``sottovoce`` command. Each subcommand is imported when it is asked for, so that the device side starts
without PyTorch."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from sottovoce import __version__
from sottovoce.errors import SottovoceError

# name -> (module, what to mount: a command's function or a group's app, its line in --help)
_COMMANDS = {
    "demo": ("demo", "demo", "Train, compress to 5, 4 and 3 bits by three methods, and show what was kept."),
    "data": ("data", "app", "Prepare speech or text for training."),
    "train": ("train", "train", "Train a recognizer or a language model in full precision."),
    "search": ("search", "search", "Choose the bits of each matrix of a trained run within a budget."),
    "compress": ("compress", "compress", "Compress a trained run."),
    "evaluate": ("evaluate", "evaluate", "Word error rate or perplexity of a model file, measured by running it."),
    "ngram": ("ngram", "app", "Train, measure and convert n-gram language models."),
    "rescore": ("rescore", "rescore", "Rescore n-best lists or lattices with language models, and show both passes."),
    "compare": ("compare", "compare", "Compare systems by their hypotheses: word errors, intervals, significance."),
    "report": ("report", "report", "One page about runs: errors, bytes, latency, bits, weights, what was heard."),
    "transcribe": ("transcribe", "transcribe", "Transcribe audio with a model file."),
    "export": ("export", "export", "Write a model for ONNX Runtime or stock sherpa-onnx."),
    "import": ("importing", "import_weights", "Take over a trained model's weights, to compress them."),
    "inspect": ("inspect", "inspect", "Show every matrix of a model file."),
    "bench": ("bench", "bench", "Measure how fast a model file runs here."),
    "serve": ("serve", "serve", "A local page: speak, and see what several models hear."),
    "doctor": ("doctor", "doctor", "Show which kernels run here, and why."),
}
_INTERRUPTED = 130  # how typer ends on ctrl-c
_RESUMED = ("demo", "train", "search", "compress", "data prepare swda-synth")  # what keeps its work as it goes
_TRAIN = ("torch", "lightning", "lhotse", "tensorboard", "filelock", "scipy", "urllib3")
_EXTRAS = {**dict.fromkeys(_TRAIN, "train"), "espeakng_loader": "demo", "sounddevice": "microphone"}
_EXTRAS |= dict.fromkeys(("fastapi", "starlette", "uvicorn", "websockets"), "serve")
_EXTRAS |= dict.fromkeys(("onnx", "onnxruntime", "sherpa_onnx"), "export")


class LazyGroup(TyperGroup):
    """Knows its commands by name and loads one when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What ``--help`` lists: a name and a line, nothing imported."""
        if cmd_name not in _COMMANDS:
            return None
        app = typer.Typer(add_completion=False)
        app.command(cmd_name, help=_COMMANDS[cmd_name][2])(lambda: None)
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in _COMMANDS:
            found = _load(args[0])
            bare_group = len(args) == 1 and hasattr(found, "list_commands")
            return args[0], found, ["--help"] if bare_group else args[1:]
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    module, attribute, _ = _COMMANDS[name]
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


def _version(asked: bool) -> None:
    if not asked:
        return
    from sottovoce.runtime.kernels import choose_kernel

    choice = choose_kernel()
    typer.echo(f"sottovoce {__version__}, kernel {choice.name}: {choice.reason}")
    raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version and kernel.")
    ] = False,
) -> None:
    """Sottovoce: speech recognition under eight bits."""


def run() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2; an interruption is 130."""
    try:
        app()
    except SottovoceError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}; install it with: pip install 'sottovoce[{extra}]'")
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            goes_on = "; the same command goes on from here" if _resumes(sys.argv[1:]) else ""
            Console(stderr=True).print(f"interrupted{goes_on}")
        raise


def _resumes(arguments: list[str]) -> bool:
    """Whether a command that was interrupted goes on where it was."""
    return f"{' '.join(arguments)} ".startswith(tuple(f"{command} " for command in _RESUMED))


def _fail(message: str) -> None:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print("error: " + message, style="red")
    sys.exit(2)
