"""What ``sottovoce rescore`` does between its options and its files: tuning, rescoring, word errors of both passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console

from sottovoce.cli.progress import progress_bar
from sottovoce.cli.rescore_options import chosen_weights, mixed_models
from sottovoce.cli.rescore_outputs import Rescored
from sottovoce.decoding.conversations import in_conversations
from sottovoce.decoding.first_pass import FirstPass, Form, normalized, read_first_pass
from sottovoce.decoding.language_model import LanguageModel
from sottovoce.decoding.lattices import LatticePath, best_path, nbest_paths, path_scores
from sottovoce.decoding.lattices.kaldi import Symbols
from sottovoce.decoding.mixture import Mixture
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.second_pass import rescore_lattices, rescore_lists
from sottovoce.decoding.sentence_scores import word_scores
from sottovoce.decoding.skipped import Skipped
from sottovoce.decoding.text import normalization
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.bootstrap import wer_interval
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.perplexity import mixture_weights
from sottovoce.evaluation.weight_search import tune_weights
from sottovoce.evaluation.wer import count_errors, score, total
from sottovoce.runtime.language_models import knows

NBEST = 20
"""Entries of a lattice's list, as published rescoring experiments have it."""

ORDER, HISTORIES = 4, 16
"""Of rescoring on a lattice, where options say nothing: as a 4-gram would tell histories apart."""

_FORMS: Mapping[Form, str] = {"n-best": "n-best lists", "slf": "SLF lattices", "kaldi": "Kaldi's lattices"}
_Paths = Mapping[tuple[str, ...], LatticePath]


@dataclass(frozen=True)
class Limits:
    """Of rescoring on a lattice: ``rescore_lattice``."""

    order: int
    beam: float
    max_histories: int


@dataclass
class Reading:
    """How inputs are read, what lists are made of their lattices, and what was skipped so far. ``nbest``: entries of a
    list; ``references`` by utterance, normalized."""

    symbols: Symbols | None = None
    acoustic_scale: float | None = None
    normalization: str = "plain"
    nbest: int | None = None
    history: bool = False
    conversations: Mapping[str, str] | None = None
    references: Mapping[str, Hypothesis] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def read(self, path: Path) -> FirstPass:
        """The input, in the normalization. Raises ConfigError for an option that this form does not have."""
        found = read_first_pass(path, symbols=self.symbols, acoustic_scale=self.acoustic_scale, skipped=self.skipped)
        if self.acoustic_scale is not None and found.form == "n-best":
            raise ConfigError(
                f"--acoustic-scale is for lattices, found n-best lists in {path}: expected --weight NAME=NUMBER"
            )
        if self.symbols is not None and found.form != "kaldi":
            raise ConfigError(f"--words is for Kaldi's lattices, found {_FORMS[found.form]} in {path}")
        return normalized(found, self.normalization, self.skipped)

    def lists(self, found: FirstPass) -> tuple[list[NBestList], list[_Paths]]:
        """n-best lists, and of lattices the path of each entry."""
        if found.form == "n-best":
            return [replace(x, entries=x.entries[: self.nbest]) for x in found.lists], []
        paths = [nbest_paths(lattice, self.nbest or NBEST) for lattice in found.lattices]
        lists = [
            NBestList(x.utterance, tuple(NBestEntry(path.words, path_scores(x, path)) for path in some))
            for x, some in zip(found.lattices, paths, strict=True)
        ]
        return lists, [{path.words: path for path in some} for some in paths]

    def groups(self, ids: Sequence[str], recordings: Sequence[str | None]) -> list[list[int]] | None:
        """Utterances that follow one another, where models remember."""
        return in_conversations(ids, recordings, self.conversations) if self.history else None

    def reference(self, id: str, own: str | None = None) -> str | None:
        """What was said: by the files of references, or else by the list itself."""
        if id in self.references:
            return self.references[id].text
        return None if own is None else normalization(self.normalization)(own)

    def check_references(self, found: FirstPass, wanted: bool) -> None:
        """Raises DataError naming an utterance without a reference, where others have one; in the files of references
        where these have some of the others, or all are ``wanted`` there."""
        own: dict[str, str | None] = {x.id: x.reference for x in found.lists} or {
            x.utterance: None for x in found.lattices
        }
        unsaid = [id for id in own if id not in self.references]
        without = [id for id, text in own.items() if self.reference(id, text) is None]
        if unsaid and (wanted or len(unsaid) < len(own)):
            raise DataError(f"references: expected one for {unsaid[0]!r}, found none")
        if without and len(without) < len(own):
            raise DataError(f"references: expected one for {without[0]!r}, found none")

    def tell_skipped(self) -> int:
        """Their number, after a line for each on the error stream; what comes later is counted anew."""
        for item in self.skipped:
            typer.echo(f"skipped {item.id}: {item.reason}", err=True)
        count = len(self.skipped)
        self.skipped.clear()
        return count


