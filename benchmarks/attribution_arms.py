"""Systems of benchmarks/attribution.py: one component of a recognizer rounded, or all, each a packed file that is run.

One cell is one system of one trained run: its errors in each utterance, for each of the blank penalties that it is
reported with.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cells import Cells
from options import read_plan

from sottovoce.data.prepared import load_cuts
from sottovoce.data.utterances import Utterance, split_utterances
from sottovoce.errors import ConfigError
from sottovoce.evaluation.bootstrap import cluster_ids
from sottovoce.evaluation.hypotheses import Hypothesis, write_hypotheses
from sottovoce.evaluation.results import clusters_of, score_hypotheses
from sottovoce.evaluation.wer import total
from sottovoce.models import network_of
from sottovoce.packed import PackedMatrix, file_sizes, load_model, trained_hash
from sottovoce.quant import BitPlan, find_weights
from sottovoce.runtime import ModelInput, Recognizer
from sottovoce.runtime.rules import Arithmetic
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.blank import best_blank_penalty, transcribe_with_penalties
from sottovoce.training.config import CompressionConfig, RnntRecipe
from sottovoce.training.run import Run, file_hash

FLOAT, ALL = "float32", "all"
NONE, FROZEN, OWN = "none", "frozen", "own"  # blank penalties that a system is reported with
PARTS = ("substitutions", "insertions", "deletions")


@dataclass(frozen=True)
class System:
    """What is rounded: ``weights`` are patterns of parameter names, the others stay float32."""

    component: str
    bits: int = 32
    kind: str | None = None
    weights: tuple[str, ...] = ()
    arithmetic: Arithmetic = "int8"

    @property
    def name(self) -> str:
        if self.component == FLOAT:
            return FLOAT
        return f"{self.component}, {self.bits} bits" + (", float activations" if self.arithmetic == "float" else "")

    @property
    def folder(self) -> str:
        return f"{self.component}-{self.bits}"


@dataclass(frozen=True)
class Plan:
    """components: patterns by name; widths: the kind of levels by bits; rounding: the rest of the compression
    section; cost: processor seconds an hour of sound and a million parameters."""

    components: Mapping[str, Sequence[str]]
    widths: Mapping[int, str]
    rounding: Mapping[str, Any]
    penalties: tuple[float, ...]
    cost: Mapping[str, float]
    quick: Mapping[str, Any]

    @property
    def systems(self) -> list[System]:
        return [FLOAT_SYSTEM, *(system for bits in self.widths for system in self.at(bits))]

    def at(self, bits: int) -> list[System]:
        """Each component alone, all of them, and all of them with float activations."""
        kind = self.widths[bits]
        alone = [System(name, bits, kind, tuple(patterns)) for name, patterns in self.components.items()]
        whole = System(ALL, bits, kind, tuple(pattern for system in alone for pattern in system.weights))
        return [*alone, whole, replace(whole, arithmetic="float")]

    def reduced(self) -> "Plan":
        """Few widths, for a quick check."""
        return replace(self, widths={bits: self.widths[bits] for bits in self.quick["widths"]})


FLOAT_SYSTEM = System(FLOAT)


def load_plan(path: Path) -> Plan:
    found = read_plan(path, [field.name for field in fields(Plan)])
    reserved = {FLOAT, ALL} & found["components"].keys()
    if reserved or 0.0 not in found["penalties"]:
        raise ConfigError(f"{path}: expected 0 among penalties and no component of the name {FLOAT} or {ALL}")
    return Plan(**{**found, "penalties": tuple(map(float, found["penalties"]))})


@dataclass(frozen=True)
class Scored:
    """A run on a split, as its cells name it: nothing else need be there to show them. content: hashes of the run's
    files and of the data; ``quick``: of so many dev utterances."""

    recipe: str
    seed: int
    split: str
    content: Mapping[str, Any]
    quick: int | None = None

    @property
    def name(self) -> str:
        return f"seed {self.seed}"


@dataclass(frozen=True)
class Trained:
    """A trained run, what it is scored on, and where its rounded files go. ``quick``: of so many dev utterances."""

    run: Run
    recipe: RnntRecipe
    data: Path
    split: str
    work: Path
    quick: int | None = None

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @cached_property
    def scored(self) -> Scored:
        """By its files, read once."""
        splits = sorted({"dev", self.split})
        manifests = {name: file_hash(self.data / f"{name}.jsonl.gz") for name in splits}
        content = {"model": trained_hash(self.run.model), "module": file_hash(self.run.module), "manifests": manifests}
        return Scored(self.recipe.name, self.seed, self.split, content, self.quick)

    @property
    def folder(self) -> Path:
        return self.work / f"{self.recipe.name}-seed-{self.seed}-{self.scored.content['module'][:8]}"

    def job(self, system: System, plan: Plan) -> Job:
        section = compression_of(system, plan, self.run.model)
        folder = self.folder / system.folder
        return Job(self.recipe, self.data, self.run.folder, self.run.module, folder, section, self.seed)


def open_runs(folders: Iterable[Path], data: Path, split: str, work: Path, quick: int | None) -> list[Trained]:
    """Raises ConfigError for what is no trained float32 recognizer, and for runs that are not seeds of one recipe."""
    found = [_opened(folder, data, split, work, quick) for folder in folders]
    for one in found[1:]:
        if trained_by(one.recipe) != trained_by(found[0].recipe):
            raise ConfigError(f"{one.run.folder}: expected another seed of {found[0].run.folder}, found another recipe")
    seeds = [one.seed for one in found]
    twice = next((one for i, one in enumerate(found) if one.seed in seeds[:i]), None)
    if twice is not None:
        raise ConfigError(f"{twice.run.folder}: its seed {twice.seed} is given twice")
    return found


def trained_by(recipe: RnntRecipe) -> dict[str, Any]:
    """What decides the trained network, but for its seed."""
    return recipe.model_dump(mode="json", exclude={"seed", "decoding", "compression"})


def _opened(folder: Path, data: Path, split: str, work: Path, quick: int | None) -> Trained:
    run, recipe, _ = Run.open(folder)
    if not isinstance(recipe, RnntRecipe):
        raise ConfigError(f"{folder}: expected a recognizer's run, found a language model's")
    if any(isinstance(tensor, PackedMatrix) for tensor in load_model(run.model).tensors.values()):
        raise ConfigError(f"{folder}: expected the run of a float32 training, found a compressed one")
    return Trained(run, recipe, data, "dev" if quick else split, work, quick)


def compression_of(system: System, plan: Plan, model: Path) -> CompressionConfig:
    """The section by which ``ptq`` rounds the system's weights. Raises PlanError for a pattern that names none,
    ConfigError unless every weight of the network belongs to one component."""
    network = network_of(load_model(model).architecture)
    names = [weight.name for weight in find_weights(network)]
    chosen = [
        name
        for patterns in plan.components.values()
        for name in BitPlan.uniform(network, system.bits, include=patterns).weights
    ]
    if sorted(chosen) != sorted(names):
        raise ConfigError(f"{model}: expected each of {', '.join(names)} in one component, found {', '.join(chosen)}")
    settings = {key: value for key, value in plan.rounding.items() if key != "grouping"}
    bits = BitPlan.uniform(
        network, system.bits, kind=system.kind, grouping=plan.rounding["grouping"], include=system.weights
    )
    return CompressionConfig(**settings, bits=system.bits, plan=json.loads(bits.to_json()))


def cell_config(scored: Scored, system: System, plan: Plan) -> dict[str, Any]:
    """What names a cell: by their content the run and the data, and what is made of them."""
    rounding = {**plan.rounding, "kind": system.kind, "weights": system.weights} if system.weights else {}
    return {
        **scored.content, "recipe": scored.recipe, "split": scored.split, "quick": scored.quick,
        "component": system.component, "bits": system.bits, "arithmetic": system.arithmetic, "rounding": rounding,
        "penalties": plan.penalties,
    }  # fmt: skip


def scored_runs(cells: Cells, split: str, plan: Plan) -> dict[str, tuple[Scored, ...]]:
    """By recipe, the runs that finished cells are of, quick checks left out: those on the data of the run that was
    measured last, and of each seed the last one."""

    def key(config: dict[str, Any]) -> tuple[str, str] | None:
        scored = config["split"] == split and config["quick"] is None and config["component"] == FLOAT
        return (config["recipe"], config["model"]) if scored and config["penalties"] == list(plan.penalties) else None

    found: dict[str, list[Scored]] = {}
    for (recipe, _), rows in cells.latest(key).items():
        for row in rows:
            content = {name: row["config"][name] for name in ("model", "module", "manifests")}
            found.setdefault(recipe, []).append(Scored(recipe, row["seed"], split, content))
    return {recipe: _latest(runs) for recipe, runs in found.items()}


def _latest(runs: Sequence[Scored]) -> tuple[Scored, ...]:
    """One a seed, on the same data; ``runs`` in the order in which they were measured."""
    by_seed = {run.seed: run for run in runs if run.content["manifests"] == runs[-1].content["manifests"]}
    return tuple(by_seed[seed] for seed in sorted(by_seed))


@dataclass(frozen=True, eq=False)
class Speech:
    """Utterances that penalties are tuned on, and those that are reported."""

    tuning: Sequence[Utterance]
    reported: Sequence[Utterance]


def read_speech(trained: Trained) -> Speech:
    """The whole splits, or some dev utterances from everywhere in it, for a quick check."""
    taken = ModelInput.from_dict(load_model(trained.run.model).input)
    dev = split_utterances(trained.data, "dev", taken)
    if trained.quick:
        dev = dev[:: max(1, len(dev) // trained.quick)]
    return Speech(dev, dev if trained.split == "dev" else split_utterances(trained.data, trained.split, taken))


def measure(trained: Trained, system: System, plan: Plan, speech: Speech, frozen: float | None) -> dict[str, Any]:
    """Figures of one system; ``frozen`` is the penalty of float32, None where this is float32 itself.

    Dev is encoded once for all penalties, the reported split once for those that it is reported with.
    """
    model = trained.run.model if system.component == FLOAT else carry_out(trained.job(system, plan))
    recognizer = Recognizer(model, arithmetic=system.arithmetic)
    tried = _heard(recognizer, speech.tuning, plan.penalties)
    tuned = [(penalty, total(score_hypotheses(found))) for penalty, found in tried.items()]
    own = best_blank_penalty(tuned)
    penalties = {NONE: 0.0, FROZEN: own if frozen is None else frozen, OWN: own}
    distinct = sorted(set(penalties.values()))
    if speech.reported is speech.tuning:
        heard = {penalty: tried[penalty] for penalty in distinct}
    else:
        heard = _heard(recognizer, speech.reported, distinct)
    for penalty, found in heard.items():
        write_hypotheses(_kept(trained, system, penalty), found)
    figures: dict[str, Any] = {
        "penalties": penalties,
        "dev": [[penalty, *(getattr(counts, part) for part in PARTS)] for penalty, counts in tuned],
        "counts": {f"{penalty:g}": counts_of(found) for penalty, found in heard.items()},
        "model_bytes": file_sizes(model).model_bytes,
    }
    return figures | (_of_the_words(heard[0.0]) if system.component == FLOAT else {})


def _heard(
    recognizer: Recognizer, utterances: Sequence[Utterance], penalties: Sequence[float]
) -> dict[float, list[Hypothesis]]:
    return dict(zip(penalties, transcribe_with_penalties(recognizer, utterances, penalties), strict=True))


def _kept(trained: Trained, system: System, penalty: float) -> Path:
    """Where the hypotheses of a system lie, to be looked at word by word (``sottovoce compare``)."""
    folder = trained.folder / system.folder
    folder.mkdir(parents=True, exist_ok=True)
    quick = "-quick" if trained.quick else ""
    return folder / f"{trained.split}{quick}-{system.arithmetic}-blank{penalty:g}.jsonl"


def counts_of(found: Sequence[Hypothesis]) -> dict[str, list[int]]:
    """Errors of each utterance, by their part."""
    scored = score_hypotheses(found)
    return {part: [getattr(utterance.errors, part) for utterance in scored] for part in PARTS}


def _of_the_words(found: Sequence[Hypothesis]) -> dict[str, Any]:
    """Words of each utterance, and the cluster that it is drawn with."""
    clusters = cluster_ids([h.id for h in found], *clusters_of(found))
    words = [utterance.errors.words for utterance in score_hypotheses(found)]
    return {"words_each": words, "clusters": clusters.tolist()}


def due_cells(cells: Cells, trained: Trained, plan: Plan) -> list[System]:
    """What has yet to be measured of a run, float32 first: the others take its penalty."""
    return [s for s in plan.systems if cells.done(cell_config(trained.scored, s, plan), trained.seed) is None]


def run_cells(cells: Cells, trained: Trained, plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure and keep what has yet to be measured of a run; names and rows as they come."""
    due = due_cells(cells, trained, plan)
    if not due:
        return
    speech = read_speech(trained)
    for system in due:
        start = time.perf_counter()
        base = cells.done(cell_config(trained.scored, FLOAT_SYSTEM, plan), trained.seed)
        frozen = None if base is None else float(base["figures"]["penalties"][FROZEN])
        figures = measure(trained, system, plan, speech, frozen)
        seconds = time.perf_counter() - start
        config = cell_config(trained.scored, system, plan)
        yield f"{trained.scored.name}, {system.name}", cells.record(config, trained.seed, figures, seconds)


def expected_hours(cells: Cells, trained: Trained, plan: Plan) -> float:
    """Processor hours of what has yet to be measured of a run."""
    million = load_model(trained.run.model).parameters / 1e6
    dev, reported = (
        _sound_hours(trained, split) * (plan.cost["encode"] + plan.cost["search"] * penalties)
        for split, penalties in (("dev", len(plan.penalties)), (trained.split, 3))
    )
    return len(due_cells(cells, trained, plan)) * million * (dev + reported) / 3600


def _sound_hours(trained: Trained, split: str) -> float:
    cuts = list(load_cuts(trained.data, split))
    share = min(1.0, trained.quick / max(1, len(cuts))) if trained.quick else 1.0
    return share * sum(float(cut.duration) for cut in cuts) / 3600
