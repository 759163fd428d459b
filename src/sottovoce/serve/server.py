"""The web server under the page."""

from __future__ import annotations

import uvicorn
import websockets  # noqa: F401  without it uvicorn would refuse every socket
from fastapi import FastAPI

from sottovoce.serve.limits import Limits

_LOADING = 32  # connections beside the sockets: pages


def make_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server of ``app`` for ``run(sockets=...)``, with the limits that lie below the protocol's own."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=2 * limits.message_bytes,  # up to here the protocol says what is wrong, beyond it the socket closes
        ws_per_message_deflate=False,
        limit_concurrency=limits.connections + _LOADING,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
