"""Tables and plots that set runs side by side."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from sottovoce.errors import DataError
from sottovoce.report.markup import Markup, element, join
from sottovoce.report.plots import SERIES, Axis, Line, Point, legend, lines, scatter, svg
from sottovoce.report.runs import RunFolder
from sottovoce.report.systems import Group, System

_DIFFERENCE, _VERDICT, _LATENCY = "against the control", "verdict", "P50 ms a frame"
_LEFT = (_DIFFERENCE, _VERDICT)


def series_of(runs: Sequence[RunFolder]) -> dict[str, int]:
    """A colour for each scheme, in the order of the runs; float has the first."""
    names = ["float", *dict.fromkeys(run.scheme for run in runs if run.scheme != "float")]
    return {name: k % SERIES for k, name in enumerate(names)}


def systems_table(group: Group, chosen: System | None) -> Markup:
    """One row a system; the chosen one stands out. Columns that no system has anything in are left out."""
    series = series_of([system.run for system in group.systems])
    reach = _reach(group.systems)
    rows = [(system, _cells(system, group, reach)) for system in group.systems]
    names = [name for name in rows[0][1] if any(cells[name] for _, cells in rows)]
    heads = (element("th", name, scope="col", class_="left" if name in _LEFT else None) for name in ("system", *names))
    body = [
        element(
            "tr",
            element("th", element("span", class_=f"key s{series[system.run.scheme]}"), system.run.name, scope="row"),
            *(_cell(name, cells[name]) for name in names),
            class_="chosen" if system is chosen else None,
        )
        for system, cells in rows
    ]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *body), class_="systems")
    note = element("p", _explained(group), class_="note")
    return join(element("div", table, class_="scroll"), note, _untimed([system.run for system in group.systems]))


def _explained(group: Group) -> str:
    text = "Intervals are at 95 %, from a bootstrap over speakers or conversations, or utterances where these are few. "
    if len(group.systems) > 1:
        text += f"Differences are relative to {group.control.run.name} and paired; the shaded band ends at the margin. "
        if group.measure == "WER":
            text += "p is MAPSSWE's, two-sided, corrected by Holm over the systems. "
    return text + ("S, I, D: substitutions, insertions, deletions." if group.measure == "WER" else "")


def _untimed(runs: Sequence[RunFolder]) -> Markup | None:
    """What would measure the latency that runs lack; language models have none of their own."""
    missing = [run for run in runs if _latency(run) is None and not run.is_language_model]
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
    latency, sizes = _latency(run), run.sizes
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
        _LATENCY: "" if latency is None else f"{latency:.3f}",
    }


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _signed(share: float) -> str:
    """A fraction as percent, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def _latency(run: RunFolder) -> float | None:
    """P50 of a frame in ms, as ``bench --json`` left it."""
    found = (run.json("bench.json") or {}).get("latency_ms") if run.measured("bench.json") else None
    if found is None:
        return None
    try:
        return float(found["p50"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run.folder / 'bench.json'}: expected latency_ms with p50, found {found!r}") from error


def _reach(systems: Sequence[System]) -> float:
    """Half the width of the plots of differences: one for all rows."""
    ends = [abs(v) for s in systems if s.difference for v in (s.difference.low, s.difference.high)]
    return max((v for v in ends if math.isfinite(v)), default=0.1) * 1.08 or 0.1


def _forest(system: System, reach: float) -> Markup:
    """Estimate and interval about zero, with the band up to the margin."""
    d = system.difference
    assert d is not None
    words, interval = f"{_signed(d.estimate)} %", f"{_signed(d.low)} to {_signed(d.high)} %"
    if not all(map(math.isfinite, (d.estimate, d.low, d.high))):
        return join(words, element("small", interval))
    x = Axis(-reach, reach, 2, 130)
    kind = "s3" if d.verdict.kind in ("inferior", "worse") else "s0"
    marks = [
        element(
            "rect", x=x(-reach), width=x(min(d.verdict.margin, reach)) - x(-reach), y=0, height=20, class_="margin"
        ),
        element("line", x1=x(0), x2=x(0), y1=0, y2=20, class_="zero"),
        element("line", x1=x(d.low), x2=x(d.high), y1=10, y2=10, class_=f"curve {kind}"),
        element("circle", cx=x(d.estimate), cy=10, r=3.2, class_=f"dot {kind}"),
        element("title", f"{words} ({interval}), margin {100 * d.verdict.margin:g} %"),
    ]
    drawing = svg(132, 20, join(*marks), label=f"{words}, 95 % interval {interval}", class_="forest")
    return join(drawing, element("small", f"{words} ({interval})"))


def error_against_size(group: Group) -> Markup:
    """Error over bytes, and where it was measured over latency, with the fronts."""
    series = series_of([system.run for system in group.systems])
    y_title = "WER %" if group.measure == "WER" else "perplexity"
    sizes = [(system, (system.run.sizes.model_bytes if system.run.sizes else 1) / 1e6) for system in group.systems]
    plots = [
        element(
            "figure",
            scatter(_points(sizes, group, series), "MB, without the tokenizer", y_title, label="error against size"),
        )
    ]
    timed = [(system, latency) for system in group.systems if (latency := _latency(system.run))]
    if timed:
        drawing = scatter(_points(timed, group, series), "P50 ms a frame, here", y_title, label="error against latency")
        plots.append(element("figure", drawing))
    used = [(name, k) for name, k in series.items() if any(system.run.scheme == name for system in group.systems)]
    note = "Numbers are bits a weight. The dotted line is the front: nothing measured here is both smaller and better. "
    note += (
        f"Whiskers are the paired 95 % interval of the difference from {group.control.run.name}."
        if len(sizes) > 1
        else ""
    )
    return join(legend(used), element("div", *plots, class_="columns"), element("p", note, class_="note"))


def _points(found: Sequence[tuple[System, float]], group: Group, series: dict[str, int]) -> list[Point]:
    points = []
    for system, x in found:
        d, name = system.difference, system.run.name
        ends = (None, None) if d is None else tuple(group.control.error * (1 + v) for v in (d.low, d.high))
        title = f"{name}: {group.written(system.error)}, {x:.3g}"
        label = f"{system.run.bits:.3g}"
        points.append(Point(x, system.error, label, title, series[system.run.scheme], ends[0], ends[1]))
    return points


def level_shares(runs: Sequence[RunFolder], start: RunFolder) -> Markup:
    """Share of the weights on a level over training, of every run that recorded it. ``start``: the run that compression
    would begin from."""
    series, curves, seen = series_of(runs), [], dict[str, int]()
    for run in runs:
        rows = run.json_lines("levels.jsonl")
        try:
            points = [(float(row["step"]), float(row["share"])) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{run.folder / 'levels.jsonl'}: expected step and share ({error})") from error
        if points:
            dash = seen[run.scheme] = seen.get(run.scheme, -1) + 1
            curves.append(Line(run.name, series[run.scheme], points, dash % 3))
    if not curves:
        command = f"sottovoce compress {shlex.quote(str(start.folder))} --scheme s8bqat"
        return element(
            "p",
            "None of the runs recorded it while it trained; training again does: ",
            element("code", command),
            class_="absent",
        )
    text = (
        "Share of the weights within 1/1024 of a level while training goes on. What is left is rounded at the end, so "
        "that in the file every weight is on a level. Methods that train through rounded weights need not bring the "
        "weights beneath to a level."
    )
    drawing = lines(curves, "optimizer steps", "on a level", label="share of weights on a level over training")
    return join(element("p", text, class_="note"), element("figure", drawing))
