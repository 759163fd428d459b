"""The report: one page of HTML with its style inside, and nothing that is fetched."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from sottovoce.packed import trained_hash
from sottovoce.packed.replacing import replacing
from sottovoce.report.figures import error_against_size, level_shares
from sottovoce.report.headline import counted, headline, named, note
from sottovoce.report.headline import unmeasured as unmeasured_headline
from sottovoce.report.markup import Markup, element
from sottovoce.report.opening import open_runs
from sottovoce.report.provenance import provenance
from sottovoce.report.runs import RunFolder
from sottovoce.report.sections import errors, layers, sensitivities, weights
from sottovoce.report.systems import Group, measured, split_of
from sottovoce.report.table import systems_table

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
    return _without_origins(runs)[0]


def report(runs: Sequence[RunFolder], *, utterances: int = 30, recordings: int = 10, made_by: str = "sottovoce") -> str:
    """The page. A section for which the runs hold nothing names the command that makes it."""
    shown, origins = _without_origins(runs)
    groups, unmeasured = measured(shown)
    focus = _focus(groups, shown)
    float_run = next((run for run in (*origins, *shown) if run.bits == 32), None)
    start = shlex.quote(str(float_run.folder)) if float_run else "RUN"
    sections: list[tuple[str, str, Sequence[Markup | None]]] = [
        ("systems", "Systems", [*map(systems_table, groups), *_unmeasured(unmeasured)]),
        ("size", "Error against size", [error_against_size(group) for group in groups] or _unmeasured(shown[:1])),
        ("bits", "Bits of each layer", layers(shown)),
        ("weights", "Weights and their levels", weights(shown, focus, start)),
        ("training", "On the way to the levels", [level_shares(shown, start)]),
        ("sensitivity", "Sensitivity", sensitivities([*origins, *shown], start)),
        (
            "errors",
            "What was heard",
            [e for g in groups for e in errors(g, utterances, recordings)] or _unmeasured(shown[:1]),
        ),
        ("provenance", "Provenance", provenance([*origins, *shown])),
    ]
    links = element("nav", *(element("a", title, href=f"#{key}") for key, title, _ in sections), aria_label="sections")
    kicker = element("p", f"Sottovoce report · {counted(len(shown), 'run')}", class_="kicker")
    headlines = list(map(headline, groups)) or [unmeasured_headline(shown)]
    body = [kicker, *_heads(headlines, [note(group, groups) for group in groups]), links]
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


def _heads(headlines: Sequence[str], notes: Sequence[str]) -> list[Markup]:
    """Each headline with its note below it; only the first is the page's."""
    found = []
    for k, text in enumerate(headlines):
        together = re.sub(r"(?<=\d) (?=%|MB|kB)", "\u00a0", text)  # no number loses its unit
        found.append(element("p" if k else "h1", together, class_="headline"))
        found += [element("p", below, class_="note") for below in notes[k : k + 1] if below]
    return found


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
    """Runs to show, and those of which nothing was measured that others began from and nobody asked for."""
    begun = {run.config.get("base") for run in runs} - {None}
    split = split_of(runs)

    def is_origin(run: RunFolder) -> bool:
        unmeasured = run.hypotheses(split) is None and run.scores() is None
        return unmeasured and not run.asked and run.file.exists() and trained_hash(run.file) in begun

    origins = [run for run in runs if begun and is_origin(run)]
    return [run for run in runs if run not in origins] or list(runs), origins


def _focus(groups: Sequence[Group], runs: Sequence[RunFolder]) -> RunFolder | None:
    """The run whose weights are shown first: the headline's, else the smallest."""
    first = next((system.run for group in groups if (system := named(group))), None)
    packed = [run for run in runs if run.model is not None and run.bits != 32]
    return first or min(packed, key=lambda run: run.sizes.model_bytes if run.sizes else math.inf, default=None)


def _unmeasured(runs: Sequence[RunFolder]) -> list[Markup]:
    return [element("p", f"{run.name}: ", *_missing(run), class_="absent") for run in runs]


def _missing(run: RunFolder) -> tuple[str, Markup | None]:
    """Why there is no error of a run, and the command that measures it."""
    folder = shlex.quote(str(run.folder))
    if run.model is None:
        return "not finished; the command that began it, given again, goes on.", None
    what, option = ("perplexity", "scores") if run.is_language_model else ("word errors", "hypotheses")
    file = "scores.jsonl" if run.is_language_model else "test.jsonl"
    command = f"sottovoce evaluate {folder} --{option} {folder}/{file}"
    verb = "is" if run.is_language_model else "are"
    return f"the {what} of its file {verb} not measured yet: ", element("code", command)
