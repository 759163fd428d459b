"""A folder of what was heard of a text: n-best lists, references, lattices, and how they were made."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sottovoce.data import options as check
from sottovoce.data.confusions.channel import Channel
from sottovoce.data.confusions.decoder import Decoder
from sottovoce.data.confusions.lexicon import make_lexicon, pronounce
from sottovoce.data.confusions.lists import Confuser, Reference, calibrate, nbest_of, word_errors
from sottovoce.data.text import TextCorpus
from sottovoce.data.words import choose_words, count_words, read_words
from sottovoce.decoding.lattices.kaldi import write_kaldi_lattices
from sottovoce.decoding.lattices.lattice import Lattice
from sottovoce.decoding.lattices.paths import oracle_path
from sottovoce.decoding.lattices.slf import write_slf
from sottovoce.decoding.nbest_files import write_nbest
from sottovoce.decoding.nbest_lists import NBestList
from sottovoce.decoding.scores import LM, NGRAM
from sottovoce.decoding.text_files import write_text
from sottovoce.decoding.vocabulary import END_WORD, UNKNOWN_WORD
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import Hypothesis, write_hypotheses
from sottovoce.progress import Progress

MARKER = "confusions.json"
_STARTED = ".confusions-started.json"  # before all else, so that whatever a kill leaves is known to be ours
_LISTS, _REFERENCES, _SLF, _KALDI = "nbest.jsonl", "references.tsv", "slf", "lattices.kaldi.gz"
_VERSION = 1
_BATCH = 200

LatticeForm = Literal["none", "slf", "kaldi"]


@dataclass(frozen=True)
class ConfusionOptions:
    """What is heard of a text. ``split``: by default the one that its corpus reports on; ``utterances``: the first so
    many of it. Either ``wer``, in percent, at which the noise is calibrated on this very text, or ``noise``, which
    another text was calibrated to. ``nbest``: texts an utterance; ``lattices``: their form. ``words``: a vocabulary
    with counts, by default the words that occur ``min_count`` times in the training text."""

    split: str | None = None
    utterances: int | None = None
    wer: float | None = None
    noise: float | None = None
    nbest: int = 20
    lattices: LatticeForm = "none"
    words: Path | None = None
    min_count: int = 3
    deletions: float = 0.03
    insertions: float = 0.02
    beam: float = 10.0
    language: str = "en-us"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.wer is None) == (self.noise is None):
            raise ConfigError("expected either wer or noise, found " + ("none" if self.wer is None else "both"))
        if self.wer is not None:
            check.number("wer", self.wer, 0.1, 100)
        if self.utterances is not None:
            check.integer("utterances", self.utterances, 1, 10**9)
        for name, low, high in (("nbest", 1, 10_000), ("min_count", 1, 10**9), ("seed", 0, 2**31)):
            check.integer(name, getattr(self, name), low, high)
        check.number("beam", self.beam, 1, 100)
        _ = self.channel
        if self.lattices not in ("none", "slf", "kaldi"):
            raise ConfigError(f"lattices must be none, slf or kaldi, found {self.lattices!r}")

    @property
    def channel(self) -> Channel:
        """Of noise 1 where it is yet to be calibrated."""
        return Channel(1.0 if self.noise is None else self.noise, self.deletions, self.insertions)


@dataclass(frozen=True)
class Confusions:
    """What ``confusions.json`` says: the noise and what came of it, error rates in percent. ``oracle_wer``: of the
    path of each lattice that is nearest to what was said; ``silent``: utterances of which nothing was heard."""

    folder: Path
    noise: float
    utterances: int
    words: int
    wer: float
    oracle_wer: float
    links: int
    silent: int


def write_confusions(
    corpus: TextCorpus, out: str | Path, options: ConfusionOptions, progress: Progress | None = None
) -> Confusions:
    """Mishear a split of ``corpus`` and fill the folder ``out``: ``nbest.jsonl`` (with references, and conversations as
    recordings, in the order in which things were said), ``references.tsv``, lattices as ``slf/<id>.slf.gz`` or
    ``lattices.kaldi.gz`` (there the unigram is the "lm" score), and last ``confusions.json``.

    A folder complete with the same text and options stays as it is. An utterance of which nothing was heard is left out
    of lists and lattices and counted. Raises ConfigError for bad options, DataError for a folder that holds other
    things or an error rate that cannot be had.
    """
    folder = Path(out)
    references = list(islice(_references(corpus, options.split or corpus.reported), options.utterances))
    words = sum(len(item.text.split()) for item in references)
    if not words:
        raise DataError(f"{corpus.name}: expected words in what is to be misheard, found none")
    made_of = _made_of(corpus, options)
    done = _begin(folder, made_of)
    if done is not None:
        return done
    confuser = _confuser(corpus, options)
    if options.wer is not None:
        confuser = confuser.at(calibrate(confuser, references, options.wer))
    lattices = _heard(confuser, references, progress)
    heard = [(item, lattice) for item, lattice in zip(references, lattices, strict=True) if lattice is not None]
    write_nbest(folder / _LISTS, _lists(heard, options.nbest))
    write_hypotheses(folder / _REFERENCES, [Hypothesis(item.id, item.text) for item in references])
    _write_lattices(folder, [lattice for _, lattice in heard], options.lattices)
    missed = sum(len(item.text.split()) for item, lattice in zip(references, lattices, strict=True) if lattice is None)
    nearest = sum(oracle_path(lattice, item.text.split())[1] for item, lattice in heard)
    found = Confusions(
        folder=folder,
        noise=confuser.decoder.channel.noise,
        utterances=len(references),
        words=words,
        wer=round(word_errors(references, lattices), 2),
        oracle_wer=round(100 * (nearest + missed) / words, 2),
        links=sum(lattice.links for _, lattice in heard),
        silent=len(references) - len(heard),
    )
    values = {key: value for key, value in asdict(found).items() if key != "folder"}
    text = json.dumps({"version": _VERSION, "made_of": made_of, "found": values}, indent=1)
    write_text(folder / MARKER, text + "\n")
    (folder / _STARTED).unlink(missing_ok=True)
    return found


def _made_of(corpus: TextCorpus, options: ConfusionOptions) -> dict[str, Any]:
    words = None if options.words is None else read_words(options.words)
    given = {**asdict(options), "words": None if words is None else f"{zlib.crc32(repr(words).encode()):08x}"}
    return {"corpus": corpus.name, "text": corpus.fingerprint(), **given}


def _begin(folder: Path, made_of: dict[str, Any]) -> Confusions | None:
    marker = folder / MARKER
    if not marker.exists():
        _make_empty(folder)
        return None
    try:
        values = json.loads(marker.read_text())
        found, before = Confusions(folder, **values["found"]), values["made_of"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker}: damaged ({error}); choose another --out") from error
    for key, value in made_of.items():
        if before.get(key) != value:
            raise DataError(f"{folder}: made with {key}={before.get(key)!r}, now {value!r}; choose another --out")
    return found


def _make_empty(folder: Path) -> None:
    """Without what an interrupted run left: its lattices must not lie among others."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: --out must be a folder, found a file")
    if folder.exists() and any(folder.iterdir()) and not (folder / _STARTED).exists():
        raise DataError(f"{folder}: not empty and not ours; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _STARTED, "{}\n")
    shutil.rmtree(folder / _SLF, ignore_errors=True)
    left = (folder / name for name in (_LISTS, _REFERENCES, _KALDI))
    for path in (*left, *folder.glob(".*.tmp")):
        path.unlink(missing_ok=True)


def _references(corpus: TextCorpus, split: str) -> Iterator[Reference]:
    for conversation in corpus.split(split):
        for number, sentence in enumerate(conversation.sentences):
            yield Reference(f"{conversation.id}-{number:04d}", sentence, conversation.id)


def _confuser(corpus: TextCorpus, options: ConfusionOptions) -> Confuser:
    if options.words is not None:
        entries = read_words(options.words)
    else:
        entries = choose_words(count_words(corpus.sentences("train")), min_count=options.min_count)
    counts = {word: count for word, count in entries if word not in (END_WORD, UNKNOWN_WORD)}
    lexicon = make_lexicon(counts, pronounce(list(counts), options.language))
    return Confuser(Decoder(lexicon, options.channel, options.beam), options.seed, options.language)


def _heard(confuser: Confuser, references: Sequence[Reference], progress: Progress | None) -> list[Lattice | None]:
    lattices: list[Lattice | None] = []
    for start in range(0, len(references), _BATCH):
        lattices += confuser.lattices(references[start : start + _BATCH])
        if progress:
            progress(len(lattices), len(references))
    return lattices


def _lists(heard: Iterable[tuple[Reference, Lattice]], n: int) -> Iterator[NBestList]:
    return (nbest_of(lattice, n, item) for item, lattice in heard)


def _write_lattices(folder: Path, lattices: Sequence[Lattice], form: LatticeForm) -> None:
    if form == "slf":
        (folder / _SLF).mkdir(exist_ok=True)
        for lattice in lattices:
            write_slf(folder / _SLF / f"{lattice.utterance}.slf.gz", lattice)
    elif form == "kaldi":
        named = (lattice.with_scores(**{LM: lattice.scores[NGRAM]}) for lattice in lattices)
        write_kaldi_lattices(folder / _KALDI, named)
