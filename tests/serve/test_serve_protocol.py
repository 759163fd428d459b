"""The socket: words, limits, and what is malformed, slow or gone."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import runpy
import tempfile
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from sottovoce.cli.live import live_results
from sottovoce.errors import ConfigError, FormatError
from sottovoce.frontend.audio import read_audio
from sottovoce.runtime import EndpointRule, EndpointRules, Recognizer
from sottovoce.runtime.stream import Stream
from sottovoce.serve import Limits, ServedModel, make_app, open_models
from sottovoce.serve.connection import converse

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
URL = "ws://127.0.0.1:8765/live"
SAMPLES = {"type": "samples", "version": 1, "rate": 16_000}
END = json.dumps({"type": "end"})


def say(socket: WebSocketTestSession, message: dict[str, Any]) -> None:
    socket.send_text(json.dumps(message))


def all_said(socket: WebSocketTestSession) -> tuple[list[dict[str, Any]], int]:
    """All messages up to the close, and its code."""
    said = []
    while True:
        try:
            said.append(socket.receive_json())
        except WebSocketDisconnect as closed:
            return said, closed.code


def finals(said: list[dict[str, Any]], model: str) -> list[str]:
    return [m["text"] for m in said if m["type"] == "transcript" and m["model"] == model and m["final"]]


def send_all(socket: Any, messages: list[Any]) -> None:
    """Bytes and texts as they are, anything else as JSON."""
    for message in messages:
        if isinstance(message, bytes):
            socket.send_bytes(message)
        else:
            socket.send_text(message if isinstance(message, str) else json.dumps(message))


def send_file(client: TestClient, path: Path, size: int = 65_536, **fields: Any) -> tuple[list[dict[str, Any]], int]:
    content = path.read_bytes()
    with client.websocket_connect(URL) as socket:
        say(socket, {"type": "file", "version": 1, "name": path.name, "bytes": len(content), **fields})
        for start in range(0, len(content), size):
            socket.send_bytes(content[start : start + size])
        socket.send_text(END)
        return all_said(socket)


@pytest.mark.parametrize("paced", [False, True])
def test_a_file_has_the_words_of_transcribe(
    client: TestClient, models: list[ServedModel], recording: Path, paced: bool
) -> None:
    samples, rate = read_audio(recording)
    said, code = send_file(client, recording, paced=paced)
    assert code == 1000 and said[0]["type"] == "ready"
    for model in models:
        expected = model.recognizer.transcribe(samples, rate)
        assert finals(said, model.facts.name) == [expected.text] and expected.text
        mine = [m for m in said if m.get("model") == model.facts.name]
        assert mine[-1]["type"] == "done" and mine[-1]["sound"] == round(len(samples) / rate, 3)
        partials = [m for m in mine if m["type"] == "transcript" and not m["final"]]
        assert all((m["latency"] is not None) == paced and m["words"] is None for m in partials)
        assert not paced or len(partials) > 5
        [final] = [m for m in mine if m.get("final")]
        assert [word["text"] for word in final["words"]] == [word.text for word in expected.words]


@pytest.mark.parametrize("encoding", ["int16", "float32"])
@pytest.mark.parametrize("endpoints", [False, True])
def test_samples_have_the_words_of_the_recognizer(model_files: list[str], encoding: str, endpoints: bool) -> None:
    samples = (9_000 * np.random.default_rng(4).normal(size=112_000).clip(-3, 3)).astype(np.int16)
    sound = samples if encoding == "int16" else samples.astype(np.float32) / 32_768
    rules = EndpointRules(EndpointRule(False, 2.4, 0.0), EndpointRule(True, 0.12, 0.0), EndpointRule(False, 0.0, 2.0))
    [model] = open_models([model_files[1]], endpoint=rules)
    if endpoints:
        pieces = [sound[start : start + 1600] for start in range(0, len(sound), 1600)]
        expected = [result.text for result, final in live_results(model.recognizer, 16_000, pieces) if final]
        assert len(expected) > 2
    else:
        expected = [model.recognizer.transcribe(sound, 16_000).text]
    with TestClient(make_app([model]), base_url="http://127.0.0.1:8765") as client, client.websocket_connect(URL) as s:
        say(s, {**SAMPLES, "encoding": encoding, "endpoints": endpoints, "models": ["packed"]})
        for start in range(0, len(sound), 8_000):  # pieces of half a second, cut into tenths there
            s.send_bytes(sound[start : start + 8_000].tobytes())
        s.send_text(END)
        said, code = all_said(s)
    assert code == 1000 and finals(said, "packed") == expected and "".join(expected)
    assert {m["model"] for m in said[1:]} == {"packed"}
    assert all(m["latency"] >= 0 for m in said if m["type"] == "transcript")


def test_two_connections_at_once_have_words_of_their_own(
    client: TestClient, models: list[ServedModel], recording: Path
) -> None:
    samples, rate = read_audio(recording)
    halves = [samples[: len(samples) // 2], samples[len(samples) // 2 :]]
    with client.websocket_connect(URL) as first, client.websocket_connect(URL) as second:
        for socket in (first, second):
            say(socket, {**SAMPLES, "rate": rate, "endpoints": False})
        for start in range(0, len(halves[1]), 2_205):
            for socket, half in zip((first, second), halves, strict=True):
                if piece := half[start : start + 2_205].tobytes():
                    socket.send_bytes(piece)
        for socket, half in zip((second, first), reversed(halves), strict=True):
            socket.send_text(END)
            said, code = all_said(socket)
            assert code == 1000
            for model in models:
                assert finals(said, model.facts.name) == [model.recognizer.transcribe(half, rate).text]


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        (["nothing"], "control message: Invalid JSON"),
        (["[]"], "control message: Input should be"),
        (["{}"], "control message: Unable to extract tag using discriminator 'type'"),
        ([{"type": "stop"}], "control message: Input tag 'stop' found using 'type'"),
        ([{**SAMPLES, "version": 2}], "control message: samples.version: Input should be 1"),
        ([{**SAMPLES, "rate": 999}], "control message: samples.rate: Input should be greater than or equal to 1000"),
        ([{**SAMPLES, "rate": "16000"}], "control message: samples.rate: Input should be a valid integer"),
        ([{**SAMPLES, "rate": 1e400}], "control message: "),
        ([{**SAMPLES, "colour": 1}], "control message: samples.colour: Extra inputs are not permitted"),
        ([{**SAMPLES, "encoding": "mp3"}], "control message: samples.encoding: Input should be 'int16' or 'float32'"),
        ([{**SAMPLES, "models": ["none"]}], "models: expected some of float, packed, other, found 'none'"),
        ([{**SAMPLES, "models": []}], "models: expected different names, and one at least"),
        ([{**SAMPLES, "models": ["other", "other"]}], "models: expected different names, and one at least"),
        ([{"type": "file", "version": 1, "bytes": 0}], "file.bytes: Input should be greater than or equal to 1"),
        ([{"type": "file", "version": 1, "bytes": 9, "name": "x" * 300}], "file.name: String should have at most 255"),
        (['{"type": "file", "version": 1, "bytes": 9, "name": "\\ud800"}'], "control message: "),
        ([b"\0\0"], "expected a message of type samples or file first, found a binary one"),
        ([END], "expected a message of type samples or file first, found end"),
        ([SAMPLES, SAMPLES], "expected sound or end: a connection has one recording"),
        ([SAMPLES, b"\0\0\0"], "binary message: expected 4 bytes for each float32 sample, found 3 bytes"),
        ([SAMPLES, b""], "binary message: expected 4 bytes for each float32 sample, found 0 bytes"),
        ([SAMPLES, b"\0\0\xc0\x7f"], "samples: expected finite numbers, found NaN or infinity"),
        ([SAMPLES, b"\0\0\0\x7f"], "samples: expected"),
        ([{"type": "file", "version": 1, "bytes": 4}, b"RIFF", b"more"], "recording: expected 4 bytes, found more"),
        ([{"type": "file", "version": 1, "bytes": 9}, b"RIFF", END], "recording: expected 9 bytes, found 4"),
        ([{"type": "file", "version": 1, "bytes": 4}, b"RIFF", END], "recording: not readable as audio"),
        ([{"type": "file", "version": 1, "bytes": 4, "name": "x.raw"}, b"RIFF", END], "x.raw: a .raw file does not"),
        (
            [{**SAMPLES, "rate": 767_999}, bytes(40_000)],
            "from 767999 to 16000 Hz: expected a filter of at most 1000000",
        ),
        ([{"type": "file", "version": 1, "bytes": 4, "name": "a\nb"}, b"RIFF", END], "a?b: not readable as audio"),
    ],
)
def test_what_is_malformed_ends_its_connection_with_one_line(
    client: TestClient, messages: list[Any], line: str
) -> None:
    with client.websocket_connect(URL) as socket:
        send_all(socket, messages)
        said, code = all_said(socket)
    errors = [m["message"] for m in said if m["type"] == "error"]
    assert code == 1008 and len(errors) == 1 and said[-1]["type"] == "error"
    assert line in errors[0] and "\n" not in errors[0] and tempfile.gettempdir() not in errors[0]


def test_after_the_end_nothing_may_come(models: list[ServedModel]) -> None:
    with TestClient(make_app(models), base_url="http://127.0.0.1:8765") as client, client.websocket_connect(URL) as s:
        say(s, SAMPLES)
        s.send_bytes(np.zeros(50_000, np.float32).tobytes())
        s.send_text(END)
        s.send_text(END)
        said, code = all_said(s)
    assert (said[-1], code) == ({"type": "error", "message": "expected no message after end"}, 1008)


def test_limits_on_messages_and_sound(client: TestClient, recording: Path, tmp_path: Path) -> None:
    cases: list[tuple[list[Any], str, int]] = [
        ([" " * 5000], "a control message has at most 4096 bytes, found 5000", 1009),
        ([SAMPLES, bytes(70_004)], "a binary message has at most 70000 bytes, found 70004", 1009),
        ([{**SAMPLES, "rate": 1_000}, bytes(70_000), bytes(70_000)], "at most 30 s of sound in one connection", 1008),
        ([{"type": "file", "version": 1, "bytes": 400_001}], "a file has at most 400,000 bytes, found 400,001", 1009),
    ]
    for messages, line, expected in cases:
        with client.websocket_connect(URL) as socket:
            send_all(socket, messages)
            said, code = all_said(socket)
        assert (said[-1]["message"], code) == (line, expected)
    soundfile.write(tmp_path / "long.flac", np.zeros(31 * 16_000), 16_000)
    said, code = send_file(client, tmp_path / "long.flac")
    assert (said[-1]["message"], code) == ("long.flac: at most 30 s of sound, found 31 s", 1008)
    assert not finals(said, "packed")


def test_one_connection_too_many_is_told_so_and_served_later(client: TestClient, recording: Path) -> None:
    with client.websocket_connect(URL), client.websocket_connect(URL) as second:
        with client.websocket_connect(URL) as third:
            said, code = all_said(third)
        assert (said, code) == ([{"type": "error", "message": "at most 2 connections at once: try again later"}], 1013)
        say(second, {**SAMPLES, "rate": 999})
        assert all_said(second)[1] == 1008
        assert send_file(client, recording)[1] == 1000


@pytest.mark.parametrize("messages", [[], [SAMPLES], [{"type": "file", "version": 1, "bytes": 9}]])
def test_whoever_says_nothing_is_let_go(models: list[ServedModel], messages: list[Any]) -> None:
    app = make_app(models, Limits(idle_seconds=0.2))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client, client.websocket_connect(URL) as socket:
        for message in messages:
            say(socket, message)
        said, code = all_said(socket)
    assert (said[-1]["message"], code) == ("expected a message, found none for 0.2 s", 1008)


def test_whoever_drips_is_let_go(models: list[ServedModel]) -> None:
    app = make_app(models, Limits(seconds=0.1, idle_seconds=1.0))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client, client.websocket_connect(URL) as socket:
        say(socket, {**SAMPLES, "rate": 700_000})
        for _ in range(100):  # what a closed socket is sent goes nowhere
            socket.send_bytes(bytes(4))
            time.sleep(0.02)
        said, code = all_said(socket)
    assert (said[-1]["message"], code) == ("a connection lasts at most 1.2 s", 1008)


def test_a_client_that_goes_frees_its_streams_and_its_file(
    models: list[ServedModel], recording: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: weakref.WeakSet[Stream] = weakref.WeakSet()
    create = Recognizer.create_stream

    def noted(self: Recognizer, *arguments: Any) -> Stream:
        stream = create(self, *arguments)
        made.add(stream)
        return stream

    monkeypatch.setattr(Recognizer, "create_stream", noted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = recording.read_bytes()
    app = make_app(models, Limits(connections=1))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        for fields, sound in (
            ({"type": "samples", "rate": 16_000}, [bytes(64_000)]),
            ({"type": "file", "bytes": len(content)}, [content[:1000]]),
            ({"type": "file", "bytes": len(content), "paced": True}, [content[:200_000], content[200_000:], END]),
        ):
            with client.websocket_connect(URL) as socket:
                say(socket, {"version": 1, **fields})
                for piece in sound:
                    socket.send_bytes(piece) if isinstance(piece, bytes) else socket.send_text(piece)
                if fields["type"] == "samples" or END in sound:
                    assert [socket.receive_json() for _ in range(3)]  # in mid-stream
                socket.close()  # and not by leaving the block, which would also cancel what the server does about it
                _until(lambda: gc.collect() >= 0 and not made and not any(tmp_path.iterdir()))
        assert send_file(client, recording)[1] == 1000


def _until(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came about")


class StubbornClient:
    """Sends without end, and takes ``taken`` messages."""

    def __init__(self, taken: int) -> None:
        self.taken, self.sent, self.closed = taken, 0, False

    async def send_text(self, text: str) -> None:
        self.taken -= 1
        if self.taken < 0:
            await asyncio.Event().wait()

    async def receive(self) -> dict[str, Any]:
        self.sent += 1
        await asyncio.sleep(0)
        if self.sent == 1:
            return {"type": "websocket.receive", "text": json.dumps(SAMPLES)}
        return {"type": "websocket.receive", "bytes": np.full(1_600, 0.1, np.float32).tobytes()}

    async def close(self, code: int, reason: str) -> None:
        self.closed = True


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_client_that_takes_nothing_is_read_no_further_and_let_go(
    models: list[ServedModel], taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    client, limits = StubbornClient(taken), Limits(waiting=4, send_seconds=0.5)
    with ThreadPoolExecutor(2) as workers, caplog.at_level(logging.INFO):
        asyncio.run(converse(client, models, limits, workers))  # type: ignore[arg-type]
    assert client.sent < 400  # of an endless stream: what was decoded before it stuck, and what waits
    assert [record.message for record in caplog.records] == ["a client took nothing for 0.5 s"]


class LeavingClient:
    """Sends a second of sound, and goes ``turns`` turns of the loop after a model began to say something."""

    def __init__(self, turns: int) -> None:
        self._turns, self._told, self._heard = turns, 0, asyncio.Event()
        self._sent = [
            {"type": "websocket.receive", "text": json.dumps(SAMPLES)},
            {"type": "websocket.receive", "bytes": np.full(16_000, 0.1, np.float32).tobytes()},
        ]

    async def send_text(self, text: str) -> None:
        self._told += 1
        if self._told == 2:  # after what the server says first
            self._heard.set()
        for _ in range(8):  # longer than it takes until a client is known to have gone
            await asyncio.sleep(0)

    async def receive(self) -> dict[str, Any]:
        if self._sent:
            return self._sent.pop(0)
        await self._heard.wait()
        for _ in range(self._turns):
            await asyncio.sleep(0)
        return {"type": "websocket.disconnect"}


@pytest.mark.parametrize("turns", range(8))
def test_a_client_that_goes_while_it_is_told_something_is_let_go(models: list[ServedModel], turns: int) -> None:
    async def told(client: LeavingClient, workers: ThreadPoolExecutor) -> None:
        async with asyncio.timeout(20):
            await converse(client, models, Limits(), workers)  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as workers:
        asyncio.run(told(LeavingClient(turns), workers))


def test_a_failure_of_ours_is_logged_and_said(
    client: TestClient, recording: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recognizer, "decode_stream", lambda *_: 1 / 0)
        said, code = send_file(client, recording)
    assert (said[-1]["message"], code) == ("the server failed; its log says why", 1011)
    assert "ZeroDivisionError" in caplog.text
    assert send_file(client, recording)[1] == 1000


def test_models_are_described(client: TestClient, model_files: list[str]) -> None:
    facts = client.get("/models").json()
    assert facts["type"] == "ready" and facts["version"] == 1 and facts["limits"]["connections"] == 2
    first = facts["models"][0]
    assert (first["name"], first["bits"], first["kernel"]) == ("float", 32.0, "numpy")
    assert 4 < facts["models"][1]["bits"] < 5
    for model, path in zip(facts["models"], model_files, strict=True):
        assert model["file_bytes"] == Path(path).stat().st_size > model["model_bytes"]
    with client.websocket_connect(URL) as socket:
        assert socket.receive_json() == facts


def test_models_are_named_by_file_folder_or_user(model_files: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run-5bit"
    run.mkdir()
    (run / "model.safetensors").write_bytes(Path(model_files[1]).read_bytes())
    named = open_models([model_files[0], str(run), f"mine={model_files[2]}"])
    assert [model.facts.name for model in named] == ["float", "run-5bit", "mine"]


def test_models_that_cannot_be_shown_are_refused(model_files: list[str], tmp_path: Path) -> None:
    features = tmp_path / "features.safetensors"
    tiny["speaking_model"](input={"kind": "features", "dim": 5, "rate": 100.0}).save(features)
    (tmp_path / "none.safetensors").write_bytes(b"no model")
    cases: list[tuple[list[str], type[Exception], str]] = [
        ([str(tmp_path / "absent")], ConfigError, "absent: expected a model file or a run folder, found none"),
        ([str(tmp_path)], ConfigError, "model.safetensors: expected a model file or a run folder, found none"),
        ([model_files[0], model_files[0]], ConfigError, "float: two models have this name: name them, as in first="),
        ([str(features)], ConfigError, "features.safetensors: this model takes features, not sound"),
        ([str(tmp_path / "none.safetensors")], FormatError, "none.safetensors"),
    ]
    for given, kind, line in cases:
        with pytest.raises(kind, match=re.escape(line)):
            open_models(given)
