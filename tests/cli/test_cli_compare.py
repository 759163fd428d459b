"""``sottovoce compare`` over every form of file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sottovoce.cli import main as cli
from sottovoce.evaluation import Hypothesis, write_hypotheses

REFERENCE = {f"s{i % 8}-u{i}": f"the cat number{i} sat" for i in range(24)}
FIRST = {id: text.replace("cat", "hat") if i % 3 == 0 else text for i, (id, text) in enumerate(REFERENCE.items())}
SECOND = {id: text.replace("sat", "SAT uh") if i % 2 == 0 else text for i, (id, text) in enumerate(FIRST.items())}


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run ``sottovoce compare`` in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sottovoce", "compare", *map(str, arguments)])
        code = 0
        try:
            cli.run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err.strip()

    return call


def written(folder: Path, name: str, texts: dict[str, str]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".trn" or name == "trn":
        path.write_text("".join(f"{text} ({id})\n" for id, text in texts.items()))
    elif path.suffix in (".jsonl", ".tsv"):
        write_hypotheses(path, [Hypothesis(id, text, reference=REFERENCE[id]) for id, text in texts.items()])
    else:
        path.write_text("".join(f"{id} {text}\n" for id, text in texts.items()))
    return path


@pytest.mark.parametrize("name", ["b.trn", "b.jsonl", "b.tsv", "b.txt", "decode/text", "e/1best_recog/text", "trn"])
def test_every_form_gives_the_same_figures(compare, tmp_path: Path, name: str) -> None:
    first, second = written(tmp_path, "a.jsonl", FIRST), written(tmp_path, name, SECOND)
    given = {"decode/text": second.parent, "e/1best_recog/text": second.parent.parent}.get(name, second)
    code, out, err = compare(first, f"b={given}", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert [(s["system"], s["errors"], s["words"]) for s in report["systems"]] == [("a", 8, 96), ("b", 32, 96)]
    (difference,) = report["differences"]
    assert difference["points"] == 25.0 and difference["verdict"]["kind"] == "inferior"
    assert difference["mapsswe"]["segments"] == 16 and difference["mcnemar"]["second_only"] == 0
    top = difference["changes"][0]
    assert (top["reference"], top["first"], top["second"], top["errors"]) == (["sat"], ["sat"], ["SAT", "uh"], [0, 2])
    assert len(top["utterances"]) == 12


def test_text_rules_are_the_same_for_all(compare, tmp_path: Path) -> None:
    files = written(tmp_path, "a.trn", FIRST), written(tmp_path, "b.txt", SECOND)
    reference = written(tmp_path, "ref/text", {id: text.upper() for id, text in REFERENCE.items()})
    replacements = tmp_path / "map"
    replacements.write_text("hat\tcat\n")
    options = ("--reference", reference, "--normalize", "lower", "--drop", "uh", "--replace", replacements, "--json")
    report = json.loads(compare(*files, *options)[1])
    assert [system["errors"] for system in report["systems"]] == [0, 0]
    assert report["normalization"] == {"form": "lower", "replacements": {"hat": "cat"}, "dropped": ["uh"]}
    assert report["differences"][0]["verdict"]["kind"] == "non-inferior"
    json.dumps(report, allow_nan=False)


def test_what_is_printed(compare, tmp_path: Path) -> None:
    files = written(tmp_path, "a.trn", FIRST), written(tmp_path, "b.txt", SECOND)
    reference, speakers = written(tmp_path, "ref.txt", REFERENCE), tmp_path / "utt2spk"
    speakers.write_text("".join(f"{id} {id.split('-')[0]}\n" for id in REFERENCE))
    options = ("--reference", reference, "--speakers", speakers, "--margin", 5, "--show", 1)
    code, out, _ = compare(*files, *options)
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("a: WER 8.33 % [") and "8 errors in 96 words" in lines[0]
    assert lines[3].startswith("b against a: +25.00 points [+") and "relative +300.00 %" in lines[3]
    assert "MAPSSWE: 16 segments, Z " in lines[4] and "McNemar: sentences wrong in one only 8 and 0" in lines[5]
    assert "inferior at a margin of 5 %" in lines[6]
    assert "words changed in 12 places, 0 for the better and 12 for the worse" in lines[7]
    assert lines[8].split() == ["12", "x", "+2", "sat", "|", "sat", "|", "SAT", "uh"]
    assert [line.split()[:3] for line in lines[9:13]] == [
        ["s0-u0"], ["reference:", "the", "cat"], ["a:", "the", "HAT"], ["b:", "the", "HAT"],
    ]  # fmt: skip
    assert compare(*files, *options)[1] == out  # the same seed, the same bytes
    assert "words changed" not in compare(*files, *options, "--changes", 0)[1]


def test_missing_utterances(compare, tmp_path: Path) -> None:
    short = dict(list(FIRST.items())[:-1])
    files = written(tmp_path, "a.jsonl", FIRST), written(tmp_path, "b.trn", short)
    code, _, err = compare(*files)
    assert code == 2 and err == "error: b: reference 's7-u23': there is no hypothesis of that name"
    code, out, _ = compare(*files, "--missing-as-deletions", "--json")
    assert code == 0 and json.loads(out)["systems"][1]["deletions"] == 4


def test_mistakes_are_one_line(compare, tmp_path: Path) -> None:
    first, second = written(tmp_path, "a.jsonl", FIRST), written(tmp_path, "b.trn", SECOND)
    speakers = tmp_path / "utt2spk"
    speakers.write_text("s0-u0 s0\n")
    other = tmp_path / "other.jsonl"
    write_hypotheses(other, [Hypothesis(id, text, reference="other words") for id, text in FIRST.items()])
    for arguments, message in (
        ((first,), "compare: expected at least two systems, found 1"),
        ((second, first), "s0-u0: there is no reference beside the control's hypothesis: give --reference"),
        ((first, tmp_path), "expected a file of hypotheses, or a folder with text or 1best_recog/text, found neither"),
        ((first, tmp_path / "none.trn"), "none.trn: cannot be read: No such file or directory"),
        ((first, first, first), "expected systems with names of their own"),
        ((first, other), "other: s0-u0: expected the reference of the others, found 'other words'"),
        ((first, second, "--speakers", speakers), "utt2spk: expected a speaker of 's1-u1', found none"),
    ):
        code, out, err = compare(*arguments)
        assert code == 2 and message in err and len(err.splitlines()) == 1 and not out, err


def test_device_side_only() -> None:
    """The command runs without PyTorch."""
    import subprocess

    script = "import sottovoce.cli.compare, sys; assert not {'torch', 'lhotse', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_has_no_finite_value_is_null(compare, tmp_path: Path) -> None:
    """A draw of the bootstrap may hold no reference words, but an insertion."""
    texts = {"a.jsonl": {"a": "uh", "b": "x y"}, "b.jsonl": {"a": "", "b": "x y"}}
    for name, found in texts.items():
        write_hypotheses(
            tmp_path / name, [Hypothesis(id, text, reference={"a": "", "b": "x y"}[id]) for id, text in found.items()]
        )
    code, out, _ = compare(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--json")
    assert code == 0

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(out, parse_constant=refuse)["systems"][0]["ci95"] == [0, None]
