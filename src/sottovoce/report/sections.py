"""Sections on what is inside the runs: bits, weights, sensitivities, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sottovoce.packed import PackedMatrix
from sottovoce.report.audio import players
from sottovoce.report.errors import card, heard
from sottovoce.report.markup import Markup, element
from sottovoce.report.network import draw, same_bits
from sottovoce.report.runs import RunFolder
from sottovoce.report.sensitivity import heat_map, of_role
from sottovoce.report.systems import Group
from sottovoce.report.weights import histogram


def layers(runs: Sequence[RunFolder]) -> list[Markup]:
    """A drawing for each different way in which bits are given; runs that share one share the drawing."""
    drawn: list[tuple[RunFolder, list[str], object]] = []
    for run in runs:
        if run.model is None or (run.bits == 32 and any(_compressed_like(run, other) for other in runs)):
            continue
        key = same_bits(run.model)
        same = next((names for _, names, found in drawn if found == key), None)
        if same is None:
            drawn.append((run, [run.name], key))
        else:
            same.append(run.name)
    if not drawn:
        return [
            _absent("No run has a model file yet; this ends with one: ", "sottovoce train RECIPE --data DATA --out RUN")
        ]
    note = (
        "A bar is as long as the bits of its weights, eight for the whole width; bands of rows lie one below the other."
    )
    figures = [
        element("figure", draw(run.model, ", ".join(names)), element("figcaption", _caption(run, names)))
        for run, names, _ in drawn
        if run.model is not None
    ]
    return [element("p", note, class_="note"), element("div", *figures, class_="columns")]


def _compressed_like(run: RunFolder, other: RunFolder) -> bool:
    """Whether the other is a compressed model of the same kind."""
    return other.model is not None and other.bits != 32 and other.is_language_model == run.is_language_model


def _caption(run: RunFolder, names: Sequence[str]) -> str:
    size = "" if run.sizes is None else f": {run.bits:.3g} bits a weight, {run.sizes.model_bytes:,} bytes"
    return ", ".join(names) + size


def weights(runs: Sequence[RunFolder], focus: RunFolder | None, start: str) -> list[Markup | None]:
    """Histograms of every compressed run, one run open; ``focus`` is it where it recorded them.
    ``start``: the folder that compression would begin from."""
    found = {run.name: drawn for run in runs if (drawn := _histograms(run))}
    if not found:
        text = "No histograms were kept; compressing a 32-bit run keeps them: "
        return [_absent(text, f"sottovoce compress {start} --bits 4")]
    first = focus.name if focus is not None and focus.name in found else next(iter(found))
    kinds = {
        "before": "before compression",
        "trained": "trained, before the last rounding",
        "levels": "levels in the file",
    }
    seen = "".join(drawing for drawn in found.values() for drawing in drawn)
    used = [(kind, text) for kind, text in kinds.items() if f'class="{kind}' in seen]
    items = [element("li", element("span", class_=f"swatch {kind}"), text) for kind, text in used]
    legend = element("ul", *items, class_="legend")
    blocks = [
        element(
            "details", element("summary", name), element("div", *found[name], class_="histograms"), open=name == first
        )
        for name in (first, *(name for name in found if name != first))
    ]
    note = "Heights are densities: a level as high as the curve holds the weights that the curve has around it."
    others = [name for name in found if name != first]
    unprinted = f"On paper stand those of {first}; the page on a screen opens those of {', '.join(others)}."
    return [
        element("p", note, class_="note"),
        element("p", unprinted, class_="note paper") if others else None,
        legend,
        *blocks,
    ]


def _histograms(run: RunFolder) -> list[Markup]:
    recorded = run.json("weights.json")
    if run.model is None or recorded is None:
        return []
    before, trained = recorded.get("before") or {}, recorded.get("trained") or {}
    drawn = []
    for name, tensor in run.model.tensors.items():
        if isinstance(tensor, PackedMatrix) and name in before:
            stages = {"before": before[name]} | ({"trained": trained[name]} if name in trained else {})
            drawn.append(histogram(name, tensor, stages))
    return drawn


def sensitivities(runs: Sequence[RunFolder], start: str) -> list[Markup]:
    """The table of every run that was searched. ``start``: the folder that a search would begin from."""
    found = []
    for run in runs:
        for file, table in _searched(run):
            text = f"{run.name}, by {table.get('metric')}: the stronger the colour, the more it suffers, by logarithm; "
            text += "framed is what its plan chose."
            found += [element("p", text, class_="note"), heat_map(table, run.json("plan.json"), file)]
    if found:
        return found
    text = "No run was searched for the bits of its layers yet; a 32-bit run can be: "
    return [_absent(text, f"sottovoce search {start} --average-bits 4")]


def _searched(run: RunFolder) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The table of its own search, and its part of one that it shared a budget in, with the files that hold them."""
    own, joint = "sensitivity.json", "joint_sensitivity.json"
    if (found := run.json(own)) is not None:
        yield run.folder / own, found
    if (found := run.json(joint)) is not None:
        file = run.folder / joint
        yield file, of_role(found, "lm" if run.is_language_model else "asr", file)


def errors(group: Group, utterances: int, recordings: int) -> list[Markup]:
    """Aligned utterances with errors."""
    if group.measure != "WER":
        return []
    found = heard(group.hypotheses)
    changed = sum(h.changed for h in found)
    systems = [system.run.name for system in group.systems]
    text = f"{len(found):,} of {group.utterances:,} utterances of {group.split} have an error"
    text += f"; systems hear {changed:,} of them differently, and those come first" if len(systems) > 1 else ""
    text += f". The first {utterances} are shown." if len(found) > utterances else "."
    data = next((system.run.data for system in group.systems if system.run.data), None)
    sound = players(data, group.split, {h.id for h in found[:recordings]})
    cards = [card(h, systems, sound.get(h.id)) for h in found[:utterances]]
    return [element("p", text, class_="note"), *cards]


def _absent(text: str, command: str) -> Markup:
    return element("p", text, element("code", command), class_="absent")
