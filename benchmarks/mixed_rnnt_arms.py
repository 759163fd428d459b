"""Rows of benchmarks/mixed_precision_rnnt.py as cells: one width, or bits chosen by a search within the same bytes.

A row is an arm of the other plan (a way: rounded, or trained from the snapshot) at one width, or with the plan that a
search on the converged float32 model finds for the model bytes of the rounded file of that width.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import arms
import torch
import yaml
from arms import Corpus, hypotheses_of, model_of, p_against, run_arm, train_base
from cells import Cells, Result, config_hash
from filelock import FileLock
from options import read_plan
from places import Place
from searches import levels_of, searched

from sottovoce.errors import ConfigError, PlanError
from sottovoce.packed import file_sizes, load_model
from sottovoce.quant import BitPlan
from sottovoce.search import clusters
from sottovoce.search.measuring import sized, widths_of
from sottovoce.training.comparison import CONTROL, Arm
from sottovoce.training.config import CompressionConfig
from sottovoce.training.searching import open_trained, search_inputs
from sottovoce.training.workers import Task

FP32 = Arm(CONTROL, None)
KEYS = (  # of a plan
    "arms", "corpora", "widths", "ways", "reference", "search", "searches", "search_hours", "score_hours", "quick",
)  # fmt: skip


@dataclass(frozen=True)
class Search:
    """A name and what ``searches.searched`` takes."""

    name: str
    settings: Mapping[str, Any]

    def key(self, bits: int) -> str:
        """What names its table; that of an architecture search is for one budget."""
        budget = {"budget": bits} if self.settings["metric"] == "nas" else {}
        return f"{self.settings['metric']}-{config_hash({**self.settings, **budget})}"


@dataclass(frozen=True)
class Row:
    """way: an arm of the other plan, with its settings; ``label``: what the table calls it. bits: of every weight, or
    those whose bytes are the budget of ``search``."""

    way: str
    label: str
    section: Mapping[str, Any]
    bits: int
    search: Search | None = None

    @property
    def name(self) -> str:
        return f"{self.label}, {'uniform' if self.search is None else self.search.name}, {self.bits}"

    @property
    def uniform(self) -> "Row":
        return replace(self, search=None)

    def arm(self, plan: BitPlan | None = None) -> Arm:
        """At one width it is the other plan's arm, whose folder it shares; a search names a folder of its own."""
        system = self.way
        if self.search is not None:
            system += f", {self.search.name} {config_hash(self.search.settings)[:6]}"
        own = {} if plan is None else {"plan": yaml.safe_load(plan.to_json())}
        return Arm(system, CompressionConfig(**{**self.section, "bits": self.bits, **own}))

    def config(self, place: Place[Corpus], split: str) -> dict[str, Any]:
        """What names a cell: the search in the place of its plan."""
        found = arms.cell_config(place, self.arm(), split)
        return found if self.search is None else {**found, "search": dict(self.search.settings)}


@dataclass(frozen=True)
class Plan:
    """The corpora, and rows of all widths: at one width first, then those of each search."""

    corpora: tuple[Corpus, ...]
    rows: tuple[Row, ...]
    search_hours: float
    score_hours: float

    @property
    def searches(self) -> list[Search]:
        found = {row.search.name: row.search for row in self.rows if row.search is not None}
        return list(found.values())


def load_plan(path: Path, sources: list[str] | None, quick: bool = False) -> Plan:
    """Corpora named in ``sources`` (NAME or NAME:DIR; None: those of the plan file), and the rows, few and small for a
    quick check."""
    found = read_plan(path, KEYS)
    corpora, other = arms.load_plan(path.parent / found["arms"], sources or found["corpora"])
    small = found["quick"] if quick else {}
    shared = {**found["search"], **small.get("search", {})}
    searches = [
        Search(name, {**shared, **own, **small.get("searches", {}).get(name, {})})
        for name, own in found["searches"].items()
    ]
    labels = {**found["ways"], **{name: name for name in found["reference"]}}
    unknown = [name for name in labels if name not in other["arms"]]
    if unknown:
        raise ConfigError(f"{path}: expected arms of {found['arms']}, found {unknown[0]!r}")
    rows = []
    for bits in small.get("widths", found["widths"]):
        ways = [Row(name, labels[name], other["arms"][name], bits) for name in labels]
        rows += [*ways, *(replace(row, search=s) for row in ways if row.way in found["ways"] for s in searches)]
    for row in rows:
        levels, section = levels_of(shared), row.section
        if row.search and (levels.kind, levels.grouping) != (section["kind"], section.get("grouping", "tensor")):
            raise ConfigError(f"{path}: expected a search on the levels of {row.way!r}, found {levels.kind}")
    return Plan(tuple(corpora), tuple(rows), float(found["search_hours"]), float(found["score_hours"]))


