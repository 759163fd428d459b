import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.evaluation import Hypothesis, read_hypotheses, write_hypotheses

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


def round_trip(name: str, items: list[Hypothesis]) -> list[Hypothesis]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_hypotheses(path, items)
        return read_hypotheses(path)


@settings(max_examples=30)
@given(st.dictionaries(texts.filter(bool), st.tuples(texts, st.none() | texts, st.none() | texts, st.none() | texts)))
def test_json_lines_round_trip(items) -> None:
    hypotheses = [Hypothesis(id, *rest) for id, rest in items.items()]
    assert round_trip("hyp.jsonl", hypotheses) == hypotheses


@settings(max_examples=30)
@given(st.dictionaries(lines.filter(str.strip), lines))
def test_tabs_round_trip(items: dict[str, str]) -> None:
    hypotheses = [Hypothesis(id, text) for id, text in items.items()]
    assert round_trip("hyp.tsv", hypotheses) == hypotheses


def test_hand_written_files(tmp_path: Path) -> None:
    tabs = tmp_path / "a.tsv"
    tabs.write_bytes(b"u1\tone two\r\n\nu2\t\r\n")
    assert read_hypotheses(tabs) == [Hypothesis("u1", "one two"), Hypothesis("u2", "")]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"id": "u1", "text": "a", "speaker": "s", "reference": null}\n')
    assert read_hypotheses(str(lines)) == [Hypothesis("u1", "a", speaker="s")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("h.tsv", b"u1\ta\nu2 b\n", "h.tsv:2: expected an identifier, a tab and a text, found 'u2 b'"),
        ("h.tsv", b"\ta\n", "h.tsv:1: expected an identifier"),
        ("h.tsv", b"u1\ta\tb\n", "h.tsv:1: expected an identifier"),
        ("h.tsv", b"u1\ta\n\nu1\tb\n", "h.tsv:3: identifier 'u1' is given twice"),
        ("h.tsv", b"u1\t\xff\n", "h.tsv: cannot be read: not UTF-8 text"),
        ("h.jsonl", b'{"id": "u1", "text": "a"}\n{"id"\n', "h.jsonl:2: expected a JSON object"),
        ("h.jsonl", b"[" * 100_000, "h.jsonl:1: expected a JSON object"),
        ("h.jsonl", b"[]\n", "h.jsonl:1: expected the keys"),
        ("h.jsonl", b'{"id": "u1"}\n', "h.jsonl:1: expected the keys"),
        ("h.jsonl", b'{"id": "u1", "text": "a", "words": 3}\n', "h.jsonl:1: expected the keys"),
        ("h.jsonl", b'{"id": "u1", "text": 3}\n', "h.jsonl:1: expected text for each key"),
        ("h.jsonl", b'{"id": "u1", "text": null}\n', "h.jsonl:1: expected text for each key"),
        ("h.jsonl", b'{"id": "", "text": "a"}\n', "h.jsonl:1: expected text for each key"),
    ],
)
def test_refusals_name_file_and_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_hypotheses(path)
    assert words in str(caught.value) and str(caught.value).startswith(str(path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_hypotheses(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be written: No such file"):
        write_hypotheses(tmp_path / "none" / "h.tsv", [])


@pytest.mark.parametrize(
    ("name", "hypothesis"),
    [
        ("h.tsv", Hypothesis("u\t1", "a")),
        ("h.tsv", Hypothesis("u1", "a\nb")),
        ("h.tsv", Hypothesis("", "a")),
        ("h.jsonl", Hypothesis("", "a")),
    ],
)
def test_what_cannot_be_read_is_not_written(tmp_path: Path, name: str, hypothesis: Hypothesis) -> None:
    with pytest.raises(DataError, match="h\\."):
        write_hypotheses(tmp_path / name, [Hypothesis("u0", "fine"), hypothesis])
    assert list(tmp_path.iterdir()) == []
