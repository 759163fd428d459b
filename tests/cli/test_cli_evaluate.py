"""``sottovoce evaluate`` and the blank penalty: a run's own, one that is given, several to choose from; n-best
lists."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from sottovoce.cli import main as cli
from sottovoce.data.prepared import load_cuts
from sottovoce.data.utterances import split_utterances
from sottovoce.decoding.nbest_files import read_nbest
from sottovoce.errors import FormatError
from sottovoce.evaluation.hypotheses import read_hypotheses
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import total
from sottovoce.ngram import Vocabulary as NgramVocabulary
from sottovoce.ngram import save_ngram, train_kneser_ney
from sottovoce.packed import load_model
from sottovoce.runtime import Recognizer
from sottovoce.training.config import parse_recipe
from sottovoce.training.scoring import nbest_split, transcribe_split

sys.path.append(str(Path(__file__).parents[1] / "training"))
from blank_model import blank_model


@pytest.fixture(scope="module")
def run_folder(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose recipe froze a penalty of 2.5."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    blank_model(tones, folder / "model.safetensors")
    recipe = parse_recipe({"name": "tones", "decoding": {"blank_penalty": 2.5}}, "test")
    settings = {"recipe": recipe.model_dump(mode="json"), "data": str(tones), "data_hash": ""}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture
def evaluate(tones: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run ``sottovoce evaluate`` on the dev tones in this process: (exit code, stdout, last line of stderr)."""

    def call(model: Path, *arguments: object) -> tuple[int, str, str]:
        command = ["sottovoce", "evaluate", model, "--data", tones, "--split", "dev", *arguments]
        monkeypatch.setattr(sys, "argv", [str(item) for item in command])
        code = 0
        try:
            cli.run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, (err.strip().splitlines() or [""])[-1]

    return call


def test_a_run_is_decoded_as_its_recipe_says_unless_told_otherwise(evaluate, run_folder: Path) -> None:
    figures = {}
    for name, model, options in (
        ("recipe", run_folder, ()),
        ("given", run_folder, ("--blank-penalty", 0)),
        ("file", run_folder / "model.safetensors", ()),
        ("file given", run_folder / "model.safetensors", ("--blank-penalty", 2.5)),
    ):
        code, out, _ = evaluate(model, "--json", *options)
        assert code == 0
        figures[name] = json.loads(out)
    assert [figures[name]["blank_penalty"] for name in figures] == [2.5, 0, 0, 2.5]
    assert figures["recipe"] == figures["file given"] != figures["file"] == figures["given"]
    _, text, _ = evaluate(run_folder)
    assert text.startswith("dev: WER ") and "blank penalty 2.5" in text
    _, text, _ = evaluate(run_folder, "--blank-penalty", 0)
    assert "blank penalty" not in text


def test_a_file_is_decoded_as_it_says_itself(evaluate, run_folder: Path, tmp_path: Path) -> None:
    model = load_model(run_folder / "model.safetensors")
    replace(model, architecture={**model.architecture, "blank_penalty": 2.5}).save(tmp_path / "tuned.safetensors")
    code, out, _ = evaluate(tmp_path / "tuned.safetensors", "--json")
    found, expected = json.loads(out), json.loads(evaluate(run_folder, "--json")[1])
    assert code == 0 and found["blank_penalty"] == 2.5
    assert {k: v for k, v in found.items() if "_bytes" not in k}.items() <= expected.items()


def test_a_folder_with_a_model_alone_is_decoded_plainly(evaluate, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes())
    code, out, _ = evaluate(tmp_path, "--json")
    assert code == 0 and json.loads(out)["blank_penalty"] == 0


def test_several_penalties_give_a_line_each_and_the_best(evaluate, run_folder: Path) -> None:
    code, out, _ = evaluate(run_folder, "--blank-penalties", "-1,0,2.5", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["blank_penalty"] for row in rows] == [-1, 0, 2.5]
    (best,) = [row for row in rows if row["best"]]
    assert best["errors"] == min(row["errors"] for row in rows)
    assert all(row["errors"] == row["substitutions"] + row["insertions"] + row["deletions"] for row in rows)
    _, plain, _ = evaluate(run_folder, "--json")
    assert {k: v for k, v in rows[2].items() if k != "best"}.items() <= json.loads(plain).items()
    code, out, _ = evaluate(run_folder, "--blank-penalties", "-1,0,2.5")
    *lines, last = out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"dev, blank penalty {p}" for p in ("-1", "0", "2.5")]
    assert all("substitutions" in line and "insertions" in line and "deletions" in line for line in lines)
    assert last.startswith(f"best: {best['blank_penalty']:g};")


