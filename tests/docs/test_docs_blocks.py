"""Every code block of README and docs runs as it stands, page by page, in one folder; what cannot run here says why,
and is at least code that compiles and commands whose options exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from doc_blocks import DOCS, PAGES, ROOT, Block, blocks_of, furnish, given, smaller

import sottovoce
from sottovoce.cli import main as cli

ALL = [(page, block) for page in PAGES for block in blocks_of(page)]
PLACES = [f"{Path(page).name}:{block.line}" for page, block in ALL]
LANGUAGES = {"python", "bash", "console", "yaml", "json", "c", "text"}


def test_every_page_is_known() -> None:
    assert {path.name for path in DOCS.glob("*.md")} == set(PAGES[1:])


def test_the_reference_has_every_public_name() -> None:
    documented = set(re.findall(r"^::: sottovoce\.(?:\w+\.)*(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert {*sottovoce.__all__, "TrainerCompressionCallback"} <= documented


@pytest.mark.parametrize(("page", "block"), ALL, ids=PLACES)
def test_a_block_is_sound(page: str, block: Block) -> None:
    """Whether it runs or not: the language is one that is looked at, a reason is given, the syntax holds."""
    assert block.language in LANGUAGES
    assert block.runs != bool(block.reason)
    if block.language == "python":
        compile(block.text, f"{page}:{block.line}", "exec")
    if block.language == "json" and "..." not in block.text:
        json.loads(block.text)
    if block.language == "yaml":
        yaml.safe_load(block.text)
    if block.language in ("bash", "console"):
        for words in block.commands():
            if words[0] == "sottovoce":
                parse(words[1:])


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("block", [block for _, block in ALL if block.language == "c"])
def test_c_compiles(block: Block, tmp_path: Path) -> None:
    include, _, body = block.text.partition("\n")
    source = tmp_path / "block.c"
    source.write_text(f"#include <stdio.h>\n{include}\nvoid f(const float* samples, size_t count) {{{body}}}\n")
    command = ["cc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only", f"-I{ROOT}/native/include", str(source)]
    subprocess.run(command, check=True)


def test_few_blocks_are_not_run() -> None:
    runnable = [block for _, block in ALL if block.language in ("python", "bash", "console")]
    left = [block for block in runnable if not block.runs]
    assert len(left) <= len(runnable) / 3, [block.reason for block in left]


def parse(words: list[str]) -> None:
    """Raises a usage error (typer's own, or click's) for a command, an option or a value that does not exist; runs
    nothing."""
    command: Any = typer.main.get_command(cli.app)
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(typer.Context(command), words)
    command.make_context(name, list(words))


@pytest.mark.parametrize(
    "words", ["compress r --bit 5", "compress r --bits 9", "evaluat r", "search r --metric entropy", "train fsdd"]
)
def test_a_wrong_command_is_noticed(words: str) -> None:
    with pytest.raises(Exception) as caught:
        parse(words.split())
    assert getattr(caught.value, "exit_code", None) == 2


class Reader:
    """Goes through the pages in order, in one folder, as far as it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = 0
        furnish(folder)
        for name in ("recipes", "constraints.txt", "examples", "native"):
            (folder / name).symlink_to(ROOT / name)

    def read(self, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(self.folder)
        monkeypatch.setenv("COLUMNS", "200")
        while self.at <= PAGES.index(page):
            self.at += 1
            self._run(PAGES[self.at - 1], monkeypatch)

    def _run(self, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
        names: dict[str, Any] = {"__name__": "__main__"}
        for block in blocks_of(page):
            where = f"{page}:{block.line}"
            if not block.runs:
                continue
            if block.title:
                (self.folder / block.title).write_text(block.text)
            elif block.language == "python":
                names = {**given(), **{k: v for k, v in names.items() if k not in given()}}
                exec(compile(block.text, where, "exec"), names)
            elif block.language in ("bash", "console"):
                for words in block.commands():
                    self._command(words, where, monkeypatch)

    def _command(self, words: list[str], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert words[0] == "sottovoce", f"{where}: {words[0]} cannot be run here: mark the block"
        monkeypatch.setattr(sys, "argv", ["sottovoce", *smaller(words[1:])])
        try:
            cli.run()
        except SystemExit as stop:
            assert not stop.code, f"{where}: {' '.join(words)}: exit code {stop.code}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    yield Reader(tmp_path_factory.mktemp("reader"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: Path(page).stem)
def test_a_page_runs(page: str, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.read(page, monkeypatch)
