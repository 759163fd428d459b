"""Rows of benchmarks/joint_budget.py as cells: a budget, how it is split between recognizer and language model, and
what the second pass of the one over the lists of the other hears."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from arms import counts_of, p_against
from cells import Cells, Result, config_hash
from options import read_plan
from rescoring_arms import sizes_of
from searches import clocked, searched

from sottovoce.cli.second_pass import Reading, SecondPass, tune_mixture
from sottovoce.decoding.conversations import conversation_of
from sottovoce.decoding.language_model import LanguageModel
from sottovoce.decoding.mixture import read_mixture, write_mixture
from sottovoce.decoding.nbest_files import write_nbest
from sottovoce.errors import DataError
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses, write_hypotheses
from sottovoce.packed import trained_hash
from sottovoce.packed.replacing import replacing
from sottovoce.quant import BitPlan
from sottovoce.runtime.language_models import read_language_model
from sottovoce.search import SensitivityTable, clusters
from sottovoce.search.joint import (
    DIVERGENCE,
    EXPECTED,
    ListScorer,
    bytes_of_plan,
    errors_of_plans,
    join_tables,
    joint_sensitivity,
    judged_by,
    split_plan,
)
from sottovoce.search.measuring import MID_RISE, sized, widths_of
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import CompressionConfig
from sottovoce.training.joint import ROLES, JointInputs, joint_inputs, joint_models
from sottovoce.training.run import Run, file_hash
from sottovoce.training.scoring import nbest_split
from sottovoce.training.searching import open_trained, search_inputs
from sottovoce.training.workers import Task

JOINT, BY_ERRORS = "joint", "joint, word errors"
SEPARATE, APART, UNIFORM, FLOAT = "separate", "separate, KL", "uniform", "fp32"
KEYS = ("budgets", "search", "first_pass", "search_hours", "pass_hours", "cell_hours", "quick")  # of a plan
SPLITS = {
    FLOAT: "both models as they were trained",
    UNIFORM: "as many bits for every weight of both",
    APART: "each model's bits chosen by its own divergence, within its share of the bytes, as its float32 bytes are",
    SEPARATE: "within the same shares, by the sensitivities of the joint split",
    BY_ERRORS: "bits of both chosen within the bytes together, by how much the expected word errors grow",
    JOINT: "bits of both chosen within the bytes together, by how far the posterior of word errors diverges",
}
ASR, LM = ROLES
NGRAM = "4-gram"


@dataclass(frozen=True)
class Setting:
    """What the plan file says, of which runs, and where things go. ``quick``: of dev alone, in little.

    ``known``: the hashes of runs, data and n-gram model that are not here, whose cells are only shown.
    """

    plan: Mapping[str, Any]
    runs: Mapping[str, Path]
    data: Path
    ngram: Path | None
    split: str
    work: Path
    quick: bool = False
    known: Mapping[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What names a cell, hours and folders left out."""
        return {**self.content, "split": self.split, **{key: self.plan[key] for key in ("search", "first_pass")}}

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """Hashes of the files, read once."""
        if self.known is not None:
            return self.known
        files = {role: trained_hash(Run(folder).model) for role, folder in self.runs.items()}
        manifests = {split: file_hash(self.data / f"{split}.jsonl.gz") for split in ("train", "dev", "test")}
        ngram = None if self.ngram is None else file_hash(self.ngram)
        return {"files": files, "manifests": manifests, "ngram": ngram}

    @property
    def folder(self) -> Path:
        """Of everything that does not depend on what is scored."""
        return self.work / config_hash({**self.config, "split": None, "ngram": None})


def setting_of_cells(cells: Cells, plan: Mapping[str, Any], split: str) -> Setting:
    """Of the runs whose cells of this plan and split were recorded last; of none where there are none."""
    wanted = {"split": split, **{key: plan[key] for key in ("search", "first_pass")}}
    rows = cells.latest(lambda config: all(config.get(key) == value for key, value in wanted.items()) or None)
    known = {key: row["config"][key] for row in rows.get(True, []) for key in ("files", "manifests", "ngram")}
    return Setting(plan, {}, Path(), None, split, Path(), known=known)


