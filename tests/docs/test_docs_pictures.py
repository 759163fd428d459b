"""The pictures of the docs are drawn by the script beside them, and are what the pages show."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    runpy.run_path(str(DOCS / "images" / "draw.py"))["main"](folder)
    return folder


def test_every_picture_is_drawn_committed_and_shown(drawn: Path) -> None:
    pages = "".join(path.read_text() for path in DOCS.glob("*.md"))
    for path in sorted(drawn.iterdir()):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert (DOCS / "images" / path.name).is_file() and f"(images/{path.name})" in pages


def test_committed_pictures_say_what_is_drawn(drawn: Path) -> None:
    """Words and numbers, which no processor's arithmetic changes; a picture that was not drawn anew is noticed."""
    for path in sorted(drawn.iterdir()):
        texts = [re.findall(r"<text[^>]*>([^<]*)", p.read_text()) for p in (path, DOCS / "images" / path.name)]
        assert texts[0] == texts[1]