@dataclass(frozen=True)
class SecondPass:
    """Language models by name, ``shares`` of a linear interpolation of them (empty without one), and weights: of a
    ``mixture``, or the first pass's own; ``factors`` and ``word_penalty`` go before either."""

    reading: Reading
    models: Mapping[str, LanguageModel]
    shares: Mapping[str, float]
    mixture: Mixture | None
    factors: Mapping[str, float]
    word_penalty: float | None

    @property
    def scored(self) -> dict[str, LanguageModel]:
        return mixed_models(self.models, self.shares)

    def weights(self, own: ScoreWeights) -> ScoreWeights:
        return chosen_weights(own, self.scored, self.mixture, self.factors, self.word_penalty)

    def _usable(self, own: ScoreWeights) -> ScoreWeights:
        """Weights of one utterance: where they do not fit its scores, it alone is left out."""
        try:
            return self.weights(own)
        except ConfigError as error:
            raise DataError(str(error)) from error

    def run(self, path: Path, found: FirstPass, limits: Limits | None) -> tuple[list[Rescored], dict[str, Any]]:
        """Every utterance after both passes, and the figures; limits: lattices are rescored as lattices.

        Raises DataError where nothing is left, ConfigError for weights that do not fit.
        """
        if found.lists or found.lattices:
            self.weights(_own_weights(found))  # options that fit no score are no reason to skip an utterance
        with _progress() as update:
            rescored = self._lists(found, update) if limits is None else self._lattices(found, limits, update)
        skipped = self.reading.tell_skipped()
        if not rescored:
            raise DataError(f"{path}: expected utterances to rescore, found none ({skipped} skipped)")
        return rescored, self._figures(rescored, skipped)

    def _lists(self, found: FirstPass, update: Callable[[int, int], None]) -> list[Rescored]:
        lists, paths = self.reading.lists(found)
        own = {x.utterance: x.weights for x in found.lattices} or {x.id: _own_weights(found, x) for x in lists}
        places = {item.id: i for i, item in enumerate(lists)}
        done = rescore_lists(
            lists,
            self.scored,
            weights=lambda item: self._usable(own[item.id]),
            conversations=self.reading.groups([x.id for x in lists], [x.recording for x in lists]),
            skipped=self.reading.skipped,
            progress=update,
        )
        rescored = []
        for item in done:
            at = places[item.id]
            second = item.best.words
            timed, path = (found.lattices[at], paths[at][second]) if paths else (None, None)
            rescored.append(
                Rescored(item.id, lists[at].best.words, second, self.weights(own[item.id]), item, None, timed, path)
            )
        return [self._known(x, lists[places[x.id]]) for x in rescored]

    def _lattices(self, found: FirstPass, limits: Limits, update: Callable[[int, int], None]) -> list[Rescored]:
        first = {lattice.utterance: lattice for lattice in found.lattices}
        done = rescore_lattices(
            found.lattices,
            self.scored,
            lambda lattice: self._usable(first[lattice.utterance].weights),
            order=limits.order,
            beam=limits.beam,
            max_histories=limits.max_histories,
            conversations=self.reading.groups(list(first), [None] * len(first)),
            skipped=self.reading.skipped,
            progress=update,
        )
        rescored = []
        for lattice in done:
            path = best_path(lattice)
            before = best_path(first[lattice.utterance]).words
            rescored.append(
                Rescored(lattice.utterance, before, path.words, lattice.weights, None, lattice, lattice, path)
            )
        return [self._known(x) for x in rescored]

    def _known(self, item: Rescored, given: NBestList | None = None) -> Rescored:
        """With speaker, recording and reference, as far as they are known."""
        beside = self.reading.references.get(item.id)
        return replace(
            item,
            speaker=(given.speaker if given else None) or (beside.speaker if beside else None),
            recording=(given.recording if given else None) or (beside.recording if beside else None),
            reference=self.reading.reference(item.id, given.reference if given else None),
        )

    def _figures(self, rescored: Sequence[Rescored], skipped: int) -> dict[str, Any]:
        words = [word for item in rescored for word in item.first]
        known = {
            name: sum(map({w: knows(model, w) for w in set(words)}.__getitem__, words)) / max(1, len(words))
            for name, model in self.models.items()
        }
        figures: dict[str, Any] = {
            "utterances": len(rescored),
            "skipped": skipped,
            "changed": sum(item.first != item.second for item in rescored),
            "weights": _as_dict(rescored[0].weights),
            "weights_differ": any(item.weights != rescored[0].weights for item in rescored),
            "shares": dict(self.shares),
            "known_words": known,
        }
        if any(item.reference is None for item in rescored):  # of none then: check_references
            return figures
        return figures | _errors(rescored)


