"""What runs come to in a sentence, the same for the page and for the commands that print it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sottovoce.report.markup import signed
from sottovoce.report.runs import RunFolder
from sottovoce.report.systems import Group, System, is_smaller, smallest


def chosen(group: Group) -> System | None:
    """The smallest system that is non-inferior to the control and smaller; no other can be said to have kept it."""
    return smallest(_kept(group))


def named(group: Group) -> System | None:
    """The system of the headline: the chosen one, else of the smaller ones that are not shown to lose, or of all the
    smaller ones, the one with the least error."""
    smaller = [s for s in group.systems[1:] if s.difference and is_smaller(s, group.control)]
    open_ = [s for s in smaller if s.difference and s.difference.verdict.kind == "not resolved"]
    return chosen(group) or min(open_ or smaller, key=lambda system: system.error, default=None)


def headline(group: Group) -> str:
    """A sentence on the group: its only system, or the named one against the control."""
    control, system = group.control, named(group)
    if len(group.systems) == 1:
        low, high = control.ci95
        return (
            f"{control.run.name}: {_measure(group)} {group.written(control.error)} "
            f"(95 % interval {low:.2f} to {high:.2f}) on {group.words:,} words of {group.split}, "
            f"in {_megabytes(control)}."
        )
    if system is None:
        return (
            f"No system here is both smaller than {control.run.name} and compared with its {_measure(group)} "
            f"of {group.written(control.error)} on {group.words:,} words."
        )
    return judged(group, system)


def judged(group: Group, system: System) -> str:
    """What a smaller system gains in bytes, and what its verdict allows to be said of its errors.

    ``system``: one of the group's that was compared with the control.
    """
    control, d = group.control, system.difference
    assert d is not None
    margin = f"{100 * d.verdict.margin:g} %"
    both = f"{group.written(system.error)} against {group.written(control.error)}"
    said = {
        "non-inferior": f", and keeps its {_measure(group)}: {both}, non-inferior at a margin of {margin}.",
        "not resolved": f"; whether it keeps the {_measure(group)} of {group.written(control.error)} is not resolved: "
        f"{signed(d.estimate)} % ({signed(d.low)} to {_upper(d.high)}), margin {margin}.",
        "worse": f", and its {_measure(group)} is worse: {both}; whether by more than the margin of {margin} is not "
        "resolved.",
        "inferior": f", and does not keep its {_measure(group)}: {both}, inferior at a margin of {margin}.",
    }[d.verdict.kind]
    return (
        f"{system.run.name} is {_times(control.bytes / system.bytes)} smaller than {control.run.name}, "
        f"{_megabytes(system)} instead of {_megabytes(control)}{said}"
    )


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio >= 1.1 else f"{100 * (1 - 1 / ratio):.1f} %"


def _upper(high: float) -> str:
    return f"{signed(high)} %" if math.isfinite(high) else "no upper bound"


def note(group: Group, groups: Sequence[Group]) -> str:
    """What stands under the headline: what was compared, why the named system is named, why the group stands apart."""
    found = []
    if len(group.systems) > 1:
        detail = "" if group.measure == "perplexity" else f" of {group.split}, {counted(group.utterances, 'utterance')}"
        count = counted(len(group.systems) - 1, "system")
        found.append(f"{count} against {group.control.run.name} on {group.words:,} words{detail}.")
        found.append(_why_named(group))
    first = next(other for other in groups if other.measure == group.measure)
    found.append("" if group is first else _apart(group, first))
    return " ".join(filter(None, found))


def unmeasured(runs: Sequence[RunFolder]) -> str:
    """A sentence on runs that nothing was measured of."""
    finished = [run for run in runs if run.sizes]
    if not finished:
        return f"{counted(len(runs), 'run')} in training: nothing is packed yet."
    run = min(finished, key=lambda run: run.sizes.model_bytes if run.sizes else math.inf)
    assert run.sizes is not None
    size = f"{run.sizes.model_bytes / 1e6:.2f} MB"
    ratio = run.sizes.fp32_bytes / run.sizes.model_bytes
    size += " in float32" if run.bits == 32 else f", {ratio:.1f} times less than in float32"
    return f"{run.name} takes {size}; its errors are not measured yet."


def counted(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _kept(group: Group) -> list[System]:
    compared = [s for s in group.systems[1:] if s.difference and s.difference.verdict.kind == "non-inferior"]
    return [system for system in compared if is_smaller(system, group.control)]


def _why_named(group: Group) -> str:
    kept, system = len(_kept(group)), named(group)
    if kept > 1:
        return f"The headline names the smallest of the {kept} that are non-inferior."
    if kept or system is None or len(group.systems) == 2:
        return ""
    which = "not shown to lose" if system.difference and system.difference.verdict.kind == "not resolved" else "smaller"
    return (
        f"None that is smaller is shown to keep it; the headline names the one with the least error of those {which}."
    )


def _apart(group: Group, first: Group) -> str:
    """Why a group is not compared with the first of its measure."""
    name, other = group.control.run.name, first.control.run.name
    text = f"{name} was measured on another text than {other}, so they are not compared"
    if group.measure == "perplexity":
        return f"{text}: {group.words:,} words instead of {first.words:,}."
    own, theirs = (
        {(h.id, h.reference) for h in g.hypotheses[g.control.run.name]} for g in (group, first)
    )  # fmt: skip
    return f"{text}: it heard {len(own):,} utterances, {len(own & theirs):,} of them among {other}'s {len(theirs):,}."


def _measure(group: Group) -> str:
    return "word error rate" if group.measure == "WER" else "perplexity"


def _megabytes(system: System) -> str:
    return f"{system.bytes / 1e6:.2f} MB" if system.bytes >= 1e5 else f"{system.bytes / 1e3:.1f} kB"
