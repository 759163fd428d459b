"""Transcription of sound that is still coming: partial results, and a new line where an utterance ends."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from types import FrameType
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from sottovoce.errors import ConfigError
from sottovoce.runtime import LiveTranscript, Recognizer, Result

CHUNK_SECONDS = 0.1
_CLEAR = "\r\x1b[K"

Samples = NDArray[np.float32]


def live_results(recognizer: Recognizer, rate: int, chunks: Iterable[Samples]) -> Iterator[tuple[Result, bool]]:
    """Each change of the transcript of chunks (S,) at ``rate`` Hz: the segment so far, and whether it is at its end."""
    live = LiveTranscript(recognizer)
    for chunk in chunks:
        live.accept(rate, chunk)
        if (news := live.change()) is not None:
            yield news
    live.finish()
    if (news := live.change()) is not None:
        yield news


def pieces(samples: Samples, rate: int) -> Iterator[Samples]:
    """A recording as a microphone gives it: 0.1 s at a time."""
    size = max(1, int(CHUNK_SECONDS * rate))
    return (samples[start : start + size] for start in range(0, len(samples), size))


def at_the_speed_of_sound(chunks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Each chunk once the time in which it would have been spoken has passed."""
    begin, heard = time.monotonic(), 0
    for chunk in chunks:
        heard += len(chunk)
        time.sleep(max(0.0, begin + heard / rate - time.monotonic()))
        yield chunk


@contextmanager
def microphone() -> Iterator[tuple[int, Iterator[Samples]]]:
    """The rate and the samples of the system's input device, without end until ctrl-c. Needs ``sounddevice``.

    Raises ConfigError where there is no such device or it cannot be read.
    """
    sounddevice = _sounddevice()
    try:
        rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
        device = sounddevice.InputStream(samplerate=rate, channels=1, dtype="float32")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ConfigError(f"microphone: {_one_line(error)}") from None
    try:
        with device, _until_interrupted() as interrupted:
            yield rate, _read(device, max(1, int(CHUNK_SECONDS * rate)), interrupted)
    except sounddevice.PortAudioError as error:
        raise ConfigError(f"microphone: {_one_line(error)}") from None


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:  # the wheel is there, the system's library is not
        raise ConfigError(f"microphone: {_one_line(error)}: install your system's PortAudio") from None
    return sounddevice


def _read(device: Any, size: int, interrupted: Callable[[], bool]) -> Iterator[Samples]:
    lost = False
    while not interrupted():
        samples, overflowed = device.read(size)  # (S, 1)
        if overflowed and not lost:
            typer.echo("warning: sound was lost: this machine does not keep up", err=True)
        lost = lost or overflowed
        yield samples[:, 0]


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-c ends the sound, not the decoding of what was said; a second one ends the program."""
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: stopped
    finally:
        signal.signal(signal.SIGINT, before)


def show(name: str, results: Iterable[tuple[Result, bool]], to_json: Callable[[Result], dict[str, Any]] | None) -> None:
    """Print results as they come.

    On a terminal the present segment is one line, rewritten; elsewhere only ended segments are printed, a line each:
    name, start in seconds, text. With ``to_json`` each change is one JSON object, with ``final`` and ``segment``.
    """
    terminal = sys.stdout.isatty()
    for result, final in results:
        line = f"{name}\t{result.words[0].start if result.words else result.start_time:.2f}\t{result.text}"
        if to_json is not None:
            typer.echo(json.dumps({"file": name, "final": final, **to_json(result)}, ensure_ascii=False))
        elif final:
            typer.echo((_CLEAR if terminal else "") + line)
        elif terminal:
            typer.echo(_CLEAR + result.text[-(get_terminal_size().columns - 1) :], nl=False)
        sys.stdout.flush()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
