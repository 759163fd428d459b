"""The form of the Hugging Face Hub: a folder with the packed file, its evidence, and a model card made of both.

``huggingface_hub`` is imported only where something is downloaded or uploaded; nothing here needs PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Any

from sottovoce.errors import ExportError
from sottovoce.export.model_card import MARK, Evidence, model_card
from sottovoce.packed import PackedModel, load_model
from sottovoce.packed.replacing import replacing

FILE, CARD, RESULTS, PLAN = "model.safetensors", "README.md", "results.json", "plan.json"

Results = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]


def save_pretrained(
    model: PackedModel | str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    results: Results | None = None,
    license: str | None = None,
    language: Sequence[str] = (),
    dataset: str | None = None,
    base_model: str | None = None,
) -> Path:
    """Write ``model.safetensors``, ``README.md`` (the card) and, where there are any, ``results.json`` and
    ``plan.json`` to a folder, and return it.

    model: a packed model, its file, or a run folder; beside a file, ``plan.json`` is taken along, and ``results.json``
    there (or, for an arm of a comparison, of the comparison) is the evidence. results: other evidence, as a file, a
    row or a list of rows, each with the keys of ``evaluation.ResultRow`` or of ``sottovoce evaluate --json``. The rest
    goes into the card's metadata; dataset: its name on the Hub. A README.md that was not made here is left as it is.

    Raises FormatError for a file that is no packed model, ExportError for results that cannot be read.
    """
    folder = Path(folder)
    source = None if isinstance(model, PackedModel) else _file_of(Path(model))
    packed = model if isinstance(model, PackedModel) else load_model(source or "")
    rows = _rows(results) if results is not None else _found_results(source)
    _make_folder(folder)
    if source is None:
        packed.save(folder / FILE)
    elif source.resolve() != (folder / FILE).resolve():
        _copy(source, folder / FILE)
    if source is not None and (source.parent / PLAN).is_file() and source.parent.resolve() != folder.resolve():
        _copy(source.parent / PLAN, folder / PLAN)
    if rows:
        _write(folder / RESULTS, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    metadata = {"license": license, "language": list(language), "base_model": base_model}
    title = name or folder.resolve().name
    evidence = Evidence(rows, (folder / FILE).stat().st_size, dataset)
    card = folder / CARD
    if not card.exists() or MARK in card.read_text(encoding="utf-8", errors="replace"):
        _write(card, model_card(packed, title, evidence, {k: v for k, v in metadata.items() if v}))
    return folder


def from_pretrained(
    source: str | Path, *, revision: str | None = None, token: str | None = None, cache_dir: str | Path | None = None
) -> PackedModel:
    """The packed model of a folder, or of a repository of the Hub by its id (``owner/name``).

    Only ``model.safetensors`` is read, and only its values: nothing in a repository is executed. Raises FormatError
    for a file that cannot be trusted, ExportError where the repository or the file in it cannot be had.
    """
    path = Path(source)
    if path.is_dir():
        return load_model(path / FILE)
    hub = _hub()
    found = _asking(
        f"{source}: no folder, and not to be had from the Hub",
        lambda: hub.hf_hub_download(str(source), FILE, revision=revision, token=token, cache_dir=cache_dir),
    )
    return load_model(found)


def push_to_hub(
    model: PackedModel | str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload a model packed by sottovoce",
    **card: Any,
) -> str:
    """Make the repository if there is none, upload what ``save_pretrained`` writes, and return the commit's address.

    card: further arguments of ``save_pretrained``. Raises ExportError where the Hub refuses, and what
    ``save_pretrained`` raises.
    """
    hub = _hub()
    with TemporaryDirectory() as temporary:
        folder = save_pretrained(model, temporary, **{"name": repo_id.rpartition("/")[2], **card})
        api = hub.HfApi(token=token)

        def upload() -> str:
            made = api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=made.repo_id, folder_path=folder, commit_message=commit_message, revision=revision
            )
            return str(commit.commit_url)

        return _asking(f"{repo_id}: cannot be uploaded", upload)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ExportError("the Hub wants huggingface_hub: pip install 'sottovoce[hub]'") from error
    return huggingface_hub


def _asking(what: str, ask: Callable[[], str]) -> str:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # Its own errors are also those of the library that carries its requests, whose lost connections are not its own.
    kinds: Any = (*HfHubHTTPError.__bases__, OSError, ValueError, EntryNotFoundError)
    try:
        return ask()
    except kinds as error:
        raise ExportError(f"{what}: {' '.join(str(error).split())}") from error


def _file_of(model: Path) -> Path:
    return model / FILE if model.is_dir() else model


def _found_results(file: Path | None) -> list[dict[str, Any]]:
    """Rows beside the file, or of the comparison that it is an arm of (``OUT/arms/NAME``)."""
    if file is None:
        return []
    run = file.resolve().parent
    places = [run / RESULTS, *([run.parent.parent / RESULTS] if run.parent.name == "arms" else [])]
    return next((_rows(place) for place in places if place.is_file()), [])


def _rows(results: Results) -> list[dict[str, Any]]:
    found: Any = _read_results(Path(results)) if isinstance(results, str | Path) else results
    rows = [found] if isinstance(found, Mapping) else list(found)
    for row in rows:
        if not isinstance(row, Mapping) or not {"wer", "perplexity"} & row.keys():
            raise ExportError(f"results: expected rows with a wer or a perplexity, found {str(row)[:80]}")
    return [dict(row) for row in rows]


def _read_results(path: Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: expected results as JSON ({error})") from error
    if not isinstance(found, list | dict):
        raise ExportError(f"{path}: expected a row of results or a list of them, found {str(found)[:80]}")
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder}: expected a folder that can be written ({error.strerror})") from error


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream, replacing(target) as out:
        copyfileobj(stream, out)


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())
