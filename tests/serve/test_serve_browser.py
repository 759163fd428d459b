"""The live page in a real browser: a dropped recording, a microphone, on a desk, on a phone, in the dark.

Screenshots go to $SOTTOVOCE_ARTEFACTS where it is set, so that whoever runs the tests can keep them.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sottovoce.frontend.audio import read_audio
from sottovoce.frontend.resample import resample
from sottovoce.runtime import LiveTranscript
from sottovoce.serve import Limits, ServedModel, make_app, make_server

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: the live page is not tried in a browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH: the live page is not tried in a browser"),
]
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
PATIENCE = 120_000  # ms
_DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], name));
  for (const kind of ['dragover', 'drop']) {
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
  }
}"""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake microphone hears, over and over."""
    noise = np.convolve(np.random.default_rng(5).normal(size=4 * 48_000), np.full(12, 1 / 12), "same")  # below 4 kHz
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    soundfile.write(path, 0.5 * noise, 48_000)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, spoken: Path) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        flags = [*_FLAGS, f"--use-file-for-fake-audio-capture={spoken}"]
        profile = tmp_path_factory.mktemp("profile")
        context = driver.chromium.launch_persistent_context(profile, executable_path=BROWSER, args=flags)
        context.set_default_timeout(PATIENCE)
        playwright.expect.set_options(timeout=PATIENCE)
        yield context
        context.close()


@contextmanager
def served(models: list[ServedModel], limits: Limits) -> Iterator[str]:
    server = make_server(make_app(models, limits), limits)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(models: list[ServedModel]) -> Iterator[str]:
    with served(models, Limits()) as address:
        yield address


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_a_dropped_recording_has_the_words_of_transcribe(
    browser: Any, address: str, models: list[ServedModel], recording: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page, said = opened(browser, address, width, scheme)
    page.evaluate(_DROP, [recording.name, base64.b64encode(recording.read_bytes()).decode()])
    page.wait_for_selector("[data-state=done]")
    keep(page, tmp_path, f"live-{width}-{scheme}.png")
    samples, rate = read_audio(recording)
    words = [model.recognizer.transcribe(samples, rate).text.split() for model in models]
    assert all(words) and page.locator("#status").text_content() == recording.name
    for model, found in zip(models, words, strict=True):
        card = page.locator(f'[data-model="{model.facts.name}"]')
        assert card.locator(".heard").text_content().split() == found
        assert card.locator(".latency").text_content() == "at the speed of speech only"
        assert card.locator(".heard").get_attribute("aria-busy") == "false"
        assert "MB" in card.locator(".bytes").text_content() and float(card.locator(".factor").text_content()) > 0
    other = page.locator('[data-model="other"]')
    assert "differ" in other.locator(".count").text_content()
    marked = other.locator("mark:not(.deleted)").all_text_contents()
    assert marked and set(marked) <= set(words[2]) and page.locator("#marks").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width and said == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_microphone_is_heard(
    browser: Any, address: str, spoken: Path, width: int, tmp_path: Path, models: list[ServedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    heard: dict[int, list[np.ndarray]] = {}
    rates = set()
    accept = LiveTranscript.accept

    def noted(self: LiveTranscript, rate: int, samples: np.ndarray) -> None:
        heard.setdefault(id(self), []).append(samples)
        rates.add(rate)
        accept(self, rate, samples)

    monkeypatch.setattr(LiveTranscript, "accept", noted)
    page, said = opened(browser, address, width, "light")
    page.get_by_role("button", name="Speak").click()
    playwright.expect(page.locator("#clock")).to_have_text(re.compile("0:0[5-9]|0:[1-5]"))
    assert page.locator("#status").text_content() == "Listening"
    keep(page, tmp_path, f"live-microphone-{width}.png")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("[data-state=done]")
    monkeypatch.undo()
    shown = [card.locator(".heard p:not(.none)").all_text_contents() for card in page.locator(".card").all()]
    latencies = page.locator(".latency").all_text_contents()
    assert said == [] and page.locator("#status").text_content() == "That was all."
    assert all(text.endswith(" ms") and float(text.split()[0]) > 0 for text in latencies)
    page.close()

    [rate], (first, *others) = rates, heard.values()
    assert len(others) == 2 and all(np.array_equal(np.concatenate(first), np.concatenate(other)) for other in others)
    wanted_sound = resample(read_audio(spoken)[0], 48_000, rate)
    parts = [wanted_sound[start : start + rate // 10] for start in range(0, len(wanted_sound) - rate // 10, rate // 5)]
    found = [similarity(np.concatenate(first), part) for part in parts]
    assert np.median(found) > 0.9, found  # all, but that a fake microphone stutters where the machine is busy
    wanted = [[text.split() for text in finals(model, rate, first)] for model in models]
    assert [[text.split() for text in texts] for texts in shown] == wanted and any(wanted)


def finals(model: ServedModel, rate: int, pieces: list[np.ndarray]) -> list[str]:
    """The segments of a live recognizer on what the page sent."""
    live, found = LiveTranscript(model.recognizer), []
    for piece in pieces:
        live.accept(rate, piece)
        found.append(live.change())
    live.finish()
    return [result.text for result, final in filter(None, [*found, live.change()]) if final]


def similarity(heard: np.ndarray, part: np.ndarray) -> float:
    """The largest correlation of a part of what was said with what was heard."""
    heard, part = heard.astype(np.float64), part.astype(np.float64)
    size = 1 << (len(heard) + len(part)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size)), size)[: len(heard) - len(part)]
    sums = np.cumsum(np.concatenate([[0.0], heard**2]))
    energy = (sums[len(part) :] - sums[: -len(part)])[: len(products)]
    return float((products / np.sqrt(energy * (part @ part) + 1e-9)).max())


def test_what_is_refused_is_shown_and_the_page_goes_on(
    browser: Any, models: list[ServedModel], recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.wav").write_text("these are no sounds")
    (tmp_path / "empty.wav").write_text("")
    (tmp_path / "large.wav").write_bytes(bytes(500_000))
    with served(models, Limits(file_bytes=400_000)) as address:
        page, said = opened(browser, address, 1280, "light")
        for name, line in (
            ("notes.wav", "notes.wav: not readable as audio"),
            ("empty.wav", "empty.wav is empty"),
            ("large.wav", "a recording has at most 0.400 MB"),
        ):
            page.set_input_files("#file", tmp_path / name)
            playwright.expect(page.locator("#status.wrong")).to_contain_text(line)
        page.set_input_files("#file", recording)
        playwright.expect(page.locator("[data-state=done] #status")).to_have_text(recording.name)
        assert said == []
        page.get_by_role("button", name="Speak").click()
        page.wait_for_selector("[data-state=listening]")
    page.wait_for_selector("[data-state=done] #status.wrong")  # the server ended
    page.close()


_GONE = """() => {
  const file = new File(['what is there'], 'gone.wav'), event = new Event('drop', {bubbles: true, cancelable: true});
  file.slice = () => ({arrayBuffer: () => Promise.reject(new DOMException('the file has gone', 'NotFoundError'))});
  event.dataTransfer = {files: [file]};
  document.body.dispatchEvent(event);
}"""


def test_a_file_that_goes_and_one_that_is_stopped_leave_their_place(
    browser: Any, models: list[ServedModel], recording: Path
) -> None:
    with served(models, Limits(connections=1)) as address:
        page, said = opened(browser, address, 1280, "light")
        page.evaluate(_GONE)
        playwright.expect(page.locator("[data-state=done] #status.wrong")).to_have_text("the file has gone")
        page.check("#paced")
        _choose(page, recording)
        button = page.get_by_role("button", name="Stop")
        playwright.expect(page.locator(".latency").first).to_contain_text(" ms")
        button.click()
        playwright.expect(page.locator("[data-state=done] #status:not(.wrong)")).to_have_text("Stopped.")
        page.uncheck("#paced")
        _choose(page, recording)
        playwright.expect(page.locator("[data-state=done] #status")).to_have_text(recording.name)
        assert said == [] and page.get_by_role("button", name="Choose a recording").is_enabled()
        page.close()


_ANSWERED = """() => document.body.dataset.state === 'done'
  || document.querySelector('.latency').textContent.endsWith(' ms')"""


def _choose(page: Any, recording: Path) -> None:
    """Once the place is free: the server hears of a close a little later than the page."""
    for _ in range(50):
        page.set_input_files("#file", recording)
        page.wait_for_function(_ANSWERED)
        if "at once" not in page.locator("#status").text_content():
            return
        page.wait_for_timeout(200)
    raise AssertionError("the place was never free")


def opened(browser: Any, address: str, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page with its models, and all that the browser says of it."""
    page, said = browser.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url[:80]))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address)
    page.wait_for_selector("[data-state=idle] .card")
    return page, said


def keep(page: Any, folder: Path, name: str) -> None:
    kept = Path(os.environ.get("SOTTOVOCE_ARTEFACTS") or folder)
    kept.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=kept / name, full_page=True)