def load_plan(path: Path, quick: bool = False) -> dict[str, Any]:
    """The plan file, in little for a quick check."""
    found = read_plan(path, KEYS)
    small = found.pop("quick")
    return {**found, **small} if quick else found


@dataclass(frozen=True)
class Cell:
    """A budget, in bits everywhere whose bytes it has (None for float32), and how it is split."""

    setting: Setting
    bits: int | None
    split: str

    @property
    def name(self) -> str:
        return self.split if self.bits is None else f"bytes of {self.bits} bits, {self.split}"

    @property
    def config(self) -> dict[str, Any]:
        return {**self.setting.config, "budget": self.bits, "allocation": self.split}

    @property
    def compared(self) -> "list[Cell]":
        """What its hypotheses are compared with: float32, and what is not split jointly."""
        if self.bits is None:
            return []
        others = [BY_ERRORS, SEPARATE, APART, UNIFORM] if self.split == JOINT else []
        return [Cell(self.setting, None, FLOAT), *(replace(self, split=split) for split in others)]

    @property
    def hypotheses(self) -> Path:
        return self.setting.folder / "rescored" / f"{config_hash(self.config)}.jsonl"

    @property
    def weights(self) -> Path:
        """The file of float32's weights of the second pass, tuned on dev."""
        named = {"ngram": self.setting.content["ngram"]}
        return self.setting.folder / "rescored" / f"weights-{config_hash(named)}.json"

    def plan(self, role: str) -> BitPlan | None:
        """The bits of one of the models, once they have been chosen."""
        return None if self.bits is None else BitPlan.load(_plan_file(self, role))


def cells_of(setting: Setting) -> list[Cell]:
    """All of them, those that others are compared with first."""
    splits = (UNIFORM, APART, SEPARATE, BY_ERRORS, JOINT)
    return [Cell(setting, None, FLOAT), *(Cell(setting, b, s) for b in setting.plan["budgets"] for s in splits)]


def tasks_of(setting: Setting, cells: Cells) -> Iterator[Task]:
    """What is still to be done: bits, then first and second passes. Finished cells that others are compared with run
    once more where their hypotheses are gone."""
    wanted = cells_of(setting)
    due = [cell for cell in wanted if cells.done(cell.config, 0) is None]
    again = {o.name for cell in due for o in cell.compared if not o.hypotheses.exists()}
    names = {cell.name for cell in due} | again
    chosen = "bits of all budgets"
    if any(cell.bits is not None for cell in due):
        yield Task(chosen, choose, (setting,))
    for cell in wanted:
        if cell.name in names:
            needs = {other.name for other in cell.compared} | ({chosen} if cell.bits is not None else set())
            yield Task(cell.name, run_cell, (cell,), frozenset(needs & (names | {chosen})))


def choose(setting: Setting) -> None:
    """Plans of every budget and split, and what the search took and expects; nothing where they are there already."""
    wanted = {cell.name for cell in cells_of(setting) if cell.bits is not None}
    if _told(setting).exists() and wanted <= json.loads(_told(setting).read_text()).keys():
        return
    torch.set_num_threads(1)
    told = _chosen(setting)
    with replacing(_told(setting)) as stream:
        stream.write(json.dumps(told, indent=1).encode())


