"""``sottovoce ngram``: text to model, model to perplexity, one form to another."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sottovoce.ngram import load_ngram, read_text

TEXT = "a b c\na b\n\nc a b never\nb\n" * 5


@pytest.fixture
def ngram(run):
    """Run ``sottovoce ngram`` in this process: (exit code, stdout, stderr)."""
    return functools.partial(run, "ngram")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_from_a_text_to_its_perplexity(ngram, text: Path, tmp_path: Path) -> None:
    words, lm, binary = tmp_path / "words.txt", tmp_path / "lm.arpa.gz", tmp_path / "lm.safetensors"
    words.write_text("a\nb\nc\nd\n")
    code, out, _ = ngram("train", text, "--order", 3, "--vocabulary", words, "--out", lm)
    assert code == 0 and "1-grams: 7" in out and lm.exists()
    assert ngram("convert", lm, binary)[0] == 0
    code, out, _ = ngram("evaluate", binary, text, "--json")
    found = json.loads(out)
    model = load_ngram(lm)
    scores = model.score(model.vocabulary.encode(read_text([text])))
    assert found["perplexity"] == pytest.approx(np.exp(-scores.mean()))
    assert found["ci95"][0] <= found["perplexity"] <= found["ci95"][1]
    assert (found["tokens"], found["sentences"], found["unknown"], found["order"]) == (70, 20, 5, 3)
    code, out, _ = ngram("evaluate", lm, text)
    assert out.startswith(f"perplexity {found['perplexity']:.2f} [")


def test_words_of_the_text_serve_where_no_list_is_given(ngram, text: Path, tmp_path: Path) -> None:
    assert ngram("train", text, "--min-count", 6, "--prune", "0,0,1", "--out", tmp_path / "lm.arpa")[0] == 0
    assert load_ngram(tmp_path / "lm.arpa").vocabulary.words == ("<unk>", "<s>", "</s>", "b", "a", "c")


def test_a_short_text_says_what_order_it_gives(ngram, text: Path, tmp_path: Path) -> None:
    code, out, _ = ngram("train", text, "--order", 9, "--out", tmp_path / "lm.arpa")
    assert code == 0 and "the model's order is 6" in out


def test_mistakes_are_one_line_and_leave_nothing(ngram, text: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    out = tmp_path / "out" / "lm.arpa"
    out.parent.mkdir()
    for arguments, message in (
        (("train", empty, "--out", out), "found no word"),
        (("train", tmp_path / "none", "--out", out), "cannot be read"),
        (("train", text, "--out", out.with_suffix(".x")), "expected a name that ends in"),
        (("train", text, "--out", out, "--prune", "1"), "expected up to 4 that begin with 0"),
        (("train", text, "--out", out, "--prune", "a"), "--prune: expected whole numbers"),
        (("train", text, "--out", out, "--vocabulary", text), "expected a word, or a word and its count"),
        (("train", text, "--out", out, "--vocabulary", empty, "--min-count", 2), "--min-count chooses words"),
        (("evaluate", text, text), "expected \\data\\ before the end"),
        (("convert", text, out), "expected \\data\\ before the end"),
    ):
        code, _, err = ngram(*arguments)
        assert code == 2 and message in err and err.count("\n") == 1, (arguments, err)
    assert not list(out.parent.iterdir())


def test_it_runs_without_pytorch(text: Path, tmp_path: Path) -> None:
    arguments = ["sottovoce", "ngram", "train", str(text), "--out", str(tmp_path / "lm.arpa")]
    script = (
        f"import sys; sys.modules['torch'] = None; sys.argv = {arguments!r}\nfrom sottovoce.cli.main import run; run()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert (tmp_path / "lm.arpa").exists()
