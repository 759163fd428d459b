"""``sottovoce serve``: a server of its own, and what is refused before one begins."""

from __future__ import annotations

import json
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sottovoce.runtime import Recognizer

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    tiny["speaking_model"](2).save(path)
    return path


@contextmanager
def served(model: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that the command prints, with its process."""
    command = [sys.executable, "-c", "from sottovoce.cli.main import run; run()", "serve", str(model), "--port", "0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith("small: 4.") and lines[1].startswith("listening at http://"), process.stderr
        yield lines[1].split()[-1], process
    finally:
        process.kill()
        process.communicate()


def test_a_program_sends_sound_and_ctrl_c_ends_the_server(model: Path) -> None:
    samples = (3_000 * np.random.default_rng(0).normal(size=32_000)).astype(np.int16)
    with served(model, "--max-message-kib", "32") as (address, process):
        url = address.replace("http", "ws") + "live"
        assert address.startswith("http://127.0.0.1:")
        with connect(url) as client:
            assert json.loads(client.recv())["limits"]["message_bytes"] == 32_768
            client.send(
                json.dumps({"type": "samples", "version": 1, "rate": 16_000, "encoding": "int16", "endpoints": False})
            )
            for start in range(0, len(samples), 1_600):
                client.send(samples[start : start + 1_600].tobytes())
            client.send(json.dumps({"type": "end"}))
            said = [json.loads(message) for message in client]
        assert said[-1]["type"] == "done" and said[-2]["final"]
        assert said[-2]["text"] == Recognizer(model).transcribe(samples, 16_000).text != ""
        with connect(url) as client:
            client.send(bytes(100_000))  # more than the server reads at all
            with pytest.raises(ConnectionClosed, match="1009"):
                for _ in range(3):
                    client.recv()
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, origin="http://elsewhere.example").__enter__()  # type: ignore[arg-type]
        with connect(url):  # open while the server ends
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in err


def test_other_addresses_are_warned_of(model: Path) -> None:
    with served(model, "--host", "0.0.0.0") as (address, process):
        assert address.startswith("http://localhost:")
        with urlopen(address + "models") as answer:  # it has begun: before, a signal finds no handler of the server's
            assert json.load(answer)["type"] == "ready"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert err.startswith("warning: 0.0.0.0 is not this machine alone") and err.count("\n") == 1


def test_what_cannot_be_served_is_one_line(run, model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("serve", model, "--port", port)
    assert (code, out) == (2, "") and err.startswith(f"error: 127.0.0.1, port {port}: Address already in use: choose")
    for arguments, line in (
        ((tmp_path / "none.safetensors",), "none.safetensors: expected a model file or a run folder, found none"),
        ((model, model), f"small: two models have this name: name them, as in first={model}"),
        ((f"a={model}", f"a={model}"), f"a: two models have this name: name them, as in first={model}"),
        ((model, "--host", "no.such.host.invalid"), "--host no.such.host.invalid: "),
        ((model, "--host", "192.0.2.1", "--port", "0"), "requested address: choose another with --host"),
    ):
        code, out, err = run("serve", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1) and line in err, err


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "websockets"])
def test_the_extra_is_named_where_it_is_missing(
    run, model: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("sottovoce.serve", "sottovoce.cli.serve"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    code, out, err = run("serve", model)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"this command needs {missing}; install it with: pip install 'sottovoce[serve]'" in err


def test_help_has_examples(run) -> None:
    code, out, _ = run("serve", "--help")
    assert code == 0 and "sottovoce serve runs/fsdd runs/fsdd-8bit runs/fsdd-5bit" in out
