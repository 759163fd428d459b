"""Runs measured on the same utterances or sentences: error, interval and evidence against the first of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import RelativeDifference, relative_wer_difference, wer_interval
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.mapsswe import mapsswe
from sottovoce.evaluation.noninferiority import PERPLEXITY_MARGIN, Verdict, holm, verdict, wer_margin
from sottovoce.evaluation.results import clusters_of, score_hypotheses
from sottovoce.evaluation.scores import SentenceScore, compare_perplexity, summarize
from sottovoce.evaluation.wer import WordErrors, total
from sottovoce.report.runs import SPLITS, RunFolder

TIE = 0.001  # sizes as near as this are equal: files of one shape differ by the length of a name in their headers


@dataclass(frozen=True)
class Difference:
    """Against the control, as fractions of its error: the estimate, its two-sided 95 % interval, and the verdict.
    ``p``, ``p_holm``: of MAPSSWE, for word errors only."""

    estimate: float
    low: float
    high: float
    verdict: Verdict
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class System:
    """One run: WER in percent or perplexity with its 95 % interval, and how it differs from the control."""

    run: RunFolder
    error: float
    ci95: tuple[float, float]
    counts: WordErrors | None = None
    difference: Difference | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the model, without its tokenizer."""
        assert self.run.sizes is not None  # what was measured has a file
        return self.run.sizes.model_bytes


@dataclass(frozen=True)
class Group:
    """Systems that were measured on the same text, the control first. ``words``: of the reference."""

    measure: Literal["WER", "perplexity"]
    split: str
    words: int
    utterances: int
    systems: tuple[System, ...]
    hypotheses: dict[str, list[Hypothesis]]

    @property
    def control(self) -> System:
        return self.systems[0]

    def written(self, error: float) -> str:
        """An error as it is written in text."""
        return f"{error:.2f} %" if self.measure == "WER" else f"{error:.2f}"


def is_smaller(system: System, control: System) -> bool:
    """By more than files of one shape differ."""
    return system.bytes * (1 + TIE) < control.bytes


def smallest(systems: Sequence[System]) -> System | None:
    """The system with the fewest bytes, of those that are equally small the one with the least error."""
    least = min((system.bytes for system in systems), default=0)
    return min((s for s in systems if s.bytes <= least * (1 + TIE)), key=lambda s: s.error, default=None)


def split_of(runs: Sequence[RunFolder]) -> str:
    """The split to report on: test where any run was evaluated on it, else dev."""
    found = (s for s in SPLITS if any(run.hypotheses_file(s) for run in runs))
    return next(found, SPLITS[0])


def measured(runs: Sequence[RunFolder]) -> tuple[list[Group], list[RunFolder]]:
    """Groups of comparable systems, and the runs that nothing was measured of.

    Raises DataError for hypotheses without reference texts.
    """
    split = split_of(runs)
    heard: dict[Hashable, dict[str, list[Hypothesis]]] = {}
    scored: dict[Hashable, dict[str, list[SentenceScore]]] = {}
    without = []
    for run in runs:
        if (hypotheses := run.hypotheses(split)) is not None:
            heard.setdefault(frozenset((h.id, h.reference) for h in hypotheses), {})[run.name] = hypotheses
        elif (scores := run.scores()) is not None:
            scored.setdefault(tuple((s.id, s.words) for s in scores), {})[run.name] = scores
        else:
            without.append(run)
    by_name = {run.name: run for run in runs}
    groups = [_word_errors(split, by_name, found) for found in heard.values()]
    groups += [_perplexities(by_name, found) for found in scored.values()]
    return groups, without


def _word_errors(split: str, runs: dict[str, RunFolder], found: dict[str, list[Hypothesis]]) -> Group:
    control = next(iter(found.values()))
    words = total(score_hypotheses(control)).words
    if not words:
        file = runs[next(iter(found))].hypotheses_file(split)
        raise DataError(f"{file}: expected utterances with words to hear, found none")
    order = {h.id: i for i, h in enumerate(control)}
    found = {name: sorted(hypotheses, key=lambda h: order[h.id]) for name, hypotheses in found.items()}
    clusters = clusters_of(control)
    systems = []
    for name, hypotheses in found.items():
        scored = score_hypotheses(hypotheses)
        counts = total(scored)
        interval = wer_interval(scored, *clusters) if len(scored) > 1 else (counts.wer, counts.wer)
        systems.append(System(runs[name], counts.wer, interval, counts))
    for k, hypotheses in enumerate(list(found.values())[1:], start=1):
        if len(control) > 1:
            systems[k] = replace(systems[k], difference=_wer_difference(control, hypotheses, systems[k].run.bits or 32))
    return Group("WER", split, words, len(control), _corrected(systems), found)


def _wer_difference(control: list[Hypothesis], other: list[Hypothesis], bits: float) -> Difference:
    references = {h.id: h.reference or "" for h in control}
    relative = relative_wer_difference([score_hypotheses(control)], [score_hypotheses(other)], *clusters_of(control))
    test = mapsswe(references, {h.id: h.text for h in other}, {h.id: h.text for h in control})
    return replace(_difference(relative, wer_margin(bits)), p=test.p)


def _perplexities(runs: dict[str, RunFolder], found: dict[str, list[SentenceScore]]) -> Group:
    control = next(iter(found.values()))
    systems: list[System] = []
    for name, scores in found.items():
        figures = summarize(scores)
        compared = _difference(compare_perplexity([control], [scores]), PERPLEXITY_MARGIN) if systems else None
        systems.append(System(runs[name], figures.perplexity, figures.ci95, difference=compared))
    words = sum(score.words for score in control)
    return Group("perplexity", "text", words, len(control), tuple(systems), {})


def _difference(found: RelativeDifference, margin: float) -> Difference:
    return Difference(found.estimate, found.lower(0.975), found.upper(0.975), verdict(found, margin))


def _corrected(systems: list[System]) -> tuple[System, ...]:
    """p-values corrected by Holm over the systems."""
    compared = [s.difference for s in systems if s.difference is not None]
    adjusted = iter(holm([d.p or 0.0 for d in compared]).tolist())
    return tuple(
        s if s.difference is None else replace(s, difference=replace(s.difference, p_holm=next(adjusted)))
        for s in systems
    )
