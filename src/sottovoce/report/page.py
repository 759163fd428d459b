"""The report: one page of HTML with its style inside, and nothing that is fetched."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from sottovoce.packed import trained_hash
from sottovoce.packed.replacing import replacing
from sottovoce.report.figures import error_against_size, level_shares, systems_table
from sottovoce.report.markup import Markup, element
from sottovoce.report.provenance import provenance
from sottovoce.report.runs import RunFolder, open_runs
from sottovoce.report.sections import errors, layers, sensitivities, weights
from sottovoce.report.systems import Group, System, measured, split_of

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def write_report(
    given: Sequence[str], out: Path, *, utterances: int = 30, recordings: int = 10, made_by: str = "sottovoce"
) -> list[RunFolder]:
    """Write the report on run folders to ``out``, whole or not at all; returns the runs that it shows.

    ``given`` as ``open_runs`` takes them; ``utterances``: aligned ones to show, ``recordings``: of them with sound;
    ``made_by``: program and version, for the foot of the page.
    Raises ConfigError, DataError or FormatError for folders and files that cannot be used.
    """
    runs = open_runs(given)
    page = report(runs, utterances=utterances, recordings=recordings, made_by=made_by)
    with replacing(out) as stream:
        stream.write(page.encode())
    return runs


def report(runs: Sequence[RunFolder], *, utterances: int = 30, recordings: int = 10, made_by: str = "sottovoce") -> str:
    """The page. A section for which the runs hold nothing names the command that makes it."""
    shown, origins = _without_origins(runs)
    groups, unmeasured = measured(shown)
    chosen = [_chosen(group) for group in groups]
    focus = _focus(groups, shown)
    start = next((run for run in (*origins, *shown) if run.bits == 32), shown[0])
    headlines = [_headline(group, system) for group, system in zip(groups, chosen, strict=True)]
    headlines = headlines or [_unmeasured_headline(shown)]
    sections = [
        (
            "systems",
            "Systems",
            [systems_table(g, c) for g, c in zip(groups, chosen, strict=True)] + _unmeasured(unmeasured),
        ),
        ("size", "Error against size", [error_against_size(group) for group in groups] or [_nothing(shown)]),
        ("bits", "Bits of each layer", layers(shown)),
        ("weights", "Weights and their levels", weights(shown, focus, start)),
        ("training", "On the way to the levels", [level_shares(shown, start)]),
        ("sensitivity", "Sensitivity", sensitivities([*origins, *shown])),
        (
            "errors",
            "What was heard",
            [e for g in groups for e in errors(g, utterances, recordings)] or [_nothing(shown)],
        ),
        ("provenance", "Provenance", provenance([*origins, *shown])),
    ]
    links = element("nav", *(element("a", title, href=f"#{key}") for key, title, _ in sections), aria_label="sections")
    kicker = element("p", f"Sottovoce report · {_counted(shown)}", class_="kicker")
    body = [kicker, *(element("h1", text) for text in headlines), *map(_note, groups), links]
    body += [element("section", element("h2", title), *content, id=key) for key, title, content in sections]
    body.append(
        element(
            "footer",
            f"Made by {made_by} from the runs' own files.",
        )
    )
    return "<!doctype html>\n" + element(
        "html", _head(headlines[0]), element("body", element("main", *body)), lang="en"
    )


def _head(description: str) -> Markup:
    style = Markup(files("sottovoce.report").joinpath("page.css").read_text(encoding="utf-8"))
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="description", content=description),
        element("link", rel="icon", href="data:,"),
        element("title", "Sottovoce report"),
        element("style", style),
    )


def _without_origins(runs: Sequence[RunFolder]) -> tuple[list[RunFolder], list[RunFolder]]:
    """Runs to show, and those of which nothing was measured that others began from."""
    begun = {run.config.get("base") for run in runs} - {None}
    split = split_of(runs)

    def is_origin(run: RunFolder) -> bool:
        unmeasured = run.hypotheses(split) is None and run.scores() is None
        return unmeasured and run.file.exists() and trained_hash(run.file) in begun

    origins = [run for run in runs if begun and is_origin(run)]
    return [run for run in runs if run not in origins] or list(runs), origins


def _chosen(group: Group) -> System | None:
    """The smallest system that is non-inferior to the control and smaller; no other can be said to have kept it."""
    return min(_kept(group), key=_bytes, default=None)


def _kept(group: Group) -> list[System]:
    compared = [s for s in group.systems[1:] if s.difference and s.difference.verdict.kind == "non-inferior"]
    return [system for system in compared if _bytes(system) < _bytes(group.control)]


def _focus(groups: Sequence[Group], runs: Sequence[RunFolder]) -> RunFolder | None:
    """The run whose weights are shown first: the headline's, else the smallest."""
    chosen = next((system.run for group in groups if (system := _chosen(group))), None)
    packed = [run for run in runs if run.model is not None and run.bits != 32]
    return chosen or min(packed, key=lambda run: run.sizes.model_bytes if run.sizes else math.inf, default=None)