def test_nbest_lists_hold_each_text_once_with_reference_speaker_and_recording(
    evaluate, run_folder: Path, tones: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lists.jsonl"
    code, out, _ = evaluate(run_folder, "--method", "beam", "--beam", 6, "--nbest-out", path, "--json")
    lists = read_nbest(path)
    assert code == 0 and json.loads(out)["errors"] == total(score_hypotheses(read_hypotheses(path))).errors
    cuts = {cut.id: cut for cut in load_cuts(tones, "dev")}
    assert [found.id for found in lists] == sorted(cuts)
    for found in lists:
        cut = cuts[found.id]
        assert (found.reference, found.recording) == (cut.supervisions[0].text, cut.recording_id)
        assert found.speaker == cut.supervisions[0].speaker
        assert len({entry.words for entry in found.entries}) == len(found.entries) <= 6
        scores = found.columns()["acoustic"].tolist()
        assert scores == sorted(scores, reverse=True) and all(score < 0 for score in scores)


def test_a_texts_score_sums_over_the_tokens_that_spell_it(run_folder: Path, tones: Path) -> None:
    model = run_folder / "model.safetensors"
    lists = nbest_split(model, tones, "dev", beam=6)
    recognizer = Recognizer(model, method="beam", beam=6)
    utterances = split_utterances(tones, "dev", recognizer.input)
    results = recognizer.nbest_batch([u.features for u in utterances])
    assert any(len({r.text for r in found}) > 1 for found in results)
    for found, of_list in zip(results, lists, strict=True):
        for entry in of_list.entries:
            same = [r.score for r in found if tuple(r.text.split()) == entry.words]
            assert entry.scores["acoustic"] == pytest.approx(np.logaddexp.reduce(same))
        assert {entry.words for entry in of_list.entries} == {tuple(r.text.split()) for r in found}
    assert [found[0] for found in results] == recognizer.transcribe_batch([u.features for u in utterances])


def test_a_language_model_in_the_search_changes_what_is_heard(
    evaluate, run_folder: Path, tones: Path, tmp_path: Path
) -> None:
    lm, heard = tmp_path / "lm.arpa", tmp_path / "heard.jsonl"
    vocabulary = NgramVocabulary.of(["do", "re", "mi", "fa"])
    sentences = vocabulary.encode([["fa", "re"]] * 6 + [["fa", "re", "mi"], ["re", "do"]])
    save_ngram(lm, train_kneser_ney(sentences, vocabulary, 2)[0])
    options = ("--method", "beam", "--lm", lm, "--lm-weight", 2, "--internal-lm-weight", 0.25)
    code, out, _ = evaluate(run_folder, *options, "--hypotheses", heard, "--json")
    found = json.loads(out)
    assert code == 0 and (found["lm"], found["lm_weight"], found["internal_lm_weight"]) == (str(lm), 2, 0.25)
    plain = transcribe_split(run_folder / "model.safetensors", tones, "dev", method="beam", blank_penalty=2.5)
    fused = transcribe_split(
        run_folder / "model.safetensors", tones, "dev",
        method="beam", blank_penalty=2.5, lm=lm, lm_weight=2.0, internal_lm_weight=0.25,
    )  # fmt: skip
    assert read_hypotheses(heard) == fused != plain
    assert "language model's weight 2;" in evaluate(run_folder, *options)[1]


def test_a_model_that_is_not_there_is_told_before_its_data(tmp_path: Path) -> None:
    for model in (tmp_path, tmp_path / "nowhere.safetensors"):
        error = CliRunner().invoke(cli.app, ["evaluate", str(model)]).exception
        assert isinstance(error, FormatError) and str(model) in str(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lm", "lm.arpa"), "a language model needs a beam search"),
        (("--method", "beam", "--lm", "nowhere.arpa"), "nowhere.arpa"),
        (("--internal-lm-weight", "0.5"), "expected --lm"),
        (("--lm-weight", "0.5"), "--lm-weight: expected --lm"),
        (("--method", "beam", "--lm", "lm.arpa", "--nbest-out", "n.jsonl"), "does not go with --lm"),
        (("--blank-penalties", "0,1", "--method", "beam", "--lm", "lm.arpa"), "does not go with --lm"),
        (("--nbest-out", "n.jsonl"), "a greedy search has one transcript: expected --method beam"),
        (("--blank-penalties", "0,1", "--nbest-out", "n.jsonl"), "does not go with --nbest-out"),
        (("--nbest-out", "nowhere/n.jsonl", "--method", "beam"), "there is no such folder"),
        (("--blank-penalties", "0,x"), "expected numbers with commas between, found 'x'"),
        (("--blank-penalties", "1,1"), "1 is given twice"),
        (("--blank-penalties", "0,1", "--split", "test"), "expected --split dev"),
        (("--blank-penalties", "0,1", "--blank-penalty", "0"), "does not go with --blank-penalty"),
        (("--blank-penalties", "0,1", "--hypotheses", "h.jsonl"), "does not go with --hypotheses"),
        (("--blank-penalties", "0", "--split", "def"), "there is no split 'def' here"),
        (("--blank-penalty", "nan"), "blank_penalty must be a finite number, found nan"),
    ],
)
def test_mistakes_are_one_line(evaluate, run_folder: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = evaluate(run_folder, *arguments)
    assert code == 2 and err.startswith("error: ") and message in err


def test_a_run_with_a_bad_recipe_is_refused(evaluate, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("recipe: {name: x, decoding: {blank_penalty: much}}\ndata: d\n")
    code, _, err = evaluate(tmp_path)
    assert code == 2 and "config.yaml: decoding.blank_penalty" in err


def test_a_single_utterance_has_no_interval(evaluate, run_folder: Path, tones: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for item in tones.iterdir():
        (data / item.name).symlink_to(item)
    (data / "dev.jsonl.gz").unlink()
    lines = gzip.decompress((tones / "dev.jsonl.gz").read_bytes()).splitlines(keepends=True)
    (data / "dev.jsonl.gz").write_bytes(gzip.compress(lines[0]))
    code, out, err = evaluate(run_folder, "--json", "--data", data)
    assert code == 0 and json.loads(out)["ci95"] is None, err
    assert "[" not in evaluate(run_folder, "--data", data)[1].split(",")[0]
