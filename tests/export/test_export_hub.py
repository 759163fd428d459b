"""The Hub's form of a model: a folder with a card that holds the evidence. No test touches the network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

import sottovoce as sv
from sottovoce.errors import ExportError, FormatError
from sottovoce.packed import PackedMatrix, PackedModel, load_model, make_band


def packed(kind: str | None = None) -> PackedModel:
    rng = np.random.default_rng(0)
    levels, scale = np.arange(-8, 8, dtype=np.int8), np.ones(1, np.float16)
    bands = []
    for start, stop in ((0, 3), (3, 8)):
        codes = rng.integers(0, 16, (stop - start, 10), dtype=np.uint8)
        bands.append(make_band(codes, levels, scale, 4, "any", "tensor", start))
    tensors = {"w": PackedMatrix((8, 10), tuple(bands)), "b": np.ones(8, np.float32)}
    return PackedModel(tensors, architecture={"type": kind} if kind else {}, provenance={"scheme": "s8bqat", "bits": 4})


ROW = {"system": "s8bqat", "bits": 4, "split": "test", "wer": 12.345, "ci95": [11.0, 13.5], "errors": 5, "words": 1234,
       "file_bytes": 0, "model_bytes": 999, "mapsswe_p": None, "verdict": "non-inferior"}  # fmt: skip
CONTROL = {**ROW, "system": "fp32", "bits": 32, "wer": 12.0, "file_bytes": 7, "mapsswe_p": 0.5}


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def run_folder(folder: Path) -> tuple[Path, int]:
    """An arm's run folder with the comparison's results two floors up; returns it and its file's size."""
    run = folder / "arms" / "s8bqat-4"
    run.mkdir(parents=True)
    packed("rnnt").save(run / "model.safetensors")
    (run / "plan.json").write_text("{}")
    size = (run / "model.safetensors").stat().st_size
    (folder / "results.json").write_text(json.dumps([CONTROL, {**ROW, "file_bytes": size}]))
    return run, size


def test_a_runs_evidence_is_in_its_card(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path)
    out = sv.save_pretrained(
        run, tmp_path / "hub" / "digits", license="apache-2.0", language=("en",), dataset="me/data"
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "model.safetensors",
        "plan.json",
        "results.json",
    ]
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    head, body = card_of(out)
    assert head["library_name"] == "sottovoce" and head["pipeline_tag"] == "automatic-speech-recognition"
    assert (head["license"], head["language"], head["datasets"]) == ("apache-2.0", ["en"], ["me/data"])
    (index,) = head["model-index"]
    (measured,) = index["results"]  # of this file alone, not of the control
    assert index["name"] == "digits" and measured["metrics"] == [{"type": "wer", "value": 12.345}]
    assert measured["dataset"] == {"name": "me/data", "type": "me/data", "split": "test"}
    table = [line for line in body.splitlines() if line.startswith("|")]
    assert "| fp32 | 32 | test | 12.00 | 11.00 to 13.50 | 5 | 1,234 | 999 | 0.500 | non-inferior |" in table
    assert any(line.startswith("| **s8bqat** | **4** | **test** | **12.35** |") for line in table)
    assert "| 4 | 80 |" in table and "| float | 8 |" in table
    assert "How it was made: bits 4, scheme s8bqat." in body and "Recognizer(sv.from_pretrained(" in body


def test_without_results_nothing_is_claimed(tmp_path: Path) -> None:
    head, body = card_of(sv.save_pretrained(packed(), tmp_path / "mine"))
    assert "model-index" not in head and "pipeline_tag" not in head
    assert "nothing is claimed" in body and "into=model" in body and body.strip().startswith("# mine")
    assert not (tmp_path / "mine" / "results.json").exists()


def test_perplexities_are_evidence_too(tmp_path: Path) -> None:
    figures = {"corpus": "swda", "split": "test", "perplexity": 61.239, "words": 5000, "file_bytes": 1}
    head, body = card_of(sv.save_pretrained(packed("lstm-lm"), tmp_path / "lm", results=figures))
    assert "| swda | test | 61.24 | 5,000 |" in body and "No row is of this very file." in body
    assert "model-index" not in head and "LanguageModelScorer" in body