def _errors(rescored: Sequence[Rescored]) -> dict[str, Any]:
    """Word errors of both passes, and of the entries nearest to the references."""
    references = {item.id: item.reference or "" for item in rescored}
    clusters = [
        {item.id: str(getattr(item, name)) for item in rescored}
        if all(getattr(item, name) for item in rescored)
        else None
        for name in ("speaker", "recording")
    ]
    found: dict[str, Any] = {}
    for which in ("first", "second"):
        scored = score(references, {item.id: " ".join(getattr(item, which)) for item in rescored})
        counts = total(scored)
        ci95 = list(wer_interval(scored, *clusters)) if len(scored) > 1 else None
        found[which] = {"wer": round(counts.wer, 4), "errors": counts.errors, **vars(counts), "ci95": ci95}
    if all(item.nbest for item in rescored):
        found["oracle_errors"] = sum(
            min(count_errors(references[item.id].split(), entry.words).errors for entry in item.nbest.entries)
            for item in rescored
            if item.nbest
        )
    return found


def tune_mixture(
    passes: SecondPass, path: Path, by_em: bool, fixed: Sequence[str]
) -> tuple[SecondPass, dict[str, Any]]:
    """The same with the weights that make the fewest errors on the n-best lists in ``path``, and what is to be told of
    them; ``by_em``: shares of the interpolation are first found on the references, by likelihood.

    With a history, models go on from the first pass's best there: no weights are known yet. Raises DataError for lists
    without a reference and where no list is left.
    """
    reading = passes.reading
    found = reading.read(path)
    reading.check_references(found, wanted=False)
    lists, _ = reading.lists(found)
    texts = {x.id: text for x in lists if (text := reading.reference(x.id, x.reference)) is not None}
    without = next((x.id for x in lists if x.id not in texts), None)
    if without is not None:
        raise DataError(f"{path}: {without}: expected a reference to tune by, found none")
    if by_em and lists:
        spoken = [texts[x.id].split() for x in lists]
        streams = [np.concatenate(word_scores(model, spoken)) for model in passes.models.values()]
        passes = replace(
            passes, shares=dict(zip(passes.models, _rounded(mixture_weights(streams).weights), strict=True))
        )
    initial = passes.weights(_own_weights(found)) if lists else ScoreWeights()
    groups = reading.groups([x.id for x in lists], [x.recording for x in lists])
    with _progress() as update:
        done = rescore_lists(lists, passes.scored, conversations=groups, skipped=reading.skipped, progress=update)
    skipped = reading.tell_skipped()
    if not done:
        raise DataError(f"{path}: expected utterances to tune on, found none ({skipped} skipped)")
    tuned = tune_weights(done, texts, initial, fixed=tuple(fixed))
    report = {
        "lists": len(done),
        "skipped": skipped,
        "words": tuned.words,
        "first_errors": sum(count_errors(texts[x.id].split(), x.best.words).errors for x in done),
        "initial_errors": tuned.initial_errors,
        "errors": tuned.errors,
        "oracle_errors": tuned.oracle_errors,
        "weights": _as_dict(tuned.weights),
        "shares": dict(passes.shares),
    }
    mixture = Mixture(tuned.weights, passes.shares)
    return replace(passes, mixture=mixture, factors={}, word_penalty=None), report


