"""Files of n-best lists.

Our own form is JSON lines, an object an utterance, the form of files of hypotheses with one key more:
``{"id": "u1", "text": "best words", "nbest": [{"text": "best words", "scores": {"acoustic": -51.5, "lm": -9.25}}]}``
and, where they are known, ``"speaker"``, ``"recording"`` and ``"reference"``; scores are natural log-probabilities,
unweighted. What ``transcribe --json --nbest`` prints is read too: ``"file"`` for the id and one ``"score"``.

Kaldi's layout is that of its n-best rescoring scripts (after ``lattice-to-nbest`` and ``nbest-to-linear``): a folder
with ``words_text``, ``acwt`` and ``lmwt.nolm`` with ``lmwt.lmonly``, or ``lmwt`` alone; keys are ``utterance-rank``,
values costs. ESPnet's is a folder of ``1best_recog``, ``2best_recog``, ... with ``text`` and ``score`` each, or of such
folders (``output.1``, ``logdir/output.1``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ACOUSTIC, LM
from sottovoce.decoding.skipped import Skipped, keep_good
from sottovoce.decoding.text_files import finite, read_lines, read_table, write_text
from sottovoce.errors import DataError

SCORE = "score"
GRAPH = "graph"  # Kaldi's graph cost without its language model
_KNOWN = ("speaker", "recording", "reference")
_RANKED = re.compile(r"(.+)-(\d+)")
_BEST = re.compile(r"(\d+)best_recog")
_TENSOR = re.compile(r"tensor\(([^,)]+).*\)")


def read_nbest(path: str | Path, *, skipped: list[Skipped] | None = None) -> list[NBestList]:
    """Read JSON lines, or a folder in Kaldi's or ESPnet's layout.

    A list that cannot be used (empty, scores missing or not finite) is noted in ``skipped``, or raises DataError naming
    file and line without it.
    """
    path = Path(path)
    if not path.is_dir():
        return _read_json(path, skipped)
    if (path / "words_text").exists():
        return _read_kaldi(path, skipped)
    found = sorted(folder for folder in path.rglob("*best_recog") if _BEST.fullmatch(folder.name))
    if found:
        return _read_espnet(path, found, skipped)
    raise DataError(f"{path}: expected Kaldi's words_text or ESPnet's 1best_recog in this folder, found neither")


def _read_json(path: Path, skipped: list[Skipped] | None) -> list[NBestList]:
    def maker(number: int, line: str) -> Callable[[], NBestList]:
        return lambda: _from_json(f"{path}:{number}", line)

    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line.strip()]
    lists = list(keep_good(((f"line {number}", maker(number, line)) for number, line in lines), skipped))
    _check_once(path, lists)
    return lists


def _from_json(where: str, line: str) -> NBestList:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected a JSON object, found {line[:60]!r}") from error
    id = (value.get("id") or value.get("file")) if isinstance(value, dict) else None
    if not isinstance(id, str) or not id:
        raise DataError(f"{where}: expected an object with an id and an n-best list, found {line[:60]!r}")
    items = value.get("nbest", [value] if SCORE in value else None)
    if not isinstance(items, list):
        raise DataError(f"{where}: {id}: expected a list as nbest, found {items!r:.40}")
    if not items:
        raise DataError(f"{where}: {id}: expected an n-best list with entries, found none")
    known = {key: value[key] for key in _KNOWN if value.get(key) is not None}
    if not all(isinstance(text, str) for text in known.values()):
        raise DataError(f"{where}: {id}: expected texts as {', '.join(_KNOWN)}, found others")
    return _named(where, id, [_entry_from_json(f"{where}: {id}", item) for item in items], known)


def _entry_from_json(where: str, item: Any) -> NBestEntry:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise DataError(f"{where}: expected an entry with a text, found {item!r:.60}")
    scores = item.get("scores", {SCORE: item[SCORE]} if SCORE in item else {})
    if not isinstance(scores, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in scores.values()
    ):
        raise DataError(f"{where}: expected numbers as scores, found {scores!r:.60}")
    return NBestEntry(
        tuple(item["text"].split()),
        {name: finite(where, repr(value), f"the score {name!r}") for name, value in scores.items()},
    )


def _named(where: str, id: str, entries: Sequence[NBestEntry], known: Mapping[str, str] | None = None) -> NBestList:
    try:
        return NBestList(id, tuple(entries), **(known or {}))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _check_once(path: Path, lists: Iterable[NBestList]) -> None:
    seen: set[str] = set()
    for item in lists:
        if item.id in seen:
            raise DataError(f"{path}: identifier {item.id!r} is given twice")
        seen.add(item.id)


def _read_kaldi(folder: Path, skipped: list[Skipped] | None) -> list[NBestList]:
    files = {ACOUSTIC: folder / "acwt"}
    if (folder / "lmwt.lmonly").exists():
        files |= {GRAPH: folder / "lmwt.nolm", LM: folder / "lmwt.lmonly"}
    else:
        files[LM] = folder / "lmwt"
    costs = {name: (path, read_table(path)) for name, path in files.items()}
    ranked: dict[str, dict[int, tuple[str, int, str]]] = {}
    words = folder / "words_text"
    for key, (line, text) in read_table(words).items():
        match = _RANKED.fullmatch(key)
        if match is None:
            raise DataError(f"{words}:{line}: expected a key such as utterance-1, found {key!r}")
        ranked.setdefault(match[1], {})[int(match[2])] = (key, line, text)

    def maker(id: str) -> Callable[[], NBestList]:
        return lambda: NBestList(
            id,
            tuple(
                NBestEntry(tuple(text.split()), _kaldi_scores(words, line, key, costs))
                for _, (key, line, text) in sorted(ranked[id].items())
            ),
        )

    return list(keep_good(((id, maker(id)) for id in ranked), skipped))


def _kaldi_scores(
    words: Path, line: int, key: str, costs: Mapping[str, tuple[Path, dict[str, tuple[int, str]]]]
) -> dict[str, float]:
    scores = {}
    for name, (path, table) in costs.items():
        if key not in table:
            raise DataError(f"{words}:{line}: {path.name} has no cost for {key!r}")
        number, text = table[key]
        scores[name] = 0.0 - finite(f"{path}:{number}", text, f"the cost of {key!r}")
    return scores


def _read_espnet(root: Path, folders: Sequence[Path], skipped: list[Skipped] | None) -> list[NBestList]:
    found: dict[str, dict[int, tuple[str, str, str]]] = {}
    for folder in folders:
        rank = int(folder.name.removesuffix("best_recog"))
        scores = read_table(folder / "score")
        for id, (line, text) in read_table(folder / "text").items():
            if rank in found.setdefault(id, {}):
                raise DataError(f"{folder / 'text'}:{line}: {id!r} is given twice at rank {rank}")
            where = f"{folder / 'score'}:{scores[id][0]}" if id in scores else str(folder / "score")
            found[id][rank] = (text, scores[id][1] if id in scores else "", where)

    def maker(id: str) -> Callable[[], NBestList]:
        return lambda: NBestList(
            id,
            tuple(
                NBestEntry(tuple(text.split()), {SCORE: finite(f"{where}: {id}", _number(score), "a score")})
                for _, (text, score, where) in sorted(found[id].items())
            ),
        )

    return list(keep_good(((id, maker(id)) for id in found), skipped))


def _number(text: str) -> str:
    """ESPnet writes scores as PyTorch shows them, ``tensor(-3.25)``, with a device where there was one."""
    match = _TENSOR.fullmatch(text)
    return match[1] if match else text


def write_nbest(path: str | Path, lists: Iterable[NBestList]) -> None:
    """Write JSON lines, whole or not at all. Raises DataError for a path that cannot be written."""
    write_text(Path(path), "".join(json.dumps(_to_json(item), ensure_ascii=False) + "\n" for item in lists))


def _to_json(item: NBestList) -> dict[str, Any]:
    known = {key: getattr(item, key) for key in _KNOWN if getattr(item, key) is not None}
    entries = [{"text": entry.text, "scores": dict(entry.scores)} for entry in item.entries]
    return {"id": item.id, "text": item.best.text, **known, "nbest": entries}


def write_kaldi_nbest(folder: str | Path, lists: Iterable[NBestList]) -> None:
    """Write Kaldi's layout into a folder; the scores are "acoustic", "lm" and, if there, "graph".

    Raises DataError for other scores, an id with white space, or a path that cannot be written.
    """
    folder = Path(folder)
    lines: dict[str, list[str]] = {"words_text": []}
    for item in lists:
        _check_name(folder, item.id)
        for rank, entry in enumerate(item.entries, start=1):
            key = f"{item.id}-{rank}"
            lines["words_text"].append(" ".join([key, *entry.words]))
            for name, cost in _kaldi_costs(folder, key, entry).items():
                lines.setdefault(name, []).append(f"{key} {cost!r}")
    _write_folder(folder, lines)


def _kaldi_costs(folder: Path, key: str, entry: NBestEntry) -> dict[str, float]:
    names = {ACOUSTIC: "acwt", LM: "lmwt.lmonly" if GRAPH in entry.scores else "lmwt", GRAPH: "lmwt.nolm"}
    if not {ACOUSTIC, LM} <= set(entry.scores) <= set(names):
        raise DataError(
            f"{folder}: {key}: expected the scores {ACOUSTIC}, {LM} and perhaps {GRAPH}, "
            f"found {', '.join(entry.scores)}"
        )
    return {names[name]: 0.0 - value for name, value in entry.scores.items()}


def write_espnet_nbest(folder: str | Path, lists: Iterable[NBestList], score: str = SCORE) -> None:
    """Write ESPnet's layout into a folder, with the score of that name.

    Raises DataError for a list without it, an id with white space, or a path that cannot be written.
    """
    folder = Path(folder)
    lines: dict[str, list[str]] = {}
    for item in lists:
        _check_name(folder, item.id)
        if score not in item.best.scores:
            raise DataError(f"{folder}: {item.id}: expected the score {score!r}, found {', '.join(item.best.scores)}")
        for rank, entry in enumerate(item.entries, start=1):
            lines.setdefault(f"{rank}best_recog/text", []).append(" ".join([item.id, *entry.words]))
            lines.setdefault(f"{rank}best_recog/score", []).append(f"{item.id} {entry.scores[score]!r}")
    _write_folder(folder, lines)


def _check_name(folder: Path, id: str) -> None:
    if len(id.split()) != 1:
        raise DataError(f"{folder}: expected a name without white space, found {id!r}")


def _write_folder(folder: Path, files: Mapping[str, Sequence[str]]) -> None:
    try:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    for name, lines in files.items():
        write_text(folder / name, "".join(line + "\n" for line in lines))
