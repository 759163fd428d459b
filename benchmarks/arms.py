"""Arms of a training comparison as cells: what the tables of S8BQAT on recognizers share.

A plan file (YAML) names corpora, with the recipe of each and the folds that it is prepared in, and arms, with the
compression section of each. One cell is one arm on one fold and seed, judged by running its packed file.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cells import Cells, Result
from filelock import FileLock
from options import read_plan
from places import Place

from sottovoce.data.prepare import prepare
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import Hypothesis
from sottovoce.evaluation.mapsswe import mapsswe
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import total
from sottovoce.packed import file_sizes, trained_hash
from sottovoce.training.arms import Job, carry_out, resolved
from sottovoce.training.comparison import CONTROL, Arm, job_of
from sottovoce.training.config import CompressionConfig, Recipe
from sottovoce.training.run import Run
from sottovoce.training.scoring import loss_per_token, scored_once
from sottovoce.training.train import train
from sottovoce.training.workers import Task

DATA_SEED = 0  # every seed trains on the same corpus and is scored on the same utterances


@dataclass(frozen=True)
class Corpus:
    """``folds``: values of one option of its preparation, each a fold of its own; none gives a single fold.

    ``size`` names a network of other sizes than its recipe's, which ``changes`` set.
    """

    prepared: str
    source: Path | None
    recipe: Path
    fold_option: str | None = None
    folds: tuple[str, ...] = ("",)
    base_hours: float = 0.1
    arm_hours: float = 0.1
    quick: tuple[str, ...] = ("phase.epochs=2", "compression.phase.epochs=1")
    size: str = ""
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.prepared}-{self.size}" if self.changes else self.prepared


def place_of(corpus: Corpus, fold: str, seed: int, snapshot: bool, work: Path, quick: bool = False) -> Place[Corpus]:
    """The place of a fold and seed; its data lie in the work folder, the same for all sizes."""
    data = work / "data" / f"{corpus.prepared}{'-' + fold if fold else ''}"
    return Place(corpus, seed, data, work, quick, fold, snapshot, corpus.changes)


def recipe_of(place: Place[Corpus]) -> Recipe:
    """The recipe of a place's arms: they fork from nothing where they start from the converged model."""
    return place.recipe(() if place.snapshot else ("compression.fork_at=null",))


def load_plan(path: Path, sources: list[str] | None, keys: Collection[str] = ()) -> tuple[list[Corpus], dict[str, Any]]:
    """Corpora named in ``sources`` (NAME or NAME:DIR; None: all), one for each size, and the rest of the plan file.

    Raises ConfigError for a corpus that the plan has not, and as ``read_plan`` does for it and ``keys``.
    """
    plan = read_plan(path, ("corpora", "arms", *keys))
    known = plan.pop("corpora")
    corpora = []
    for item in known if sources is None else sources:
        name, _, folder = item.partition(":")
        if name not in known:
            raise ConfigError(f"--data {item}: expected one of {', '.join(known)} as NAME or NAME:DIR")
        entry = known[name]
        recipe = load_path(entry["recipe"])
        folds = tuple(entry.get("folds", {"": [""]}).items())
        (option, values), *_ = folds
        hours = {key: float(entry[key]) for key in ("base_hours", "arm_hours")}
        source = Path(folder) if folder else None
        corpus = Corpus(name, source, recipe, option or None, tuple(values), **hours)
        corpora += [sized(corpus, *size) for size in entry.get("sizes", {"": {}}).items()]
    return corpora, plan


def sized(corpus: Corpus, size: str, entry: dict[str, Any]) -> Corpus:
    """The corpus for a network of another size: ``model`` of the entry, whose training costs ``cost`` times as much."""
    cost = float(entry.get("cost", 1.0))
    hours = {"base_hours": cost * corpus.base_hours, "arm_hours": cost * corpus.arm_hours}
    changes = tuple(f"model.{name}={value}" for name, value in entry.get("model", {}).items())
    return replace(corpus, size=size, changes=changes, **hours)


def load_path(name: str) -> Path:
    """A recipe of the repository, by its name."""
    return Path(__file__).parent.parent / "recipes" / f"{name}.yaml"


def arm_of(name: str, settings: dict[str, Any], bits: int) -> Arm:
    """An arm of the plan at so many bits."""
    return Arm(name, CompressionConfig(**{**settings, "bits": bits}))


def cell_config(place: Place[Corpus], arm: Arm, split: str) -> dict[str, Any]:
    """What names a cell. The recipe goes in as its file's text: new options with defaults leave old cells valid."""
    return {
        "corpus": place.source.name,
        "fold": place.fold,
        "start": "snapshot" if place.snapshot else "converged",
        "quick": place.quick,
        "split": split,
        "recipe": hashlib.sha256(place.source.recipe.read_bytes()).hexdigest()[:12],
        "system": arm.system,
        "bits": arm.bits,
        **resolved(arm.compression),
        **({"changes": list(place.changes)} if place.changes else {}),
    }