def _chosen(setting: Setting) -> dict[str, Any]:
    """What the search expects of each budget and split, whose plans it leaves in their files."""
    search = setting.plan["search"]
    models = joint_models(setting.runs)
    inputs = joint_inputs(
        models,
        data=setting.data,
        utterances=search["utterances"],
        nbest=search["nbest"],
        blank_penalty=setting.plan["first_pass"]["blank_penalty"],
    )
    scorers = {role: replace(x, cache=setting.folder / "search" / role) for role, x in inputs.scorers.items()}
    inputs = replace(inputs, scorers=scorers)
    clock = setting.folder / "search" / "joint.seconds"
    with clocked(clock):
        table = joint_sensitivity(scorers, inputs.lists, search["bits"], by=search["by"])
    own = {
        SEPARATE: own_tables(scorers, table, search["by"]),
        APART: {role: divergences(setting, role) for role in ROLES},
    }
    told: dict[str, Any] = {"float_errors": inputs.lists.expected_errors(), "words": inputs.lists.words}
    told["seconds"] = float(clock.read_text())
    for bits in setting.plan["budgets"]:
        for split, plans in splits_of(scorers, table, own, bits).items():
            cell = Cell(setting, bits, split)
            for role, plan in plans.items():
                _plan_file(cell, role).parent.mkdir(parents=True, exist_ok=True)
                plan.save(_plan_file(cell, role))
            told[cell.name] = _expected(inputs, plans)
    return told


