"""``transcribe``: files as if they were spoken, a microphone that is none, many files at once, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from sottovoce.cli import live, main
from sottovoce.runtime import EndpointRule, EndpointRules, Recognizer

tiny = runpy.run_path(str(Path(__file__).parents[1] / "runtime" / "tiny_rnnt.py"))
RULES = ["--rule2-min-trailing-silence", "0.12", "--rule3-min-utterance-length", "2"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tiny["speaking_model"](2).save(path)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rng, t = np.random.default_rng(1), np.arange(8 * 16_000) / 16_000
    path = tmp_path / "speech.wav"
    soundfile.write(path, 0.3 * np.sin(t * (900 + 300 * np.sin(5 * t))) + rng.normal(0, 0.02, len(t)), 16_000)
    return path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[str]:
    code, out, err = run_command(capsys, monkeypatch, *arguments)
    assert code == 0, err
    return out.splitlines()


def run_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[Any, str, str]:
    monkeypatch.setattr(sys, "argv", ["sottovoce", "transcribe", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main.run()
    printed = capsys.readouterr()
    return stop.value.code or 0, printed.out, printed.err


def segments(model: Path, samples: np.ndarray, rate: int) -> list[Any]:
    rules = EndpointRules(EndpointRule(False, 2.4, 0.0), EndpointRule(True, 0.12, 0.0), EndpointRule(False, 0.0, 2.0))
    recognizer = Recognizer(model, endpoint=rules)
    stream, found = recognizer.create_stream(), []
    for chunk in np.split(samples, range(rate // 10, len(samples), rate // 10)):
        stream.accept_waveform(rate, chunk)
        recognizer.decode_stream(stream)
        if recognizer.is_endpoint(stream):
            found.append(recognizer.get_result(stream))
            recognizer.reset(stream)
    stream.input_finished()
    recognizer.decode_stream(stream)
    return [result for result in [*found, recognizer.get_result(stream)] if result.text]


def test_a_file_is_transcribed_utterance_by_utterance(
    model: Path, recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, rate = soundfile.read(recording, dtype="float32")
    expected = segments(model, samples, rate)
    assert len(expected) > 2
    lines = run(capsys, monkeypatch, model, recording, "--stream", *RULES)
    assert lines == [f"{recording}\t{result.words[0].start:.2f}\t{result.text}" for result in expected]
    events = [json.loads(line) for line in run(capsys, monkeypatch, model, recording, "--stream", "--json", *RULES)]
    finals = [event for event in events if event["final"]]
    assert [event["text"] for event in finals] == [result.text for result in expected]
    assert finals[1]["words"][0]["start"] == expected[1].words[0].start
    partials = [event for event in events if not event["final"]]
    assert len(partials) > len(finals)
    assert all((a["segment"], a["text"]) != (b["segment"], b["text"]) for a, b in itertools.pairwise(partials))


def test_a_terminal_shows_what_was_said_so_far(
    model: Path, recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "get_terminal_size", lambda: os.terminal_size((10, 24)))
    monkeypatch.setattr(live.sys, "stdout", Terminal())
    recognizer = Recognizer(model)
    samples, rate = soundfile.read(recording, dtype="float32")
    live.show("x", live.live_results(recognizer, rate, live.pieces(samples, rate)), None)
    shown = live.sys.stdout.text.split("\r\x1b[K")  # type: ignore[attr-defined]
    assert shown[0] == "" and all(len(text) <= 9 for text in shown[1:-1])
    assert shown[-1].startswith("x\t") and shown[-1].endswith("\n") and len(shown) > 5


class Terminal:
    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def test_realtime_waits_for_the_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    times = []
    for chunk in live.at_the_speed_of_sound(live.pieces(np.zeros(8_500, np.float32), 8_000), 8_000):
        times.append((len(chunk), round(now[0], 6)))
        now[0] += 0.25 if len(times) == 3 else 0.01  # once, decoding takes longer than the sound
    assert times == [(800, 0.1), (800, 0.2), (800, 0.3), (800, 0.55), (800, 0.56), (800, 0.6), (800, 0.7), (800, 0.8),
                     (800, 0.9), (800, 1.0), (500, 1.0625)]  # fmt: skip


class FakeDevice:
    """An input device that gives a recording and then presses ctrl-c."""

    def __init__(self, samples: np.ndarray, overflow: bool) -> None:
        self.samples, self.overflow, self.open = samples, overflow, False

    def __enter__(self) -> FakeDevice:
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def read(self, size: int) -> tuple[np.ndarray, bool]:
        assert self.open
        chunk, self.samples = self.samples[:size], self.samples[size:]
        if not len(self.samples):
            os.kill(os.getpid(), signal.SIGINT)
        return chunk[:, None], self.overflow


def fake_sounddevice(samples: np.ndarray, rate: int, overflow: bool = False, error: str | None = None) -> ModuleType:
    module: Any = ModuleType("sounddevice")

    class PortAudioError(Exception):
        pass

    def query_devices(kind: str) -> dict[str, float]:
        assert kind == "input"
        if error:
            raise PortAudioError(error)
        return {"default_samplerate": float(rate)}

    def open_stream(**options: Any) -> FakeDevice:
        assert options == {"samplerate": rate, "channels": 1, "dtype": "float32"}
        return FakeDevice(samples, overflow)

    module.PortAudioError, module.query_devices, module.InputStream = PortAudioError, query_devices, open_stream
    return module


@pytest.mark.parametrize("overflow", [False, True])
def test_a_microphone_is_read_until_ctrl_c(
    model: Path, recording: Path, overflow: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = soundfile.read(recording, dtype="float32")[0]
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(samples, 44_100, overflow))
    before = signal.getsignal(signal.SIGINT)
    code, out, err = run_command(capsys, monkeypatch, model, "--microphone", *RULES)
    assert code == 0 and signal.getsignal(signal.SIGINT) == before
    expected = segments(model, samples, 44_100)
    assert out.splitlines() == [f"microphone\t{r.words[0].start:.2f}\t{r.text}" for r in expected] and expected
    assert err.count("sound was lost") == int(overflow)


def test_no_microphone_is_one_clear_line(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, out, err = run_command(capsys, monkeypatch, model, "--microphone")
    assert (code, out, err.count("\n")) == (2, "", 1) and "pip install 'sottovoce[microphone]'" in err
    silent = fake_sounddevice(np.zeros(0), 16_000, error="Error querying\ndevice -1")
    monkeypatch.setitem(sys.modules, "sounddevice", silent)
    code, out, err = run_command(capsys, monkeypatch, model, "--microphone")
    assert (code, out, err) == (2, "", "error: microphone: Error querying device -1\n")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run_command(capsys, monkeypatch, model, "--microphone")
    assert (code, out) == (2, "") and err.startswith("error: microphone: PortAudio library not found: install")


@pytest.mark.parametrize(("options", "message"), [
    ([], "expected audio files or folders, or else --microphone"),
    (["speech.wav", "--microphone"], "found both"),
    (["speech.wav", "--realtime"], "--realtime needs --stream"),
    (["speech.wav", "--stream", "--method", "beam", "--nbest", "2"], "live transcription has one transcript"),
    (["speech.wav", "--hotwords", "none.txt"], "none.txt: expected a text file of hotwords"),
    (["speech.wav", "--hotwords", "bytes.txt"], "bytes.txt: expected a text file of hotwords"),
    (["speech.wav", "--hotwords", "words.txt"], "hotwords need a beam search"),
    (["speech.wav", "--hotwords", "words.txt", "--method", "beam", "--hotwords-score", "-1"], "hotwords_score"),
    (["speech.wav", "--hotwords", "strange.txt", "--method", "beam"], "hotword 'Zürich': the model's tokenizer has no"),
    (["speech.wav", "--method", "beam", "--hotwords-score", "2"], "--hotwords-score needs --hotwords"),
    (["speech.wav", "--rule2-min-trailing-silence", "2"], "end live utterances: expected --stream"),
    (["speech.wav", "--rule1-min-trailing-silence", "-1"], "rule1: endpoint rule: min_trailing_silence must be"),
])  # fmt: skip
def test_options_that_cannot_be_used_are_refused(
    model: Path, recording: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(recording.parent)
    Path("words.txt").write_text("one\n\ntwo :2\n")
    Path("strange.txt").write_text("one\nZürich\n")
    Path("bytes.txt").write_bytes(b"\xff\xfe\x00")
    code, out, err = run_command(capsys, monkeypatch, model, *options)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err


def test_hotwords_come_from_a_file(
    model: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words.txt").write_text("seven five :9\n")
    [plain] = run(capsys, monkeypatch, model, recording, "--method", "beam")
    [found] = run(capsys, monkeypatch, model, recording, "--method", "beam", "--hotwords", tmp_path / "words.txt")
    assert "seven five" in found and "seven five" not in plain


def bad_files(folder: Path, good: Path) -> dict[str, bytes]:
    content = good.read_bytes()
    nan, stereo = folder / "nan", folder / "stereo"
    soundfile.write(nan, np.array([0.1, np.nan]), 16_000, subtype="FLOAT", format="WAV")
    soundfile.write(stereo, np.full((800, 2), 1e12), 16_000, subtype="FLOAT", format="WAV")
    return {
        "empty.wav": b"",
        "text.wav": b"this is no sound\n" * 20,
        "header.wav": content[:44],
        "half-a-header.wav": content[:20],
        "nan.wav": nan.read_bytes(),
        "loud.wav": stereo.read_bytes(),
        "rate.wav": content[:24] + b"\x05\0\0\0" + content[28:],
        "noise.flac": bytes(range(256)) * 8,
    }


@pytest.mark.parametrize("live_option", [[], ["--stream"]])
def test_bad_files_are_named_in_one_line_and_the_others_are_transcribed(
    model: Path, recording: Path, tmp_path: Path, live_option: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    again = tmp_path / "again.wav"
    again.write_bytes(recording.read_bytes())
    for name, content in bad_files(tmp_path, recording).items():
        (tmp_path / name).write_bytes(content)
        code, out, err = run_command(capsys, monkeypatch, model, recording, tmp_path / name, again, *live_option)
        assert code == 2 and err.count("\n") == 1 and str(tmp_path / name) in err, (name, err)
        assert out.startswith(f"{recording}\t") and f"{again}\t" in out


def test_a_file_cut_short_and_silence_have_a_result(
    model: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut.wav").write_bytes(recording.read_bytes()[:50_001])
    soundfile.write(tmp_path / "silence.wav", np.zeros(48_000), 48_000)
    soundfile.write(tmp_path / "one.wav", np.zeros(1), 192_000)
    for name in ("cut.wav", "silence.wav", "one.wav"):
        for options in ([], ["--stream"]):
            code, out, err = run_command(capsys, monkeypatch, model, tmp_path / name, *options)
            assert code == 0 and not err and out.count("\n") <= 2


def test_many_files_are_transcribed_as_each_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "many"
    folder.mkdir()
    for i in range(37):
        rate = int(rng.choice([8_000, 16_000, 44_100]))
        soundfile.write(folder / f"{i:02}.wav", 0.2 * rng.normal(size=rng.integers(1, 2 * rate)), rate)
    lines = run(capsys, monkeypatch, model, folder, "--method", "beam", "--beam", 2)
    recognizer = Recognizer(model, method="beam", beam=2)
    expected = []
    for path in sorted(folder.iterdir()):
        samples, rate = soundfile.read(path, dtype="float32")
        expected.append(f"{path}\t{recognizer.transcribe(samples, rate).text}")
    assert lines == expected
