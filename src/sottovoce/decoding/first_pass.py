"""What a first pass left for a second one: lattices or n-best lists, whatever toolkit wrote them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from sottovoce.decoding.lattices.kaldi import Symbols, read_kaldi_lattices
from sottovoce.decoding.lattices.lattice import NO_WORD, SILENT, Lattice
from sottovoce.decoding.lattices.slf import read_slf
from sottovoce.decoding.nbest_files import read_nbest
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ACOUSTIC
from sottovoce.decoding.skipped import Skipped, keep_good
from sottovoce.decoding.text import normalization
from sottovoce.decoding.text_files import read_lines
from sottovoce.errors import DataError

Form = Literal["n-best", "slf", "kaldi"]

_SLF = re.compile(r"(VERSION|V|UTTERANCE|U|BASE|base|NODES|N|lmname|lmscale|start|I)\s*=")
_NBEST_FOLDERS = ("words_text", "*best_recog")


@dataclass(frozen=True)
class FirstPass:
    """``lists`` or ``lattices``, as ``form`` says, in the order of the input; what could not be used was noted."""

    form: Form
    lists: tuple[NBestList, ...] = ()
    lattices: tuple[Lattice, ...] = ()


def read_first_pass(
    path: str | Path,
    *,
    symbols: Symbols | None = None,
    acoustic_scale: float | None = None,
    skipped: list[Skipped] | None = None,
) -> FirstPass:
    """Read n-best lists (JSON lines, a folder in Kaldi's or ESPnet's layout), an SLF file or a folder of them, or an
    archive of Kaldi's text lattices or a folder of those; any file may be gzip.

    ``symbols`` are Kaldi's; ``acoustic_scale`` is the weight of the acoustic score in lattices, in the place of what
    their files say. An utterance that cannot be used is noted in ``skipped``, or raises DataError without it; so does
    an input that is none of these, whose names occur twice, or that has nothing.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: cannot be read: No such file or directory")
    if path.is_dir() and any(next(path.rglob(name), None) for name in _NBEST_FOLDERS):
        return FirstPass("n-best", tuple(read_nbest(path, skipped=skipped)))
    files = _files(path)
    form = _form_of_all(path, files)
    if form == "n-best":
        lists = [item for file in files for item in read_nbest(file, skipped=skipped)]
        _check_once(path, [item.id for item in lists])
        return FirstPass(form, tuple(lists))
    if form == "slf":
        lattices = list(keep_good(((_stem(file), partial(read_slf, file)) for file in files), skipped))
    else:
        lattices = [item for file in files for item in read_kaldi_lattices(file, symbols, skipped=skipped)]
    _check_once(path, [lattice.utterance for lattice in lattices])
    if acoustic_scale is not None:
        lattices = [replace(x, weights=x.weights.replacing(**{ACOUSTIC: acoustic_scale})) for x in lattices]
    return FirstPass(form, lattices=tuple(lattices))


def normalized(found: FirstPass, form: str, skipped: list[Skipped] | None = None) -> FirstPass:
    """The same with every text in a normalization of ``decoding.text``; words that it leaves out are gone.

    So are, in n-best lists as in lattices, marks of sentences and of no word (``SILENT``): models add ``</s>``.

    A lattice where a word becomes several is noted in ``skipped``, or raises DataError without it. Raises ConfigError
    for an unknown form.
    """
    rule = normalization(form)
    relabelled = keep_good(((x.utterance, partial(_relabelled, x, rule)) for x in found.lattices), skipped)
    return replace(
        found,
        lists=tuple(
            replace(x, entries=tuple(NBestEntry(_said(e.words, rule), e.scores) for e in x.entries))
            for x in found.lists
        ),
        lattices=tuple(relabelled),
    )


def _said(words: Sequence[str], rule: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(rule(" ".join(word for word in words if word not in SILENT)).split())


def _relabelled(lattice: Lattice, rule: Callable[[str], str]) -> Lattice:
    texts = [rule(word) for word in lattice.words]
    broken = next((word for word, text in zip(lattice.words, texts, strict=True) if len(text.split()) > 1), None)
    if broken is not None:
        raise DataError(f"{lattice.utterance}: a link has one word, and normalized {broken!r} is several")
    words = dict.fromkeys([NO_WORD, *texts])
    numbers = {word: i for i, word in enumerate(words)}
    return replace(lattice, words=tuple(words), labels=np.array([numbers[x] for x in texts], np.int64)[lattice.labels])


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not found:
        raise DataError(f"{path}: expected lattices or n-best lists in this folder, found no file")
    return found


def _form_of_all(path: Path, files: list[Path]) -> Form:
    """The form of the files that have one; what is damaged is left to their reader."""
    forms: dict[Form, Path] = {}
    wrong: DataError | None = None
    for file in files:
        try:
            forms.setdefault(_form(file), file)
        except DataError as error:
            wrong = wrong or error
    if wrong is not None and not forms:
        raise wrong
    if len(forms) > 1:
        names = " and ".join(file.name for file in list(forms.values())[:2])
        raise DataError(f"{path}: expected files of one form, found {names}")
    return next(iter(forms))


def _form(path: Path) -> Form:
    """By the name, or the first line that says something."""
    if path.suffix == ".jsonl":
        return "n-best"
    lines = (line.strip() for line in read_lines(path))
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("{"):
        return "n-best"
    if _SLF.match(first):
        return "slf"
    if len(first.split()) == 1:
        return "kaldi"
    raise DataError(
        f"{path}: expected n-best lists in JSON lines, an SLF lattice or Kaldi's text lattices, found {first[:40]!r}"
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _check_once(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}: utterance {name!r} is given twice")
        seen.add(name)
