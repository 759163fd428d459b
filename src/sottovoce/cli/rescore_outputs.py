"""What ``sottovoce rescore`` writes: hypotheses, n-best lists, lattices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from sottovoce.decoding.ctm import CtmWord, ctm_words, timed, write_ctm
from sottovoce.decoding.first_pass import FirstPass, Form
from sottovoce.decoding.lattices import LatticePath, write_kaldi_lattices, write_slf
from sottovoce.decoding.lattices.kaldi import Symbols
from sottovoce.decoding.lattices.lattice import Lattice
from sottovoce.decoding.lattices.slf import SCORE_NAMES
from sottovoce.decoding.nbest_files import SCORE, write_espnet_nbest, write_kaldi_nbest, write_nbest
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ACOUSTIC, LM, ScoreWeights
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import Hypothesis, write_hypotheses

CTM = ".ctm"
_SLF_SCORES = tuple(f"x{i}" for i in range(1, 10))


class Layout(StrEnum):
    """Of a folder of n-best lists."""

    kaldi = "kaldi"
    espnet = "espnet"


@dataclass(frozen=True)
class Rescored:
    """An utterance after both passes. ``nbest`` with the second pass's scores, best first, or ``lattice`` with its
    weights; ``timed`` and ``path``: where the words of the second pass have their times, if it was a lattice."""

    id: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    weights: ScoreWeights
    nbest: NBestList | None = None
    lattice: Lattice | None = None
    timed: Lattice | None = None
    path: LatticePath | None = None
    speaker: str | None = None
    recording: str | None = None
    reference: str | None = None


def check_outputs(
    found: FirstPass, on_lattices: bool, out: Path | None, nbest: Path | None, lattices: Path | None
) -> None:
    """Raises ConfigError for an output that this input and this way of rescoring do not have, or whose path is taken,
    DataError for lattices without the times that it needs."""
    if out is not None and out.suffix == CTM:
        if found.form == "n-best":
            raise ConfigError(f"{out}: n-best lists have no times of words: ctm needs lattices")
        without = next((x.utterance for x in found.lattices if not timed(x)), None)
        if without is not None:
            raise DataError(f"{without}: expected a time at each node, found none: ctm needs them")
    if nbest is not None and on_lattices:
        raise ConfigError(f"{nbest}: n-best lists are written with --method nbest")
    if lattices is not None and not on_lattices:
        raise ConfigError(f"{lattices}: lattices are written where lattices are rescored, with --method lattice")
    folders = {out: False, nbest: nbest is not None and not _is_jsonl(nbest), lattices: found.form == "slf"}
    for path, folder in folders.items():
        if path is not None and path.exists() and path.is_dir() != folder:
            wanted, there = ("folder", "file") if folder else ("file", "folder")
            raise ConfigError(f"{path}: cannot be written: expected a {wanted} or nothing there, found a {there}")


def _is_jsonl(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".jsonl")


def write_texts(path: Path, found: Sequence[Rescored]) -> None:
    """Hypotheses of the second pass: .trn, .ctm, .jsonl (with what is known beside them), else tab-separated."""
    if path.suffix == CTM:
        write_ctm(path, [word for item in found for word in _timed_words(item)])
        return
    write_hypotheses(
        path,
        [Hypothesis(x.id, " ".join(x.second), x.speaker, x.recording, x.reference) for x in found],
    )


def _timed_words(item: Rescored) -> list[CtmWord]:
    if item.timed is None or item.path is None:
        raise DataError(f"{item.id}: expected a lattice with times")
    words = ctm_words(item.timed, item.path)
    # The posteriors of the first pass' lattice say nothing of what another model chose from its list.
    return words if item.nbest is None else [replace(word, confidence=None) for word in words]


def write_lists(path: Path, found: Sequence[Rescored], layout: Layout) -> None:
    """JSON lines with every score, or a folder whose scores are combined: Kaldi's acoustic and language model costs, or
    ESPnet's single score."""
    pairs = [(item.nbest, item.weights) for item in found if item.nbest is not None]
    if _is_jsonl(path):
        write_nbest(path, [item for item, _ in pairs])
    elif layout is Layout.kaldi:
        write_kaldi_nbest(path, [_combined(item, weights, LM) for item, weights in pairs])
    else:
        write_espnet_nbest(path, [_combined(item, weights, SCORE) for item, weights in pairs])


def _combined(item: NBestList, weights: ScoreWeights, name: str) -> NBestList:
    """One score for all; beside "lm" the acoustic one stays apart, unweighted, as Kaldi has it."""
    apart = name == LM
    rest = ScoreWeights(
        {k: f for k, f in weights.factors.items() if not (apart and k == ACOUSTIC)}, weights.word_penalty
    )
    entries = []
    for entry, total in zip(item.entries, item.totals(rest).tolist(), strict=True):
        scores = {ACOUSTIC: entry.scores.get(ACOUSTIC, 0.0)} if apart else {}
        entries.append(NBestEntry(entry.words, {**scores, name: total}))
    return NBestList(item.id, tuple(entries))


def write_lattices(path: Path, found: Sequence[Rescored], form: Form, symbols: Symbols | None) -> None:
    """In the form that they came in: a folder of SLF files, with the models' scores as x1, x2, ..., or an archive of
    Kaldi's, whose graph costs are all scores but the acoustic one, weighted and added up."""
    lattices = [item.lattice for item in found if item.lattice is not None]
    if form == "kaldi":
        write_kaldi_lattices(path, [_with_one_score(lattice) for lattice in lattices], symbols)
        return
    files = {path / f"{_file_name(lattice.utterance)}.slf.gz": _with_slf_names(lattice) for lattice in lattices}
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    for file, lattice in files.items():
        write_slf(file, lattice)


def _with_one_score(lattice: Lattice) -> Lattice:
    w = lattice.weights
    rest = ScoreWeights({k: f for k, f in w.factors.items() if k != ACOUSTIC}, w.word_penalty)
    return lattice.with_scores(**{LM: lattice.totals(rest)})


def _with_slf_names(lattice: Lattice) -> Lattice:
    free = iter(name for name in _SLF_SCORES if name not in lattice.scores)
    try:
        names = {name: name if name in SCORE_NAMES else next(free) for name in lattice.scores}
    except StopIteration:
        raise DataError(f"{lattice.utterance}: SLF has room for nine further scores, found more") from None
    w = lattice.weights
    return replace(
        lattice,
        scores={names[name]: values for name, values in lattice.scores.items()},
        weights=ScoreWeights(
            {names[name]: factor for name, factor in w.factors.items() if name in names}, w.word_penalty
        ),
    )


def _file_name(utterance: str) -> str:
    """A name in this folder, another one for each utterance."""
    return quote(utterance, safe=" ()[]{}+,;=@!$&'~#")
