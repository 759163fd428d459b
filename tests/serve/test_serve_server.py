"""Below the protocol's own limits: connections that ask nothing, and frames that no client may send."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sottovoce.serve import Limits, ServedModel, make_app, make_server
from sottovoce.serve.server import PromptProtocol

PATIENCE = 60.0  # seconds


@pytest.fixture
def address(models: list[ServedModel], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(PromptProtocol, "request_seconds", 1.0)
    limits = Limits(connections=2, message_bytes=1_000)
    server = make_server(make_app(models, limits), limits)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join()


def rest_of(client: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    client.settimeout(PATIENCE)
    found = b""
    with suppress(ConnectionResetError):  # what was sent while it closed is answered so
        while content := client.recv(4096):
            found += content
    return found


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_whoever_asks_nothing_is_dropped_and_keeps_nobody_out(address: tuple[str, int], sent: bytes) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address)) for _ in range(40)]
        for client in idle:
            client.sendall(sent)
        assert [rest_of(client) for client in idle] == [b""] * 40
        with urlopen(f"http://{address[0]}:{address[1]}/models") as answer:
            assert answer.status == 200


def test_a_second_request_that_never_ends_is_dropped_too(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        client.settimeout(PATIENCE)
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /")
        rest_of(client)


def test_a_socket_outlives_the_time_for_a_request(address: tuple[str, int]) -> None:
    with connect(f"ws://{address[0]}:{address[1]}/live") as client:
        client.recv()
        with pytest.raises(TimeoutError):
            client.recv(timeout=3 * PromptProtocol.request_seconds)


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x81\x81\0\0\0\0\xff", 1007), (b"\xf1\x80\0\0\0\0", 1002), (b"\x82\xfe\x0b\xb8\0\0\0\0" + bytes(3_000), 1009)],
)
def test_frames_that_are_none_close_the_socket_without_a_traceback(
    address: tuple[str, int], frame: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), connect(f"ws://{address[0]}:{address[1]}/live") as client:
        client.recv()
        client.socket.sendall(frame)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE)  # and no message of type error before
    assert closed.value.rcvd is not None and closed.value.rcvd.code == code
    assert "Traceback" not in caplog.text
