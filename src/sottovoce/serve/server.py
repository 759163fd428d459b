"""The web server under the page."""

from __future__ import annotations

import asyncio
import logging

import uvicorn
import websockets  # noqa: F401  without it uvicorn would refuse every socket
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from sottovoce.serve.limits import Limits

_LOADING = 32  # connections beside the sockets: pages


class PromptProtocol(H11Protocol):
    """Drops a connection on which no whole head of a request has come in ``request_seconds``, or none after an answer:
    uvicorn waits for the first one without end, and for the rest of a head."""

    request_seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        upgraded = self.transport.get_protocol() is not self
        if upgraded or not (self.cycle is None or self.cycle.response_complete):
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.request_seconds, self.transport.close)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def make_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server of ``app`` for ``run(sockets=...)``, with the limits that lie below the protocol's own."""
    logging.getLogger("uvicorn.error").addFilter(_without_trace)
    config = uvicorn.Config(
        app,
        http=PromptProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=2 * limits.message_bytes,  # up to here the protocol says what is wrong, beyond it the socket closes
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # an answer would lie unread while a busy model holds the socket back
        limit_concurrency=limits.connections + _LOADING,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def _without_trace(record: logging.LogRecord) -> bool:
    """Text of a client's that is not UTF-8 is no failure of ours: one line, and not where it happened."""
    if record.exc_info and record.getMessage().startswith("Invalid UTF-8"):
        record.exc_info = None
    return True