def _headline(group: Group, chosen: System | None) -> str:
    control = group.control
    if len(group.systems) == 1:
        low, high = control.ci95
        return (
            f"{control.run.name}: {_measure(group)} {group.written(control.error)} "
            f"(95 % interval {low:.2f} to {high:.2f}) on {group.words:,} words of {group.split}, "
            f"in {_megabytes(control)}."
        )
    if chosen is None or chosen.difference is None:
        return (
            f"No system here is smaller than {control.run.name} and shown to keep its {_measure(group)} "
            f"of {group.written(control.error)} on {group.words:,} words."
        )
    ratio = _bytes(control) / _bytes(chosen)
    return (
        f"{chosen.run.name} is {ratio:.1f} times smaller than {control.run.name}, {_megabytes(chosen)} instead of "
        f"{_megabytes(control)}, and keeps its {_measure(group)}: {group.written(chosen.error)} against "
        f"{group.written(control.error)}, non-inferior at a margin of {100 * chosen.difference.verdict.margin:g} %."
    )


def _note(group: Group) -> Markup | None:
    if len(group.systems) < 2:
        return None
    compared = group.systems[1:]
    kept = len(_kept(group))
    which = f" The headline names the smallest of the {kept} that are non-inferior." if kept > 1 else ""
    detail = "" if group.measure == "perplexity" else f" of {group.split}, {group.utterances:,} utterances"
    return element(
        "p",
        f"{len(compared)} systems against {group.control.run.name} on {group.words:,} words{detail}.{which}",
        class_="note",
    )


def _unmeasured_headline(runs: Sequence[RunFolder]) -> str:
    finished = [run for run in runs if run.sizes]
    if not finished:
        return f"{_counted(runs)} in training: nothing is packed yet."
    run = min(finished, key=lambda run: run.sizes.model_bytes if run.sizes else math.inf)
    assert run.sizes is not None
    ratio = run.sizes.fp32_bytes / run.sizes.model_bytes
    size = f"{run.sizes.model_bytes / 1e6:.2f} MB, {ratio:.1f} times less than float32"
    return f"{run.name} takes {size}; its errors are not measured yet."


def _unmeasured(runs: Sequence[RunFolder]) -> list[Markup]:
    found = [(run.name, *_missing(run)) for run in runs]
    return [element("p", f"{name}: {why} ", element("code", command), class_="absent") for name, why, command in found]


def _nothing(runs: Sequence[RunFolder]) -> Markup:
    return _unmeasured(runs[:1])[0]


def _missing(run: RunFolder) -> tuple[str, str]:
    """Why there is no error of a run, and the command that measures it."""
    folder = shlex.quote(str(run.folder))
    if run.model is None:
        return (
            "not finished; the command that began it goes on:",
            f"sottovoce {'compress' if run.config.get('base') else 'train'} ...",
        )
    if run.is_language_model:
        return (
            "the perplexity of its file is not measured yet:",
            f"sottovoce evaluate {folder} --scores {folder}/scores.jsonl",
        )
    return (
        "the word errors of its file are not measured yet:",
        f"sottovoce evaluate {folder} --hypotheses {folder}/test.jsonl",
    )


def _measure(group: Group) -> str:
    return "word error rate" if group.measure == "WER" else "perplexity"


def _bytes(system: System) -> int:
    return system.run.sizes.model_bytes if system.run.sizes else 0


def _megabytes(system: System) -> str:
    size = _bytes(system)
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _counted(runs: Sequence[RunFolder]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"