def tasks_of(place: Place[Corpus], plan: Plan, cells: Cells, split: str) -> Iterator[Task]:
    """What is still to be done here: the base, the control, the searches, and rows after those that they stand beside.

    Finished rows that others are paired with run once more where those are due: their hypotheses lie in the folder.
    """
    due = [row for row in plan.rows if cells.done(row.config(place, split), place.seed) is None]
    control_due = cells.done(arms.cell_config(place, FP32, split), place.seed) is None
    if not due and not control_due:
        return
    base, control = f"{place.name}: 32-bit training", f"{place.name}: {CONTROL}"
    yield Task(base, train_base, (place,))
    yield Task(control, run_arm, (place, FP32, split), frozenset({base}))
    rounded = {row.bits: row for row in plan.rows if row.search is None and row.section["scheme"] == "ptq"}
    beside = [row.uniform for row in due] + [rounded[row.bits] for row in due if row.search is not None]
    names = {row.name for row in [*due, *beside]}
    known = set[str]()
    for row in plan.rows:
        if row.name not in names:
            continue
        if row.search is None:
            needs = {base, control}
        else:
            budget = _task_name(place, rounded[row.bits])
            search = f"{place.name}: {row.search.name} for {row.bits} bits"
            if search not in known:
                known.add(search)
                yield Task(search, run_search, (place, row, rounded[row.bits]), frozenset({base, budget}))
            needs = {search, _task_name(place, row.uniform)}
        yield Task(_task_name(place, row), run_row, (place, row, rounded.get(row.bits), split), frozenset(needs))


def _task_name(place: Place[Corpus], row: Row) -> str:
    return f"{place.name}: {row.name}"


def run_search(place: Place[Corpus], row: Row, rounded: Row) -> None:
    """The row's search on the converged model, kept for every row that takes it."""
    choose(place, row, rounded)


def run_row(place: Place[Corpus], row: Row, rounded: Row | None, split: str) -> Result:
    """Train and score a row: the cell's configuration, seed, figures and seconds.

    Raises PlanError for a mixed file of more bytes than the uniform one that is made in the same way.
    """
    begin = time.perf_counter()
    plan, more = (None, {}) if row.search is None or rounded is None else choose(place, row, rounded)
    arm = row.arm(plan)
    _, seed, figures, _ = run_arm(place, arm, split)
    model = model_of(place, arm)
    figures |= {"average_bits": load_model(model).average_bits, **more}
    if row.search is not None:
        beside = row.uniform.arm()
        figures["mapsswe_p_uniform"] = p_against(hypotheses_of(place, arm, split), hypotheses_of(place, beside, split))
        most = file_sizes(model_of(place, beside)).model_bytes
        if figures["model_bytes"] > most:
            raise PlanError(f"{model}: expected at most {most:,} bytes, those of one width, found more")
    return row.config(place, split), seed, figures, time.perf_counter() - begin


def choose(place: Place[Corpus], row: Row, rounded: Row) -> tuple[BitPlan, dict[str, Any]]:
    """Bits by the row's search within the bytes of the rounded file of one width, and what the search took."""
    assert row.search is not None
    settings, folder = row.search.settings, place.folder / "searches"
    most = file_sizes(model_of(place, rounded.arm())).model_bytes
    key = row.search.key(row.bits)
    (folder / key).mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with FileLock(folder / f"{key}.lock"):  # several widths take one table
        table, seconds = searched(
            folder / f"{key}.json",
            lambda: search_inputs(
                place.base.folder, data=place.data, utterances=settings["utterances"], seed=place.seed
            ),
            settings,
            _average_within(place, settings, most) if settings["metric"] == "nas" else None,
            cache=folder / key,  # its own, or a budget's seconds would be those of another's leftovers
        )
    choice = table.choose(max_bytes=most)
    return choice.plan, {
        "omega": choice.omega,
        "search_seconds": seconds,
        "widths": len(table.bits),
        "cluster_bits": {c.name: bits for c, bits in zip(table.clusters, choice.bits, strict=True)},
    }


def _average_within(place: Place[Corpus], settings: Mapping[str, Any], most: int) -> float:
    """About the bits a weight that a file of so many bytes has room for: what an architecture search aims at."""
    base = open_trained(place.base.folder)
    model = base.searchable.model
    found, widths = clusters(model, settings["by"]), widths_of(settings["bits"], None)
    return sized(model, found, widths, levels_of(settings), base.fields, base.tokenizer_bytes).average_within(most)
