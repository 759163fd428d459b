"""``sottovoce compare``: word errors of several systems, with the evidence for or against a difference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sottovoce.cli.outputs import json_text
from sottovoce.cli.progress import progress_bar
from sottovoce.decoding.text import NORMALIZATIONS
from sottovoce.decoding.text_files import read_table
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.changes import Change, aligned, count_changes
from sottovoce.evaluation.compare import Comparison, Difference, SystemErrors, compare_systems
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses
from sottovoce.evaluation.normalization import TextRules, read_replacements
from sottovoce.evaluation.results import clusters_of

Texts = dict[str, str]


def compare(
    systems: Annotated[
        list[str], typer.Argument(help="Files of hypotheses, the control first; NAME=FILE gives another name.")
    ],
    reference: Annotated[
        Path | None, typer.Option(help="What was said; else the references in the control's .jsonl file.")
    ] = None,
    speakers: Annotated[Path | None, typer.Option(help="Lines of utterance and speaker (Kaldi's utt2spk).")] = None,
    margin: Annotated[float, typer.Option(min=0, help="Of non-inferiority, percent of the control's errors.")] = 2.0,
    normalize: Annotated[
        str, typer.Option(help=f"Of the text of all sides before scoring: {', '.join(NORMALIZATIONS)}.")
    ] = "plain",
    replace: Annotated[Path | None, typer.Option(help="Lines of words, a tab, and what stands for them.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A word that is left out before scoring.")] = None,
    missing_as_deletions: Annotated[
        bool, typer.Option("--missing-as-deletions", help="An utterance that a system lacks is an empty one.")
    ] = False,
    changes: Annotated[int, typer.Option(min=0, help="Most frequent changes of words to show, a system.")] = 10,
    show: Annotated[int, typer.Option(min=0, help="Changed utterances to show aligned, a system.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with every change.")] = False,
) -> None:
    """Compare systems with the first one on the same utterances.

    Files may be JSON lines (evaluate --hypotheses, transcribe --json), trn, tab-separated, Kaldi's or ESPnet's text,
    or a folder that holds one. Shown are word error rates with 95 % intervals from a bootstrap by speaker; differences
    with intervals; p-values of MAPSSWE and of McNemar's test on sentences, two-tailed and corrected by Holm over the
    systems; the verdict of non-inferiority; and which words changed.

    Examples:

        sottovoce compare fp32.jsonl 2bit.jsonl --margin 5

        sottovoce compare first=exp/a/text second=exp/b/text --reference data/test/text --speakers data/test/utt2spk
    """
    rules = TextRules(normalize, read_replacements(replace) if replace else {}, frozenset(drop or ()))
    read = _read(systems)
    references, known = _references(reference, next(iter(read.values())))
    texts = {name: _texts(name, found, references, missing_as_deletions) for name, found in read.items()}
    references, texts = rules.apply_to(references), {name: rules.apply_to(found) for name, found in texts.items()}
    by_speaker, by_recording = (_speakers(speakers, references), None) if speakers else clusters_of(known)
    options: dict[str, Any] = {"speakers": by_speaker, "recordings": by_recording, "seed": seed}
    with progress_bar(Console(stderr=True), "bootstraps") as update:
        found = compare_systems(references, texts, margin=margin / 100, progress=update, **options)
    control, *others = texts
    changed = {name: count_changes(references, texts[control], texts[name]) for name in others}
    if as_json:
        typer.echo(json_text(_report(found, changed, margin, rules)))
        return
    lines = [_sentence(system) for system in found.systems]
    for difference in found.differences:
        pair = (texts[control], texts[difference.system])
        lines += ["", *_difference(difference, control, margin), *_changes(changed[difference.system], changes)]
        lines += _aligned(references, pair, (control, difference.system), show)
    _show("\n".join(lines))


def _read(systems: Sequence[str]) -> dict[str, list[Hypothesis]]:
    found: dict[str, list[Hypothesis]] = {}
    for given in systems:
        name, equals, rest = given.partition("=")
        path = Path(rest if equals and not Path(given).exists() else given)
        name = name if path != Path(given) else path.name.split(".")[0]
        if name in found:
            name = str(path)
        if not name or name in found:
            raise ConfigError(f"{given}: expected systems with names of their own; NAME=FILE gives one")
        found[name] = read_hypotheses(path)
    return found


def _references(path: Path | None, control: list[Hypothesis]) -> tuple[Texts, list[Hypothesis]]:
    """Reference texts, and the hypotheses whose speakers and recordings count."""
    if path is not None:
        given = read_hypotheses(path)
        return {item.id: item.text for item in given}, given
    without = next((item.id for item in control if item.reference is None), None)
    if without is not None:
        raise ConfigError(f"{without}: there is no reference beside the control's hypothesis: give --reference")
    return {item.id: item.reference or "" for item in control}, control


def _texts(name: str, found: Sequence[Hypothesis], references: Texts, missing: bool) -> Texts:
    for item in found:
        if item.reference is not None and item.id in references and item.reference != references[item.id]:
            raise DataError(f"{name}: {item.id}: expected the reference of the others, found {item.reference[:40]!r}")
    texts = {item.id: item.text for item in found}
    return {**dict.fromkeys(references, ""), **texts} if missing else texts


def _speakers(path: Path, references: Texts) -> Texts:
    speakers = {id: speaker for id, (_, speaker) in read_table(path).items()}
    missing = next((id for id in references if id not in speakers), None)
    if missing is not None:
        raise DataError(f"{path}: expected a speaker of {missing!r}, found none")
    return speakers


def _sentence(system: SystemErrors) -> str:
    e, (low, high) = system.errors, system.ci95
    return (
        f"{system.name}: WER {e.wer:.2f} % [{low:.2f}, {high:.2f}], {e.errors} errors in {e.words} words "
        f"({e.substitutions} substitutions, {e.insertions} insertions, {e.deletions} deletions)"
    )


def _difference(found: Difference, control: str, margin: float) -> list[str]:
    v, (low, high), (first, second) = found.verdict, found.ci95, found.p_holm
    return [
        f"{found.system} against {control}: {found.points:+.2f} points [{low:+.2f}, {high:+.2f}], "
        f"relative {_percent(v.relative_difference)} (one-sided 95 %: {_percent(v.lower)}, {_percent(v.upper)})",
        f"  MAPSSWE: {found.mapsswe.segments} segments, Z {found.mapsswe.z:.3f}, p {found.mapsswe.p:.4f}, "
        f"Holm {first:.4f}",
        f"  McNemar: sentences wrong in one only {found.mcnemar.first_only} and {found.mcnemar.second_only}, "
        f"p {found.mcnemar.p:.4f}, Holm {second:.4f}",
        f"  {v.kind} at a margin of {margin:g} %; smallest difference that could be seen: "
        f"{_percent(v.smallest_detectable)}",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:+.2f} %" if math.isfinite(value) else "no finite value"


def _changes(found: Sequence[tuple[Change, list[str]]], limit: int) -> list[str]:
    if not limit or not found:
        return []
    total = sum(len(ids) for _, ids in found)
    better, worse = (
        sum(len(ids) for change, ids in found if sign * (change.errors[1] - change.errors[0]) > 0) for sign in (-1, 1)
    )
    lines = [
        f"  words changed in {total} places, {better} for the better and {worse} for the worse; the most frequent:"
    ]
    for change, ids in found[:limit]:
        words = " | ".join(" ".join(side) or "-" for side in (change.reference, change.first, change.second))
        lines.append(f"  {len(ids):5} x  {change.errors[1] - change.errors[0]:+d}  {words}")
    return lines


def _aligned(references: Texts, pair: tuple[Texts, Texts], names: tuple[str, str], limit: int) -> list[str]:
    lines: list[str] = []
    width = max(len(name) for name in ("reference", *names)) + 1
    for id in [id for id in references if pair[0][id].split() != pair[1][id].split()][:limit]:
        columns = aligned(references[id].split(), pair[0][id].split(), pair[1][id].split())
        widths = [max(map(len, column)) for column in columns]
        lines.append(f"  {id}")
        for row, name in enumerate(("reference", *names)):
            words = (column[row].ljust(size) for column, size in zip(columns, widths, strict=True))
            lines.append(f"    {name + ':':{width}} {' '.join(words)}".rstrip())
    return lines


def _report(
    found: Comparison, changed: Mapping[str, Sequence[tuple[Change, list[str]]]], margin: float, rules: TextRules
) -> dict[str, Any]:
    return {
        "normalization": {
            "form": rules.form,
            "replacements": {" ".join(words): " ".join(by) for words, by in rules.replacements.items()},
            "dropped": sorted(rules.dropped),
        },
        "margin": margin / 100,
        "systems": [
            {"system": s.name, "wer": s.errors.wer, "errors": s.errors.errors, **vars(s.errors), "ci95": s.ci95}
            for s in found.systems
        ],
        "differences": [
            {
                **dataclasses.asdict(difference),
                "changes": [
                    {**dataclasses.asdict(change), "utterances": ids} for change, ids in changed[difference.system]
                ],
            }
            for difference in found.differences
        ],
    }


def _show(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
