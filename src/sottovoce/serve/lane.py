"""One model on one connection: pieces of sound in, messages out, decoded by a worker thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from itertools import chain

from sottovoce.runtime import LiveTranscript, Result
from sottovoce.serve.models import ServedModel
from sottovoce.serve.protocol import Done, Heard, Samples, Transcript

_TURN_SECONDS = 1.0  # of sound that one turn of a worker decodes, so that no connection waits long for another
_PIECE_SECONDS = 0.1  # of sound between two looks for an endpoint, as the command line's
_MOST_OFTEN, _LEAST_OFTEN = 0.05, 0.5  # seconds between messages about a segment that goes on

Say = Callable[[Transcript | Done], Awaitable[None]]


@dataclass(frozen=True)
class Piece:
    """Samples (S,) at ``rate`` Hz. arrived: when, by ``time.monotonic``, where sound comes at its own speed."""

    rate: int
    samples: Samples
    arrived: float | None = None

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def parts(self) -> Iterator[Piece]:
        size = max(1, int(_PIECE_SECONDS * self.rate))
        for start in range(0, len(self.samples), size):
            yield Piece(self.rate, self.samples[start : start + size], self.arrived)


class Lane:
    """Decodes what ``put`` gives it, in order, and says what changed; ``waiting`` tenths of a second wait at most."""

    def __init__(self, model: ServedModel, say: Say, workers: Executor, *, endpoints: bool, waiting: int) -> None:
        self._name, self._say, self._workers = model.facts.name, say, workers
        self._live = LiveTranscript(model.recognizer, endpoints=endpoints)
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue(waiting)
        self._ending = False
        self._arrived: float | None = None
        self._sound = self._spent = self._said = 0.0

    async def put(self, piece: Piece | None) -> None:
        """The next sound, once there is room for it; None ends it."""
        for part in piece.parts() if piece else (None,):
            await self._pieces.put(part)

    async def run(self) -> None:
        """Until the sound has ended and all of it is decoded and said. Raises DataError for samples that are none."""
        loop = asyncio.get_running_loop()
        while not self._ending:
            turn = await self._turn()
            for message in await loop.run_in_executor(self._workers, self._decode, turn):
                await self._say(message)

    async def _turn(self) -> list[Piece]:
        turn, seconds = list[Piece](), 0.0
        while seconds < _TURN_SECONDS and (not turn or not self._pieces.empty()):
            piece = await self._pieces.get()
            if piece is None:
                self._ending = True
                break
            turn.append(piece)
            seconds += piece.seconds
        return turn

    def _decode(self, turn: list[Piece]) -> list[Transcript | Done]:
        said = list(chain.from_iterable(self._heard(piece) for piece in turn))
        if not self._ending:
            return said
        begin = time.perf_counter()
        self._live.finish()
        self._spent += time.perf_counter() - begin
        said += self._changed()
        return [*said, Done(model=self._name, sound=round(self._sound, 3), spent=round(self._spent, 6))]

    def _heard(self, piece: Piece) -> list[Transcript | Done]:
        begin = time.perf_counter()
        self._live.accept(piece.rate, piece.samples)
        self._spent += time.perf_counter() - begin
        self._sound += piece.seconds
        self._arrived = piece.arrived
        since = time.monotonic() - self._said
        return self._changed(since > _LEAST_OFTEN) if self._live.ended or since > _MOST_OFTEN else []

    def _changed(self, due: bool = False) -> list[Transcript | Done]:
        news = self._live.change() or ((self._live.result(), False) if due else None)
        if news is None:
            return []
        self._said = time.monotonic()
        return [self._transcript(*news)]

    def _transcript(self, result: Result, final: bool) -> Transcript:
        return Transcript(
            model=self._name,
            segment=result.segment,
            text=result.text,
            final=final,
            sound=round(self._sound, 3),
            spent=round(self._spent, 6),
            latency=None if self._arrived is None else round(self._said - self._arrived, 6),
            words=[Heard(**asdict(word)) for word in result.words] if final else None,
        )