def test_what_was_saved_loads_again(tmp_path: Path) -> None:
    model = packed()
    folder = sv.save_pretrained(model, tmp_path / "mine")
    assert np.array_equal(sv.from_pretrained(folder).decode("w"), model.decode("w"))
    sv.save_pretrained(folder, folder, results=ROW)  # in place: the file stays, the card is made anew
    assert "12.35" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("# written by hand\n")
    sv.save_pretrained(folder, folder)
    assert (folder / "README.md").read_text() == "# written by hand\n"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        sv.save_pretrained(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExportError, match="expected rows with a wer or a perplexity"):
        sv.save_pretrained(packed(), tmp_path / "out", results={"cer": 3})
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ExportError, match=r"broken\.json: expected results as JSON"):
        sv.save_pretrained(packed(), tmp_path / "out", results=tmp_path / "broken.json")
    assert not (tmp_path / "out").exists()


class Api:
    """Stands for the Hub: remembers what it is asked, and what lies in the folder while it is."""

    calls: ClassVar[list[tuple[str, Any]]] = []
    lost: ClassVar[type[Exception]] = OSError

    def __init__(self, token: str | None = None) -> None:
        Api.calls.append(("token", token))

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        Api.calls.append(("create", (repo_id, private, exist_ok)))
        if repo_id.startswith("unreachable/"):
            raise Api.lost("no route\nto host")
        if repo_id.startswith("forbidden/"):
            raise OSError("403\nForbidden")
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str, revision: str | None) -> Any:
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        Api.calls.append(("upload", (repo_id, files, revision)))
        return SimpleNamespace(commit_url=f"https://example.org/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    Api.calls = []
    monkeypatch.setattr(module, "HfApi", Api)
    return module


def test_pushing_uploads_the_folder(tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, size = run_folder(tmp_path)
    url = sv.push_to_hub(run, "me/digits", private=True, token="secret", license="mit")
    assert url == "https://example.org/me/digits/commit/1"
    assert Api.calls[:2] == [("token", "secret"), ("create", ("me/digits", True, True))]
    repo, files, revision = Api.calls[2][1]
    assert (repo, revision) == ("me/digits", None) and len(files["model.safetensors"]) == size
    assert b"license: mit" in files["README.md"] and b"# digits" in files["README.md"]
    assert not any(b"secret" in content for content in files.values())
    with pytest.raises(ExportError, match=r"^forbidden/x: cannot be uploaded: 403 Forbidden$"):
        sv.push_to_hub(packed(), "forbidden/x")
    transport = hub.errors.HfHubHTTPError.__bases__[0]  # the library that carries requests names lost connections so
    monkeypatch.setattr(Api, "lost", transport)
    with pytest.raises(ExportError, match=r"^unreachable/x: cannot be uploaded: no route to host$"):
        sv.push_to_hub(packed(), "unreachable/x")


def test_a_repositorys_file_is_downloaded(tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packed().save(tmp_path / "model.safetensors")

    def download(repo_id: str, filename: str, **options: Any) -> str:
        if repo_id != "me/digits":
            raise hub.errors.EntryNotFoundError("404 not there")
        assert options["revision"] == "v1"
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    found = sv.from_pretrained("me/digits", revision="v1")
    assert np.array_equal(found.decode("w"), load_model(tmp_path / "model.safetensors").decode("w"))
    with pytest.raises(ExportError, match=r"^me/none: no folder, and not to be had from the Hub: 404 not there$"):
        sv.from_pretrained("me/none")


def test_folders_need_no_package_of_another_engine(tmp_path: Path) -> None:
    packed().save(tmp_path / "model.safetensors")
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'sherpa_onnx', 'huggingface_hub'))\n"
        "import sottovoce as sv\n"
        f"sv.from_pretrained(sv.save_pretrained({str(tmp_path / 'model.safetensors')!r}, {str(tmp_path / 'out')!r}))\n"
        "try: sv.push_to_hub(sv.from_pretrained(" + repr(str(tmp_path / "out")) + "), 'me/x')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'sottovoce[hub]'" in done.stdout
