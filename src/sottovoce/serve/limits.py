"""What one client may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """connections: at once. seconds: of sound in one. file_bytes: of a recording sent as a file. message_bytes: of a
    binary message; control messages have 4 KiB. waiting: pieces of sound that may wait for a model before the socket is
    read no further. idle_seconds: without a message while one is due. send_seconds: in which a client must take what is
    said to it.
    """

    connections: int = 8
    seconds: float = 3600.0
    file_bytes: int = 100_000_000
    message_bytes: int = 262_144
    waiting: int = 16
    idle_seconds: float = 30.0
    send_seconds: float = 10.0


CONTROL_BYTES = 4096