def splits_of(
    scorers: Mapping[str, ListScorer],
    joint: SensitivityTable,
    own: Mapping[str, Mapping[str, SensitivityTable]],
    bits: int,
) -> dict[str, dict[str, BitPlan]]:
    """By split and role, the plans within the bytes of ``bits`` bits everywhere in both models.

    own: by split, tables of each model. Separate budgets share these bytes as the models' float32 bytes are; one of
    them takes the sensitivities of ``joint``, so that the budgets are all that differs. Raises PlanError where nothing
    fits.
    """
    found = {
        UNIFORM: {
            r: BitPlan.uniform(x.model, bits, kind=MID_RISE.kind, grouping=MID_RISE.grouping)
            for r, x in scorers.items()
        }
    }
    total = sum(bytes_of_plan(scorers[role], plan) for role, plan in found[UNIFORM].items())
    for split, tables in own.items():
        parameters = sum(table.parameters for table in tables.values())
        found[split] = {r: t.allocate(max_bytes=total * t.parameters // parameters) for r, t in tables.items()}
    for split, metric in ((BY_ERRORS, EXPECTED), (JOINT, DIVERGENCE)):
        found[split] = split_plan(judged_by(joint, metric).allocate(max_bytes=total), list(scorers))
    return found


def divergences(setting: Setting, role: str) -> SensitivityTable:
    """One model's table by KL divergence on its own training data, as ``sottovoce search RUN`` has it."""
    search, folder = setting.plan["search"], setting.folder / "search" / role
    data = setting.data if role == ASR else None
    settings = {"metric": "kl", "bits": search["bits"], "by": search["by"]}
    inputs = lambda: search_inputs(setting.runs[role], data=data, utterances=search["kl_utterances"])  # noqa: E731
    return searched(folder / "kl.json", inputs, settings, cache=folder)[0]


def own_tables(scorers: Mapping[str, ListScorer], joint: SensitivityTable, by: str) -> dict[str, SensitivityTable]:
    """The part of each model in a joint table, with the bytes of its own file."""
    found, start = {}, 0
    for role, x in scorers.items():
        widths = widths_of(joint.bits, None)
        table = sized(x.model, clusters(x.model, by, x.rows), widths, joint.levels, x.fields, x.tokenizer_bytes)
        stop = start + len(table.clusters)
        found[role] = replace(table, metric=joint.metric, omega=joint.omega[start:stop])
        start = stop
    assert [c.name for c in join_tables(found).clusters] == [c.name for c in joint.clusters]
    return found


def _expected(inputs: JointInputs, plans: Mapping[str, BitPlan]) -> dict[str, Any]:
    errors = errors_of_plans(inputs.scorers, inputs.lists, plans)
    counted = {role: bytes_of_plan(inputs.scorers[role], plan) for role, plan in plans.items()}
    return {"expected_errors": errors.expected, "errors_of_best": errors.best, "bytes": counted}


def run_cell(cell: Cell) -> Result:
    """Both files, the lists of the one, the second pass of the other, and word errors: with weights tuned for these
    files, and (``fixed``) with those of float32."""
    begin = time.perf_counter()
    torch.set_num_threads(1)
    setting = cell.setting
    files = {role: made(cell, role) for role in ROLES}
    dev, scored = (lists_of(setting, files[ASR], split) for split in ("dev", setting.split))
    cell.hypotheses.parent.mkdir(parents=True, exist_ok=True)
    passes, tuned = tuned_pass(files[LM], setting.ngram, dev)
    if cell.bits is None:
        assert passes.mixture is not None
        write_mixture(cell.weights, passes.mixture, tuned)
    first, heard = heard_by(passes, scored)
    write_hypotheses(cell.hypotheses, heard)
    figures = counts_of(heard) | {"first": counts_of(first), "dev": tuned, "mapsswe_p_first": p_against(heard, first)}
    if cell.bits is not None:
        mixture = read_mixture(cell.weights)
        figures["fixed"] = counts_of(heard_by(replace(passes, mixture=mixture, shares=mixture.shares), scored)[1])
    figures["words_each"] = [len((x.reference or "").split()) for x in heard]
    figures["conversations"] = [conversation_of(x.id, x.recording) for x in heard]
    figures["models"] = {role: sizes_of(file) for role, file in files.items()}
    figures["mapsswe_p"] = {x.split: p_against(heard, read_hypotheses(x.hypotheses)) for x in cell.compared}
    if cell.bits is not None:
        told = json.loads(_told(setting).read_text())
        figures["search"] = {**told[cell.name], **{key: told[key] for key in ("float_errors", "words", "seconds")}}
    return cell.config, 0, figures, time.perf_counter() - begin


def made(cell: Cell, role: str) -> Path:
    """The packed file of one of the models by the cell's plan, rounded; equal plans share it."""
    base, plan = Run(cell.setting.runs[role]), cell.plan(role)
    if plan is None:
        return base.model
    text = plan.to_json()
    folder = cell.setting.folder / "models" / f"{role}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    trained = open_trained(base.folder)
    section = CompressionConfig(scheme="ptq", plan=json.loads(text))
    return carry_out(Job(trained.recipe, trained.data, base.folder, base.module, folder, section, trained.recipe.seed))


def lists_of(setting: Setting, recognizer: Path, split: str) -> Path:
    """n-best lists of the recognizer's beam search over a split, made once a file."""
    path = setting.folder / "lists" / file_hash(recognizer) / f"{split}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nbest(path, nbest_split(recognizer, setting.data, split, **setting.plan["first_pass"]))
    return path


def tuned_pass(lm: Path, ngram: Path | None, dev: Path) -> tuple[SecondPass, dict[str, Any]]:
    """What ``sottovoce rescore`` makes of lists: weights by the fewest errors on dev, the language model alone, or in a
    linear interpolation with an n-gram model by the shares that are likeliest there."""
    models: dict[str, LanguageModel] = {LM: read_language_model(lm)}
    if ngram is not None:
        models[NGRAM] = read_language_model(ngram)
    shares = {} if ngram is None else dict.fromkeys(models, 0.5)
    return tune_mixture(SecondPass(Reading(), models, shares, None, {}, None), dev, ngram is not None, ())


def heard_by(passes: SecondPass, lists: Path) -> tuple[list[Hypothesis], list[Hypothesis]]:
    """The best entries of both passes. Raises DataError for lists that cannot all be scored."""
    rescored, found = passes.run(lists, passes.reading.read(lists), None)
    if found["skipped"]:
        raise DataError(f"{lists}: expected every list to be scored, found {found['skipped']} that could not be")
    first, second = (
        [Hypothesis(x.id, " ".join(words(x)), x.speaker, x.recording, x.reference) for x in rescored]
        for words in (lambda x: x.first, lambda x: x.second)
    )
    return first, second


def _plan_file(cell: Cell, role: str) -> Path:
    return cell.setting.folder / "plans" / f"{cell.bits}-{cell.split}-{role}.json"


def _told(setting: Setting) -> Path:
    """What choosing took and expects, of the budgets that the plan file has now; written when all plans are there."""
    return setting.folder / "plans" / f"chosen-{config_hash({'budgets': setting.plan['budgets']})}.json"
