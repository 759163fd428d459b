"""One connection, from its first message to its close: one recording or microphone, one stream for each model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketDisconnect

from sottovoce.errors import DataError
from sottovoce.serve.lane import Lane, Piece
from sottovoce.serve.limits import Limits
from sottovoce.serve.models import ServedModel
from sottovoce.serve.protocol import (
    DONE,
    FAILED,
    TOO_BIG,
    End,
    FileStart,
    Ready,
    Refusal,
    RefusedError,
    SamplesStart,
    Start,
    read_control,
    read_samples,
)
from sottovoce.serve.upload import Upload

_BLOCK_SECONDS, _PACED_SECONDS = 1.0, 0.1
_REASON_BYTES = 120  # RFC 6455 has room for 123

logger = logging.getLogger("sottovoce.serve")


async def converse(socket: WebSocket, models: Sequence[ServedModel], limits: Limits, workers: Executor) -> None:
    """Serve an accepted socket until all is said; whatever ends it early is one line for the client."""
    connection = Connection(socket, models, limits, workers)
    try:
        await connection.serve()
        await connection.close(DONE, "")
    except WebSocketDisconnect:
        pass
    except RefusedError as error:
        await connection.refuse(str(error), error.code)
    except DataError as error:
        await connection.refuse(str(error))
    except TimeoutError:
        logger.info("a client took nothing for %g s", limits.send_seconds)
    except Exception:
        logger.exception("a connection failed")
        await connection.refuse("the server failed; its log says why", FAILED)


class Connection:
    """Reads a client's messages, hands its sound to a lane for each model, and sends what they say.

    Waits end by ``asyncio.timeout``: before Python 3.12 ``asyncio.wait_for`` may swallow a cancellation that comes as
    it returns (python/cpython#86296), and a lane would wait for the sound of a client that has gone.
    """

    def __init__(self, socket: WebSocket, models: Sequence[ServedModel], limits: Limits, workers: Executor) -> None:
        self._socket, self._models, self._limits, self._workers = socket, models, limits, workers
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Raises RefusedError or DataError for what a client sent, WebSocketDisconnect when it has gone, TimeoutError
        when it takes nothing."""
        longest = 2 * self._limits.seconds + self._limits.idle_seconds  # to send a recording, and to hear it paced
        try:
            async with asyncio.timeout(longest) as clock:
                await self._serve()
        except TimeoutError:
            if clock.expired():
                raise RefusedError(f"a connection lasts at most {longest:g} s") from None
            raise

    async def _serve(self) -> None:
        await self.say(ready(self._models, self._limits))
        start = await self._start()
        lanes = [self._lane(model, start) for model in self._chosen(start)]
        listening = self._listen(start, lanes) if isinstance(start, SamplesStart) else self._receive_file(start, lanes)
        await _until_done([lane.run() for lane in lanes], listening)

    async def say(self, message: BaseModel) -> None:
        """Send a message; raises TimeoutError where the client does not take it."""
        async with self._sending, asyncio.timeout(self._limits.send_seconds):
            await self._socket.send_text(message.model_dump_json())

    async def refuse(self, line: str, code: int = RefusedError("").code) -> None:
        """Say why, and close."""
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # whoever has gone, or is slow, is not told
            await self.say(Refusal(message=line))
            await self.close(code, line)

    async def close(self, code: int, reason: str) -> None:
        short = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(self._limits.send_seconds):
                await self._socket.close(code, short)

    def _lane(self, model: ServedModel, start: Start) -> Lane:
        return Lane(model, self.say, self._workers, endpoints=start.endpoints, waiting=self._limits.waiting)

    def _chosen(self, start: Start) -> list[ServedModel]:
        if start.models is None:
            return list(self._models)
        known = {model.facts.name: model for model in self._models}
        for name in start.models:
            if name not in known:
                raise RefusedError(f"control message: models: expected some of {', '.join(known)}, found {name!r}")
        if not start.models or len(set(start.models)) < len(start.models):
            raise RefusedError("control message: models: expected different names, and one at least")
        return [known[name] for name in start.models]

    async def _start(self) -> Start:
        message = await self._receive()
        if isinstance(message, bytes):
            raise RefusedError("expected a message of type samples or file first, found a binary one")
        if isinstance(message, End):
            raise RefusedError("expected a message of type samples or file first, found end")
        return message

    async def _listen(self, start: SamplesStart, lanes: list[Lane]) -> None:
        seconds = 0.0
        while (content := await self._content()) is not None:
            piece = Piece(start.rate, read_samples(content, start.encoding), time.monotonic())
            seconds += piece.seconds
            if seconds > self._limits.seconds:
                raise RefusedError(f"at most {self._limits.seconds:g} s of sound in one connection")
            await _give(lanes, piece)
        await _give(lanes, None)
        await self._stay()

    async def _receive_file(self, start: FileStart, lanes: list[Lane]) -> None:
        if start.bytes > self._limits.file_bytes:
            raise RefusedError(f"a file has at most {self._limits.file_bytes:,} bytes, found {start.bytes:,}", TOO_BIG)
        with Upload(start.name, start.bytes) as upload:
            while (content := await self._content()) is not None:
                upload.write(content)
            upload.finish()
            await _until_done([self._read(upload, start.paced, lanes)], self._stay())
        await self._stay()

    async def _read(self, upload: Upload, paced: bool, lanes: list[Lane]) -> None:
        run = partial(asyncio.get_running_loop().run_in_executor, self._workers)
        rate, blocks = await run(upload.open, _PACED_SECONDS if paced else _BLOCK_SECONDS, self._limits.seconds)
        due = time.monotonic()
        while (samples := await run(next, blocks, None)) is not None:
            due += len(samples) / rate
            if paced:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await _give(lanes, Piece(rate, samples, due if paced else None))
        await _give(lanes, None)

    async def _content(self) -> bytes | None:
        """The next binary message, None at the end."""
        message = await self._receive()
        if isinstance(message, SamplesStart | FileStart):
            raise RefusedError("expected sound or end: a connection has one recording")
        return None if isinstance(message, End) else message

    async def _stay(self) -> None:
        """While models decode what they have: notice that the client goes, and let it say nothing more."""
        await self._receive(self._limits.seconds + self._limits.idle_seconds)
        raise RefusedError("expected no message after end")

    async def _receive(self, seconds: float | None = None) -> bytes | Start | End:
        wait = seconds or self._limits.idle_seconds
        try:
            async with asyncio.timeout(wait):
                message = await self._socket.receive()
        except TimeoutError:
            raise RefusedError(f"expected a message, found none for {wait:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if (text := message.get("text")) is not None:
            return read_control(text)
        content: bytes = message["bytes"]
        if len(content) > self._limits.message_bytes:
            limit = self._limits.message_bytes
            raise RefusedError(f"a binary message has at most {limit} bytes, found {len(content)}", TOO_BIG)
        return content


def ready(models: Sequence[ServedModel], limits: Limits) -> Ready:
    """What a client is told first."""
    return Ready(models=[model.facts for model in models], limits=asdict(limits))


async def _give(lanes: list[Lane], piece: Piece | None) -> None:
    for lane in lanes:
        await lane.put(piece)


async def _until_done(work: list[Coroutine[Any, Any, None]], beside: Coroutine[Any, Any, None]) -> None:
    """Until all of ``work`` is done; the first failure, there or in what runs beside it, ends everything."""
    tasks, other = [asyncio.create_task(one) for one in work], asyncio.create_task(beside)
    try:
        left = {other, *tasks}
        while left - {other}:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (*tasks, other):
            task.cancel()
        await asyncio.gather(*tasks, other, return_exceptions=True)
