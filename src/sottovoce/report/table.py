"""The table of systems measured on the same text: error, evidence against the control, bytes, latency."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from sottovoce.report.headline import chosen
from sottovoce.report.markup import Markup, element, join, scroller, signed
from sottovoce.report.plots import Axis, key, svg
from sottovoce.report.runs import RunFolder, series_of
from sottovoce.report.systems import Group, System

_DIFFERENCE, _VERDICT, _LATENCY = "against the control", "verdict", "ms a frame"
_LEFT = (_DIFFERENCE, _VERDICT)
_MARGINS = 5  # the widest margins that a drawing of a difference reaches: a bad system hides no others
_SHORT = 18  # characters of a name that is not broken


def systems_table(group: Group) -> Markup:
    """One row a system; the chosen one stands out. Columns that no system has anything in are left out."""
    series = series_of([system.run for system in group.systems])
    reach, kept = _reach(group.systems), chosen(group)
    rows = [(system, _cells(system, group, reach)) for system in group.systems]
    names = [name for name in rows[0][1] if any(cells[name] for _, cells in rows)]
    heads = (element("th", name, scope="col", class_="left" if name in _LEFT else None) for name in ("system", *names))
    body = [
        element(
            "tr",
            _name(system.run, series[system.run.scheme]),
            *(_cell(name, cells[name]) for name in names),
            class_="chosen" if system is kept else None,
        )
        for system, cells in rows
    ]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *body), class_="systems")
    note = element("p", _explained(group), class_="note")
    return join(scroller("systems", table), note, _untimed([system.run for system in group.systems]))


def _name(run: RunFolder, series: int) -> Markup:
    text = element("span", run.name, class_="short" if len(run.name) <= _SHORT else None)
    return element("th", element("span", key(series), text, class_="named"), scope="row")


def _explained(group: Group) -> str:
    text = "Intervals are at 95 %, from a bootstrap over speakers or conversations, or utterances where these are few. "
    if len(group.systems) > 1:
        text += f"Differences are relative to {group.control.run.name} and paired; the shaded band ends at the margin, "
        text += (
            "an arrow points beyond the drawing. A verdict is a one-sided test at 95 % of one system alone: "
            "non-inferior is a loss shown to be below the margin, inferior one shown to be above it, worse a loss "
            "shown that may be either; what is not resolved may be none. It sees, four times in five, a true loss of "
            "the size in brackets. "
        )
        if group.measure == "WER":
            text += (
                "p is MAPSSWE's, two-sided, corrected by Holm over the systems, and takes utterances as its units, "
                "where verdict and interval take speakers or conversations: it may say less than they do, or more. "
            )
    if any(system.run.latency for system in group.systems):
        text += "Latency is the median of a frame, P90 what nine frames in ten stay below. "
    return text + ("S, I, D: substitutions, insertions, deletions." if group.measure == "WER" else "")


def _untimed(runs: Sequence[RunFolder]) -> Markup | None:
    """What would measure the latency that runs lack; language models have none of their own."""
    missing = [run for run in runs if run.latency is None and not run.is_language_model]
    if not missing:
        return None
    names = "these runs" if len(missing) == len(runs) > 1 else ", ".join(run.name for run in missing)
    folder = shlex.quote(str(missing[0].folder))
    command = f"sottovoce bench {folder}/model.safetensors --json {folder}/bench.json"
    text = f"The latency of {names} is not measured here yet: "
    return element("p", text, element("code", command), class_="absent")


def _cell(name: str, content: Markup | str) -> Markup:
    kinds = [kind for kind, fits in (("left", name in _LEFT), ("wide", name == _DIFFERENCE)) if fits]
    inner = element("span", content, class_="both") if content else None
    return element("td", inner, data_label=name, class_=" ".join(kinds) or None)


def _cells(system: System, group: Group, reach: float) -> dict[str, Markup | str]:
    run, c, d = system.run, system.counts, system.difference
    low, high = system.ci95
    latency, sizes = run.latency, run.sizes
    assert sizes is not None  # what was measured has a file
    kind = {"non-inferior": "good", "inferior": "bad", "worse": "bad"}.get(d.verdict.kind) if d else None
    counts = None if c is None else f"{c.substitutions} S, {c.insertions} I, {c.deletions} D"
    return {
        "bits": f"{run.bits:.3g}",
        "WER %" if c else "perplexity": join(f"{system.error:.2f}", element("small", f"{low:.1f} to {high:.1f}")),
        "errors": "" if c is None else join(f"{c.errors:,}", element("small", counts)),
        _DIFFERENCE: "" if d is None else _forest(system, reach),
        "p": "" if d is None or d.p is None or d.p_holm is None else _p_value(d.p_holm),
        _VERDICT: element("span", d.verdict.words, class_=kind) if d else "control" if len(group.systems) > 1 else "",
        "MB": f"{sizes.model_bytes / 1e6:.3g}",
        "smaller": f"{sizes.fp32_bytes / sizes.model_bytes:.1f}×",
        _LATENCY: "" if latency is None else _times(*latency),
    }


def _times(p50: float, p90: float | None) -> Markup:
    return join(f"{p50:.3f}", None if p90 is None else element("small", f"P90 {p90:.3f}"))


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _reach(systems: Sequence[System]) -> float:
    """Half the width of the drawings of differences: one for all rows."""
    found = [s.difference for s in systems if s.difference]
    ends = [abs(v) for d in found for v in (d.low, d.high)]
    widest = max((v for v in ends if math.isfinite(v)), default=0.1) * 1.08 or 0.1
    return min(widest, _MARGINS * max((d.verdict.margin for d in found), default=widest))


def _forest(system: System, reach: float) -> Markup:
    """Estimate and interval about zero, with the band up to the margin; arrows where they go on beyond ``reach``."""
    d = system.difference
    assert d is not None
    words, interval = f"{signed(d.estimate)} %", f"{signed(d.low)} to {signed(d.high)} %"
    if not all(map(math.isfinite, (d.estimate, d.low, d.high))):
        return join(words, element("small", interval))
    x = Axis(-reach, reach, 2, 130)
    low, high = (min(max(v, -reach), reach) for v in (d.low, d.high))
    kind = "s3" if d.verdict.kind in ("inferior", "worse") else "s0"
    band = x(min(d.verdict.margin, reach)) - x(-reach)
    marks = [
        element("rect", x=x(-reach), width=band, y=0, height=20, class_="margin"),
        element("line", x1=x(0), x2=x(0), y1=0, y2=20, class_="zero"),
        element("line", x1=x(low), x2=x(high), y1=10, y2=10, class_=f"curve {kind}"),
        element("path", d="M126,6l5,4l-5,4z", class_=f"dot {kind}") if d.high > reach else None,
        element("path", d="M6,6l-5,4l5,4z", class_=f"dot {kind}") if d.low < -reach else None,
        element("circle", cx=x(d.estimate), cy=10, r=3.2, class_=f"dot {kind}") if abs(d.estimate) < reach else None,
        element("title", f"{words} ({interval}), margin {100 * d.verdict.margin:g} %"),
    ]
    drawing = svg(132, 20, join(*marks), label=f"{words}, 95 % interval {interval}", class_="forest")
    return join(drawing, element("small", f"{words} ({interval})"))