def _rounded(shares: np.ndarray) -> list[float]:
    """Above 0, as an interpolation needs it."""
    above = np.maximum(shares, 1e-6)
    found: list[float] = (above / above.sum()).tolist()
    return found


def _own_weights(found: FirstPass, item: NBestList | None = None) -> ScoreWeights:
    """A lattice's; of a list every score counts 1."""
    if found.lattices:
        return found.lattices[0].weights
    given = item or found.lists[0]
    return ScoreWeights(dict.fromkeys(given.best.scores, 1.0))


def _as_dict(weights: ScoreWeights) -> dict[str, float]:
    return {**weights.factors, "word_penalty": weights.word_penalty}


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    with progress_bar(Console(stderr=True), "rescoring") as update:
        yield update


def sentences(report: Mapping[str, Any]) -> list[str]:
    """The figures in words."""
    lines = []
    if "tuned" in report:
        t = report["tuned"]
        lines += [
            f"tuned on {t['lists']} lists{_skipped(t)} of {t['words']} words: {t['first_errors']} errors in the first "
            f"pass, {t['initial_errors']} at the weights given, {t['errors']} at those found, {t['oracle_errors']} in "
            "the best entries",
            f"weights: {_numbers(t['weights'])}" + (f"; shares: {_numbers(t['shares'])}" if t["shares"] else ""),
        ]
    if "utterances" in report:
        lines += _of_the_input(report)
    return lines


def _of_the_input(f: Mapping[str, Any]) -> list[str]:
    known = ", ".join(f"{name} knows {100 * share:.1f} %" for name, share in f["known_words"].items())
    count = "1 utterance" if f["utterances"] == 1 else f"{f['utterances']} utterances"
    lines = [f"{count}{_skipped(f)}, {f['changed']} changed; of the first pass's words {known}"]
    if "tuned" not in f:
        lines.append(
            f"weights: {_numbers(f['weights'])}"
            + (" (of the first utterance: by their files, others differ)" if f["weights_differ"] else "")
            + (f"; shares: {_numbers(f['shares'])}" if f["shares"] else "")
        )
    for which in ("first", "second"):
        if which in f:
            e = f[which]
            interval = "" if e["ci95"] is None else " [{:.2f}, {:.2f}]".format(*e["ci95"])
            lines.append(
                f"{which} pass: WER {e['wer']:.2f} %{interval}, {e['errors']} errors in {e['words']} words "
                f"({e['substitutions']} substitutions, {e['insertions']} insertions, {e['deletions']} deletions)"
                + (" (weights tuned on this same input)" if which == "second" and f.get("tuned_on_input") else "")
            )
    if "oracle_errors" in f:
        lines.append(f"best entries of the lists: {f['oracle_errors']} errors")
    return lines


def _skipped(figures: Mapping[str, Any]) -> str:
    return f" ({figures['skipped']} skipped)" if figures["skipped"] else ""


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
