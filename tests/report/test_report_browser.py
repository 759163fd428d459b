"""The page in a real browser: on a desk, on a phone, in the dark, on paper, and its screenshots kept.

Screenshots go to $SOTTOVOCE_ARTEFACTS where it is set, so that whoever runs the tests can keep them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import MakeRun

from sottovoce.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: the report is not looked at in a browser"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH: the report is not looked at in a browser"),
]
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
A4 = 688  # CSS pixels between the page's margins
SECTIONS = ("systems", "size", "bits", "weights", "training", "sensitivity", "errors", "provenance")
_DRAWN = """() => [...document.querySelectorAll('svg')].filter(e => !e.closest('details:not([open])')).map(e => {
  const box = e.getBoundingClientRect();
  const marks = [...e.querySelectorAll('path, rect, circle, line')].map(m => m.getBoundingClientRect());
  return [e.getAttribute('aria-label'), box.width, box.height, marks.filter(m => m.width + m.height > 0).length];
})"""
_FAINT = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = color => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratio = (a, b) => Math.max(a, b) / Math.min(a, b);
  const cells = [...document.querySelectorAll('.heat td[style]')].map(e => getComputedStyle(e))
    .map(style => ratio(light(style.color), light(style.backgroundColor)));
  const series = [...Array(8).keys()].map(k => {
    const key = document.createElement('span'); key.className = `s${k}`; document.body.append(key);
    const found = ratio(light(getComputedStyle(key).color), paper); key.remove(); return found;
  });
  return [...cells, ...series].filter(v => v < 4.5);
}"""  # contrasts of text with its ground that are too low to read
_SIDEWAYS = """() => [...document.querySelectorAll('.utterance .scroll')]
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        profile = tmp_path_factory.mktemp("profile")
        context = driver.chromium.launch_persistent_context(profile, executable_path=BROWSER, args=_FLAGS)
        yield context
        context.close()


@pytest.fixture
def page_file(make_run: MakeRun, tmp_path: Path) -> Path:
    runs = [make_run("fp32", 32, wrong=3), make_run("s8bqat-4", 4, wrong=3), make_run("s8bqat-2", 2, wrong=20)]
    write_report([str(run) for run in runs], tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_section_and_plot_is_drawn(
    browser: Any, page_file: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page, said = opened(browser, page_file, width, scheme)
    keep(page, tmp_path, f"report-{width}-{scheme}.png")
    assert said == []
    for key in SECTIONS:
        box = page.locator(f"#{key}").bounding_box()
        assert box and box["width"] > 300 and box["height"] > 50, key
    drawn = page.evaluate(_DRAWN)
    assert len(drawn) > 15
    for label, wide, high, marks in drawn:
        assert wide > 50 and high > 10 and marks > 2, label
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_FAINT) == [] and page.evaluate(_SIDEWAYS) == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
    page.close()


def test_recordings_play_and_closed_histograms_open(browser: Any, page_file: Path) -> None:
    page, said = opened(browser, page_file, 1280, "light")
    length = page.evaluate(
        """() => new Promise((done, fail) => { const a = document.querySelector('audio'); a.onerror = fail;
        a.onloadedmetadata = () => done(a.duration); a.preload = 'metadata'; a.load(); })"""
    )
    assert 0.4 < length < 0.8 and said == []
    page.locator("#weights summary").nth(1).click()
    assert page.locator("#weights svg").last.bounding_box()["height"] > 20
    page.close()


def test_paper_has_no_players_and_nothing_beyond_its_edge(browser: Any, page_file: Path, tmp_path: Path) -> None:
    page, said = opened(browser, page_file, A4, "light")
    page.emulate_media(media="print")
    keep(page, tmp_path, "report-print.png")
    assert not page.locator("audio").first.is_visible() and page.locator("#systems table").is_visible()
    assert page.locator("#provenance .facts").first.bounding_box()["height"] > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= A4 and said == []
    page.close()


def test_dark_paper_is_white_with_dark_ink(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file, A4, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, ink[4:-1].split(","))) < 200
    page.close()


def opened(browser: Any, file: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page, and all that the browser says of it."""
    page, said = browser.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url[:80]))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(file.as_uri())
    return page, said


def keep(page: Any, folder: Path, name: str) -> None:
    kept = Path(os.environ.get("SOTTOVOCE_ARTEFACTS") or folder)
    kept.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=kept / name, full_page=True)
