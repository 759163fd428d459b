"""``sottovoce serve``: a local page where models listen side by side."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from sottovoce.cli.transcribe import SearchMethod
from sottovoce.errors import ConfigError
from sottovoce.runtime.rules import Arithmetic
from sottovoce.serve import Limits, ServedModel, make_app, make_server, open_models

_STANDARD = Limits()
_MOST_PORT = 65_535
_UNTAKEN_MS = 60_000  # after which the system drops a client that takes nothing


def serve(
    models: Annotated[
        list[str], typer.Argument(help="Model files or run folders; NAME=PATH gives another name.", metavar="MODEL...")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's can then ask.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=_MOST_PORT, help="The port; 0 takes any that is free.")] = 8765,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name under which browsers may ask, beside localhost and addresses.")
    ] = None,
    browser: Annotated[
        bool | None, typer.Option("--browser/--no-browser", help="Open the page; by default on a terminal.")
    ] = None,
    method: Annotated[SearchMethod, typer.Option(help="How to search.")] = SearchMethod.greedy,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept, with --method beam.")] = 4,
    blank_penalty: Annotated[
        float | None, typer.Option(help="Taken off the blank's log-probability, nats; by default what the file says.")
    ] = None,
    arithmetic: Annotated[Arithmetic, typer.Option(help="int8, float (weight-only figures) or accelerator.")] = "int8",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the compiled kernels.")] = 1,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Microphones and recordings at once.")
    ] = _STANDARD.connections,
    max_seconds: Annotated[float, typer.Option(min=1, help="Of sound in one connection.")] = _STANDARD.seconds,
    max_file_mb: Annotated[float, typer.Option(min=0.001, help="Of a recording.")] = _STANDARD.file_bytes / 1e6,
    max_message_kib: Annotated[
        int, typer.Option(min=1, max=16_384, help="Of one binary message.")
    ] = _STANDARD.message_bytes // 1024,
    idle_seconds: Annotated[
        float, typer.Option(min=0.1, help="After which a client that sends nothing is let go.")
    ] = _STANDARD.idle_seconds,
) -> None:
    """Open a page on this machine: speak, or drop a recording, and see what each model hears as it hears it, with its
    bytes and latency. A dropped recording has the words of `sottovoce transcribe`. Sound goes to this program only.

    Other programs can use the page's socket: docs/serve.md describes its messages. Ctrl-c ends it.

    Examples:

        sottovoce serve runs/fsdd runs/fsdd-8bit runs/fsdd-5bit

        sottovoce serve large=model.safetensors small=model-3bit.safetensors --port 9000 --no-browser

        sottovoce serve model.safetensors --host 0.0.0.0 --allow-host speech.example
    """
    options = {"method": method.value, "beam": beam, "blank_penalty": blank_penalty, "arithmetic": arithmetic}
    opened = open_models(models, num_threads=threads, **options)
    limits = Limits(
        connections=max_connections,
        seconds=max_seconds,
        file_bytes=int(max_file_mb * 1e6),
        message_bytes=max_message_kib * 1024,
        idle_seconds=idle_seconds,
    )
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    server = make_server(make_app(opened, limits, hosts=[host, *(allow_host or [])]), limits)
    with _listen(host, port) as listening, suppress(KeyboardInterrupt):  # which is how it is ended
        if not _local(host):
            _warn(host)
        _show(opened, address := _address(host, listening.getsockname()[1]))
        if sys.stdout.isatty() if browser is None else browser:
            webbrowser.open(address)  # the socket is there already: the browser waits for its first answer
        server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError where that address cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror or error}") from None
    try:
        if os.name != "nt":  # there it would take a port that another program listens on
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if (untaken := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
            listening.setsockopt(socket.IPPROTO_TCP, untaken, _UNTAKEN_MS)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        option = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise ConfigError(f"{host}, port {port}: {error.strerror or error}: choose another with {option}") from None
    return listening


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(host: str, port: int) -> str:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}/"
    shown = "localhost" if found.is_unspecified else f"[{host}]" if found.version == 6 else host
    return f"http://{shown}:{port}/"


def _show(models: list[ServedModel], address: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for model in models:
        facts = model.facts
        bits = "float" if facts.bits == 32 else f"{facts.bits:.3g} bits"
        console.print(f"{facts.name}: {bits}, {facts.model_bytes / 1e6:.2f} MB, {facts.kernel}", markup=False)
    console.print(f"listening at {address}", markup=False)


def _warn(host: str) -> None:
    typer.echo(
        f"warning: {host} is not this machine alone: whoever reaches it can use the models, unencrypted, and browsers "
        "elsewhere give a page their microphone over https only",
        err=True,
    )
