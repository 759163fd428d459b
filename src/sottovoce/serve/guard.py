"""Who may ask: pages of this server alone, under an address that is this server's; and what its page may do."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sottovoce.serve.protocol import MALFORMED

_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect", "worker")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

logger = logging.getLogger("sottovoce.serve")


class Guard:
    """ASGI middleware. A browser names the page's origin with each socket that it opens: another one's is refused. A
    name that is not known here is refused too, since any page's name can be made to point at this machine (DNS
    rebinding); an address cannot. Programs send no origin."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        if (refusal := self._refusal(Headers(scope=scope))) is not None:
            return await _refuse(refusal, scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        return await self._app(scope, receive, send_guarded)

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._known(host):
            return f"this server does not go by the name {host!r}: start it with --allow-host to say that it does"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"pages of {origin!r} may not use this server"
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


async def _refuse(line: str, scope: Scope, receive: Receive, send: Send) -> None:
    logger.warning("%s", line)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": MALFORMED, "reason": line})
    else:
        await PlainTextResponse(line + "\n", 403)(scope, receive, send)