def tasks_of(place: Place[Corpus], arms: list[Arm], cells: Cells, split: str) -> Iterator[Task]:
    """What is still to be done here: the base and the control, then each arm."""
    due = [arm for arm in arms if cells.done(cell_config(place, arm, split), place.seed) is None]
    if not due:
        return
    label = f"{place.name}, {'snapshot' if place.snapshot else 'converged'}"
    base = f"{place.name}: 32-bit training"
    yield Task(base, train_base, (place,))
    control = f"{label}: {CONTROL}"
    if all(arm.name != CONTROL for arm in due):
        due = [Arm(CONTROL, None), *due]  # others are paired with its hypotheses
    for arm in due:
        needs = {base} if arm.name == CONTROL else {base, control}
        yield Task(f"{label}: {arm.name}", run_arm, (place, arm, split), frozenset(needs))


def base_hours(place: Place[Corpus]) -> float:
    """CPU hours that the 32-bit training still takes: none where it is there."""
    return 0.0 if place.base.model.exists() else place.source.base_hours


def train_base(place: Place[Corpus]) -> None:
    """Prepare the data and train in 32 bits, one thread."""
    recipe = place.recipe()
    options = dict(recipe.corpus.get("options", {}))
    if place.source.fold_option:
        options[place.source.fold_option] = place.fold
    place.data.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place.data}.lock"):  # seeds share the folder, and two of them may begin at once
        prepare(place.source.prepared, place.source.source, place.data, options, seed=DATA_SEED)
    train(recipe, place.data, place.base.folder, threads=1, progress=False)


def run_arm(place: Place[Corpus], arm: Arm, split: str) -> tuple[dict[str, Any], int, dict[str, Any], float]:
    """Train and score an arm: the cell's configuration, seed, figures and seconds."""
    begin = time.perf_counter()
    model = carry_out(job_at(place, arm))
    found = hypotheses_of(place, arm, split)
    figures = counts_of(found) | {"loss_per_token": loss_per_token(model, place.data, split)}
    sizes = file_sizes(model)
    figures |= {"model_bytes": sizes.model_bytes, "fp32_bytes": sizes.fp32_bytes}
    figures["base"] = trained_hash(place.base.model)
    if arm.name == CONTROL:
        figures["speakers"] = [h.speaker for h in found]
        figures["words_each"] = [s.errors.words for s in score_hypotheses(found)]
        figures["without_blank_penalty"] = counts_of(hypotheses_of(place, arm, split, 0.0))
    else:
        figures["mapsswe_p"] = p_against(found, hypotheses_of(place, Arm(CONTROL, None), split))
    return cell_config(place, arm, split), place.seed, figures, time.perf_counter() - begin


def check_base(cells: Cells, result: Result) -> None:
    """Arms of one network, fold and seed are compared with each other, so all have to come from one 32-bit training.

    Raises DataError where finished cells are of another one, which another machine has made, say: their base is
    another, or an arm that was scored before (the control is again where only others are due) errs elsewhere.
    """
    config, seed, figures, _ = result
    done = cells.done(config, seed)
    mixed = done is not None and done["figures"]["errors"] != figures["errors"]
    for row in cells.rows():
        if row["seed"] == seed and _network(row["config"]) == _network(config):
            mixed |= row["figures"].get("base", figures["base"]) != figures["base"]
    if mixed:
        raise DataError(
            f"{cells.path}: expected cells of {config['corpus']} {config['fold']}, seed {seed}, from the 32-bit "
            f"training {figures['base']}, found those of another; go on where they were made, or remove them"
        )


def _network(config: Mapping[str, Any]) -> list[Any]:
    return [config.get(key) for key in ("corpus", "fold", "quick", "recipe", "changes")]


def job_at(place: Place[Corpus], arm: Arm) -> Job:
    """Where an arm is made, and from what."""
    folder = place.folder / ("snapshot" if place.snapshot else "converged")
    return job_of(arm, recipe_of(place), place.data, place.base, folder)


def model_of(place: Place[Corpus], arm: Arm) -> Path:
    """The arm's packed file, when it has been carried out."""
    return Run(job_at(place, arm).folder).model


def hypotheses_of(place: Place[Corpus], arm: Arm, split: str, penalty: float | None = None) -> list[Hypothesis]:
    """What the arm's packed file hears, kept beside it; by default with the recipe's blank penalty."""
    job = job_at(place, arm)
    penalty = job.recipe.decoding.blank_penalty if penalty is None else penalty
    return scored_once(Run(job.folder).model, job.data, split, job.folder / f"{split}.jsonl", blank_penalty=penalty)


def p_against(found: list[Hypothesis], others: list[Hypothesis]) -> float:
    """MAPSSWE's p-value for two systems' hypotheses of the same utterances."""
    texts = ({h.id: h.text for h in hypotheses} for hypotheses in (found, others))
    return mapsswe({h.id: h.reference or "" for h in found}, *texts).p


def counts_of(found: list[Hypothesis]) -> dict[str, Any]:
    """Word errors of all utterances, and of each."""
    scored = score_hypotheses(found)
    counts = total(scored)
    return {
        "wer": round(counts.wer, 4),
        "words": counts.words,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
        "errors": [s.errors.errors for s in scored],
    }
