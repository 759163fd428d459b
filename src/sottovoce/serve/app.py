"""The page, and its socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import Response

from sottovoce.serve.connection import Connection, converse, ready
from sottovoce.serve.guard import Guard
from sottovoce.serve.limits import Limits
from sottovoce.serve.models import ServedModel
from sottovoce.serve.protocol import BUSY, Ready

_FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "words.js": ("words.js", "text/javascript"),
    "microphone.js": ("microphone.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


class _Places:
    """How many connections are served."""

    def __init__(self) -> None:
        self.taken = 0


def make_app(models: Sequence[ServedModel], limits: Limits | None = None, *, hosts: Sequence[str] = ()) -> FastAPI:
    """The page at ``/`` and its socket at ``/live`` (docs/serve.md). hosts: names beside localhost and addresses under
    which it may be asked for."""
    limits = limits or Limits()
    workers = ThreadPoolExecutor(os.cpu_count() or 1, "sottovoce-serve")
    places = _Places()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.shutdown(cancel_futures=True)

    app = FastAPI(title="Sottovoce", lifespan=lifespan, openapi_url=None)
    app.add_middleware(Guard, hosts=hosts)
    for path, (name, kind) in _FILES.items():
        app.add_api_route(f"/{path}", _file(name, kind), methods=["GET", "HEAD"])

    @app.get("/models")
    async def facts() -> Ready:
        return ready(models, limits)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if places.taken >= limits.connections:
            line = f"at most {limits.connections} connections at once: try again later"
            await Connection(socket, models, limits, workers).refuse(line, BUSY)
            return
        places.taken += 1
        try:
            await converse(socket, models, limits, workers)
        finally:
            places.taken -= 1

    return app


def _file(name: str, kind: str) -> Any:
    content = files(__package__).joinpath("page", name).read_bytes()

    async def read() -> Response:
        return Response(content, media_type=kind)

    return read
