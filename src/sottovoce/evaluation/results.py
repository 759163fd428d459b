"""Rows of a results file: each system's WER with its evidence against the float32 control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sottovoce.errors import DataError
from sottovoce.evaluation.bootstrap import relative_wer_difference, wer_interval
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.mapsswe import mapsswe
from sottovoce.evaluation.noninferiority import holm, verdict, wer_margin
from sottovoce.evaluation.wer import ScoredUtterance, score, total
from sottovoce.packed import FileSizes


@dataclass(frozen=True)
class System:
    """What one model file made of a split: its hypotheses with references and speakers, and its sizes.

    ``system`` names the method, ``bits`` those of its weights (32 for float32), ``seed`` its training.
    """

    system: str
    bits: int
    seed: int
    hypotheses: Sequence[Hypothesis]
    sizes: FileSizes


@dataclass(frozen=True)
class ResultRow:
    """One line of ``results.json``; wer and ci95 in percent, mapsswe_p and verdict against the reference of the same
    seed."""

    system: str
    bits: int
    seed: int
    split: str
    reference: str
    wer: float
    errors: int
    words: int
    substitutions: int
    insertions: int
    deletions: int
    ci95: tuple[float, float]
    file_bytes: int
    model_bytes: int
    fp32_bytes: int
    mapsswe_p: float | None
    mapsswe_p_holm: float | None
    relative_difference: float | None
    relative_upper: float | None
    margin: float | None
    smallest_detectable: float | None
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def result_rows(systems: Sequence[System], split: str, reference: str = "fp32") -> list[ResultRow]:
    """Judge each system against the one named ``reference`` of its seed, on the same utterances.

    Raises DataError when a seed has no reference, or utterances have no reference text or differ between systems.
    """
    controls = {s.seed: s for s in systems if s.system == reference}
    lacking = next((s for s in systems if s.seed not in controls), None)
    if lacking is not None:
        raise DataError(
            f"results: expected a system named {reference!r} of seed {lacking.seed}, as that of {lacking.system}; "
            f"found {', '.join(f'{s.system} (seed {s.seed})' for s in systems)}"
        )
    rows = [_row(system, controls[system.seed], split) for system in systems]
    tested = [i for i, row in enumerate(rows) if row.mapsswe_p is not None]
    adjusted = holm([rows[i].mapsswe_p or 0.0 for i in tested])
    for i, p in zip(tested, adjusted.tolist(), strict=True):
        rows[i] = replace(rows[i], mapsswe_p_holm=p)
    return rows


def score_hypotheses(hypotheses: Sequence[Hypothesis]) -> list[ScoredUtterance]:
    """Score hypotheses that carry their references. Raises DataError naming one that does not."""
    return score(_references(hypotheses), {h.id: h.text for h in hypotheses})


def clusters_of(hypotheses: Sequence[Hypothesis]) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """Speaker and recording of each utterance; None where one of them has none."""
    speakers = {h.id: h.speaker for h in hypotheses if h.speaker}
    recordings = {h.id: h.recording for h in hypotheses if h.recording}
    known = [found if len(found) == len(hypotheses) else None for found in (speakers, recordings)]
    return known[0], known[1]


def _references(hypotheses: Sequence[Hypothesis]) -> dict[str, str]:
    for h in hypotheses:
        if h.reference is None:
            raise DataError(f"hypothesis {h.id!r}: expected its reference text beside it, found none")
    return {h.id: h.reference or "" for h in hypotheses}


def _row(system: System, control: System, split: str) -> ResultRow:
    clusters = clusters_of(system.hypotheses)
    scored = score_hypotheses(system.hypotheses)
    counts = total(scored)
    compared = _compare(system, control, scored, clusters) if system is not control else _of_the_control()
    return ResultRow(
        system=system.system,
        bits=system.bits,
        seed=system.seed,
        split=split,
        reference=control.system,
        wer=round(counts.wer, 4),
        errors=counts.errors,
        words=counts.words,
        substitutions=counts.substitutions,
        insertions=counts.insertions,
        deletions=counts.deletions,
        ci95=wer_interval(scored, *clusters),
        file_bytes=system.sizes.file_bytes,
        model_bytes=system.sizes.model_bytes,
        fp32_bytes=system.sizes.fp32_bytes,
        **compared,
    )


def _of_the_control() -> dict[str, Any]:
    unknown = ("mapsswe_p", "mapsswe_p_holm", "relative_difference", "relative_upper", "margin", "smallest_detectable")
    return {**dict.fromkeys(unknown), "verdict": "reference"}


def _compare(
    system: System,
    control: System,
    scored: list[ScoredUtterance],
    clusters: tuple[dict[str, str] | None, dict[str, str] | None],
) -> dict[str, Any]:
    references = _references(control.hypotheses)
    test = mapsswe(references, {h.id: h.text for h in system.hypotheses}, {h.id: h.text for h in control.hypotheses})
    difference = relative_wer_difference([score_hypotheses(control.hypotheses)], [scored], *clusters)
    judged = verdict(difference, wer_margin(system.bits))
    return {
        "mapsswe_p": test.p,
        "mapsswe_p_holm": None,
        "relative_difference": _finite(judged.relative_difference),
        "relative_upper": _finite(judged.upper),
        "margin": judged.margin,
        "smallest_detectable": _finite(judged.smallest_detectable),
        "verdict": judged.kind,
    }


def _finite(value: float) -> float | None:
    """None for what has no number, as where the control made no error; JSON holds no infinity."""
    return value if math.isfinite(value) else None
