"""Systems against a control on the same utterances: the figures of docs/design.md, section 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import relative_wer_difference, wer_difference_interval, wer_interval
from sottovoce.evaluation.mapsswe import Mapsswe, mapsswe
from sottovoce.evaluation.mcnemar import McNemar, mcnemar_test
from sottovoce.evaluation.noninferiority import Verdict, holm, verdict
from sottovoce.evaluation.wer import ScoredUtterance, WordErrors, score, total
from sottovoce.progress import Progress

Texts = Mapping[str, str]


@dataclass(frozen=True)
class SystemErrors:
    """One system: its counts, and the 95 % interval of its WER in percent."""

    name: str
    errors: WordErrors
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """A system less the control. ``points``: of WER, in percent, with the 95 % interval ``ci95``; ``p_holm``: of
    MAPSSWE and of McNemar's test, each corrected over the systems that are compared."""

    system: str
    points: float
    ci95: tuple[float, float]
    mapsswe: Mapsswe
    mcnemar: McNemar
    p_holm: tuple[float, float]
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """The systems in their order, the control first, and the differences of the others."""

    systems: tuple[SystemErrors, ...]
    differences: tuple[Difference, ...]


def compare_systems(
    references: Texts,
    systems: Mapping[str, Texts],
    *,
    margin: float,
    speakers: Texts | None = None,
    recordings: Texts | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Compare each system with the first; all map utterance to text, as it is to be scored.

    ``margin``: of non-inferiority, a fraction of the control's errors. Intervals are by a bootstrap over speakers, or
    recordings, as ``cluster_ids`` takes them. ``progress`` is told how many bootstraps of how many are done.

    Raises DataError naming the system and an utterance that it lacks or has too many, and for fewer than two systems or
    utterances.
    """
    if len(systems) < 2:
        raise DataError(f"compare: expected at least two systems, found {len(systems)}")
    scored = {name: _scored(name, references, texts) for name, texts in systems.items()}
    control, *others = systems
    figures, differences = list[SystemErrors](), list[Difference]()
    steps = len(scored) + len(others)
    for name, found in scored.items():
        figures.append(SystemErrors(name, total(found), wer_interval(found, speakers, recordings, seed=seed)))
        progress(len(figures), steps)
    for name in others:
        pair, texts = (scored[control], scored[name]), (systems[name], systems[control])
        relative = relative_wer_difference([pair[0]], [pair[1]], speakers, recordings, seed=seed)
        differences.append(
            Difference(
                system=name,
                points=total(pair[1]).wer - total(pair[0]).wer,
                ci95=wer_difference_interval(*pair, speakers, recordings, seed=seed),
                mapsswe=mapsswe(references, *texts),
                mcnemar=mcnemar_test(references, *texts),
                p_holm=(1.0, 1.0),
                verdict=verdict(relative, margin),
            )
        )
        progress(len(figures) + len(differences), steps)
    return Comparison(tuple(figures), _corrected(differences))


def _scored(name: str, references: Texts, texts: Texts) -> list[ScoredUtterance]:
    try:
        return score(references, texts)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _corrected(differences: list[Difference]) -> tuple[Difference, ...]:
    first = holm([found.mapsswe.p for found in differences]).tolist()
    second = holm([found.mcnemar.p for found in differences]).tolist()
    return tuple(
        replace(found, p_holm=pair) for found, pair in zip(differences, zip(first, second, strict=True), strict=True)
    )
