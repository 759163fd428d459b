"""Rows of benchmarks/rescoring.py as cells: one language model in one mixture over the same n-best lists.

The lists are those of a recognizer over swda-synth, or what a confusion channel makes of SwDA's text. Language models
are the files of benchmarks/mixed_precision_lm.py. What is done with them is what ``sottovoce rescore`` does.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import arms
import lm_arms
from cells import Cells, Result, config_hash
from lm_arms import Model
from options import read_plan
from places import Place

from sottovoce.cli.second_pass import Reading, SecondPass, tune_mixture
from sottovoce.data.confusions.files import ConfusionOptions, write_confusions
from sottovoce.decoding.conversations import conversation_of
from sottovoce.decoding.language_model import LanguageModel
from sottovoce.decoding.mixture import read_mixture, write_mixture
from sottovoce.decoding.nbest_files import read_nbest, write_nbest
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses, write_hypotheses
from sottovoce.evaluation.mapsswe import mapsswe
from sottovoce.evaluation.wer import count_errors
from sottovoce.packed import file_sizes, load_model, trained_hash
from sottovoce.runtime.language_models import read_language_model
from sottovoce.training.config import Recipe, load_recipe
from sottovoce.training.run import Run
from sottovoce.training.scoring import nbest_split
from sottovoce.training.train import train
from sottovoce.training.workers import Task

SPEECH, CONFUSIONS = "speech", "confusions"
FIRST, NGRAM = "first pass", f"{lm_arms.ORDER}-gram"
CONTROL = "fp32"
NEURAL = "neural"
EQUAL, TUNED, REPLACED = "equal shares", "tuned shares", "fp32's weights"
MIXINGS = {
    EQUAL: "shares of one half in a linear interpolation with the 4-gram",
    TUNED: "shares by likelihood of dev's references in a linear interpolation with the 4-gram",
    REPLACED: "shares and weights of the fp32 row of the other table, unchanged",
}
LISTS = "n-best lists"


@dataclass(frozen=True)
class Row:
    """A name, and the row of the language models' plan whose file it is."""

    name: str
    arm: str


@dataclass(frozen=True)
class Plan:
    """``lists``: by kind, the settings of speech and of confusions; ``lm``: the language models' own plan."""

    lists: Mapping[str, Mapping[str, Any]]
    lm: lm_arms.Plan
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    quick: Mapping[str, Any]
    cell_hours: float

    def reduced(self) -> "Plan":
        """Few rows, for a quick check."""
        return replace(self, rows=tuple(row for row in self.rows if row.name in self.quick["rows"]))


def load_plan(path: Path) -> Plan:
    found = read_plan(path, [SPEECH, CONFUSIONS, "language_models", "models", "cell_hours", "rows", "quick"])
    lm = lm_arms.load_plan(path.parent / found["language_models"])
    rows = tuple(Row(**item) for item in found["rows"])
    known = {row.name for row in lm.rows}
    unknown = [row.arm for row in rows if row.arm not in known] + [m for m in found["models"] if m not in lm.models]
    if unknown or CONTROL not in {row.name for row in rows}:
        raise ConfigError(f"{path}: expected a row {CONTROL!r}, and arms and models of the other plan, found {unknown}")
    lists = {kind: found[kind] for kind in (SPEECH, CONFUSIONS)}
    return Plan(lists, lm, tuple(found["models"]), rows, found["quick"], found["cell_hours"])


@dataclass(frozen=True)
class Lists:
    """n-best lists of dev, by which weights are found, and of ``split``, which is scored.

    ``text``: a language model of the text that is said. ``recognizer``: a run folder; without one it is trained.
    ``quick``: the confusion channel's lists of a few of dev's utterances, halved: one half to find weights by.
    """

    kind: str
    settings: Mapping[str, Any]
    split: str
    text: Place[Model]
    work: Path
    recognizer: Path | None = None
    quick: Mapping[str, Any] | None = None

    @property
    def speaks(self) -> bool:
        return self.kind == SPEECH and self.quick is None

    @property
    def config(self) -> dict[str, Any]:
        """What names a cell, hours left out."""
        if self.quick is not None:
            return {"lists": CONFUSIONS, "quick": True, **{k: v for k, v in self.quick.items() if k != "rows"}}
        settings = {key: value for key, value in self.settings.items() if not key.endswith("hours")}
        if self.kind == SPEECH:
            settings["recipe"] = hashlib.sha256(self.base.source.recipe.read_bytes()).hexdigest()[:12]
        return {"lists": self.kind, "split": self.split, **settings}

    @property
    def base(self) -> Place[arms.Corpus]:
        """Where the recognizer is trained, unless it is there already."""
        corpus = arms.Corpus("swda-synth", self.text.data, arms.load_path(self.settings["recipe"]))
        return arms.place_of(corpus, "", 0, snapshot=False, work=self.work)

    @property
    def run(self) -> Path:
        return self.recognizer or self.base.folder / "second"

    @property
    def recipe(self) -> Recipe:
        """The recognizer's: that of its second round."""
        return load_recipe(self.base.source.recipe, self.settings["second_round"])

    def file(self, split: str) -> Path:
        """``dev``, or the split that is scored."""
        return self.work / "lists" / config_hash({**self.config, "split": None}) / f"{split}.jsonl"

    @property
    def digest(self) -> str:
        """Of both files: figures of other lists must not stand beside these."""
        both = b"".join(self.file(split).read_bytes() for split in ("dev", self.split))
        return hashlib.sha256(both).hexdigest()[:12]


@dataclass(frozen=True)
class Cell:
    """A mixture over the lists: without a language model, with the n-gram alone, or with a row's beside it."""

    lists: Lists
    plan: Plan
    place: Place[Model]  # of the language model, or where the n-gram is
    row: Row | None
    mixing: str  # FIRST, NGRAM, or one of MIXINGS

    @property
    def name(self) -> str:
        return self.mixing if self.row is None else f"{self.place.name}: {self.row.name}, {self.mixing}"

    @property
    def seed(self) -> int:
        return 0 if self.row is None else self.place.seed

    @property
    def arm(self) -> lm_arms.Row | None:
        return None if self.row is None else self.plan.lm.row(self.row.arm)

    @property
    def config(self) -> dict[str, Any]:
        found = {**self.lists.config, "mixing": self.mixing}
        return found if self.arm is None else {**found, "lm": lm_arms.cell_config(self.place, self.arm, "any")}

    @property
    def hypotheses(self) -> Path:
        return self.lists.work / "rescored" / f"{config_hash(self.config)}-{self.seed}.jsonl"

    @property
    def weights(self) -> Path:
        """The file of the weights that were found."""
        return self.hypotheses.with_suffix(".weights.json")

    @property
    def compared(self) -> dict[str, "Cell"]:
        """What its hypotheses are compared with, by name."""
        before = {FIRST: [], NGRAM: [FIRST]}.get(self.mixing, [FIRST, NGRAM])
        found = {name: Cell(self.lists, self.plan, self.place, None, name) for name in before}
        return found if self.control is None else {**found, CONTROL: self.control}

    @property
    def control(self) -> "Cell | None":
        """The fp32 row in the same mixture; None for itself, and for rows without a neural model."""
        if self.row is None or self.row.name == CONTROL:
            return None
        row = next(row for row in self.plan.rows if row.name == CONTROL)
        return Cell(self.lists, self.plan, self.place, row, TUNED if self.mixing == REPLACED else self.mixing)


def cells_of(lists: Lists, plan: Plan, places: Mapping[str, tuple[Place[Model], ...]]) -> list[Cell]:
    """All cells, those that others need first; a mixture with fp32's weights is one for other rows."""
    first = next(iter(places.values()))[0]
    found = [Cell(lists, plan, first, None, name) for name in (FIRST, NGRAM)]
    for some in places.values():
        for place in some:
            for row in sorted(plan.rows, key=lambda row: row.name != CONTROL):
                mixings = [name for name in MIXINGS if row.name != CONTROL or name != REPLACED]
                found += [Cell(lists, plan, place, row, name) for name in mixings]
    return found


def tasks_of(cells: Cells, wanted: list[Cell], only_ready: bool) -> Iterator[Task]:
    """What is still to be done: lists, language models (``only_ready``: those that are there), then the cells."""
    due = [cell for cell in wanted if cells.done(cell.config, cell.seed) is None]
    due = [cell for cell in due if not only_ready or _ready(cell)]
    if not due:
        return
    compared = {other.name for cell in due for other in cell.compared.values() if not other.hypotheses.exists()}
    names = {cell.name for cell in due} | compared
    yield Task(LISTS, make_lists, (due[0].lists,))
    trainings = set[str]()
    for cell in wanted:
        if cell.name in names:
            yield from (task for task in _language_model(cell) if task.name not in trainings)
            trainings |= {task.name for task in _language_model(cell)}
            needs = {LISTS, _made(cell), *(other.name for other in cell.compared.values())}
            yield Task(cell.name, run_cell, (cell,), frozenset(needs))


def _ready(cell: Cell) -> bool:
    if cell.row is None or cell.arm is None:
        return cell.mixing == FIRST or lm_arms.ngram_file(cell.place).exists()
    control = cell.control
    return lm_arms.made(cell.place, cell.arm) is not None and (control is None or _ready(control))


def _made(cell: Cell) -> str:
    """The task that leaves the cell's language model."""
    base = f"{cell.place.name}: 32-bit training"
    return base if cell.arm is None or cell.arm.scheme is None else f"{cell.place.name}: {cell.arm.name}, made"


def _language_model(cell: Cell) -> Iterator[Task]:
    """Its training, by the other script's functions, where its file is missing."""
    place, base = cell.place, f"{cell.place.name}: 32-bit training"
    wanted = [] if cell.mixing == FIRST else [lm_arms.ngram_file(place)]
    wanted += [] if cell.arm is None else [place.base.model]
    if not all(path.exists() for path in wanted):
        yield Task(base, lm_arms.train_base, (place,))
    if cell.arm is not None and cell.arm.scheme is not None and lm_arms.made(place, cell.arm) is None:
        yield Task(_made(cell), lm_arms.make, (place, cell.plan.lm, cell.arm), frozenset({base}))


def make_lists(lists: Lists) -> None:
    """Both files of lists; the recognizer is trained, or the confusion channel heard, where they are missing."""
    make = _halve if lists.quick is not None else _decode if lists.speaks else _confuse
    if lists.speaks:
        _check_recognizer(lists)
    for split in dict.fromkeys(("dev", lists.split)):
        if not lists.file(split).exists():
            lists.file(split).parent.mkdir(parents=True, exist_ok=True)
            make(lists, split)


def _check_recognizer(lists: Lists) -> None:
    """Train it where none is named. Raises DataError if the lists that are there are another one's."""
    if lists.recognizer is None:
        arms.train_base(lists.base)
        train(lists.recipe, lists.base.data, lists.run, start=lists.base.base, threads=1, progress=False)
    mark, own = lists.file("dev").with_name("recognizer"), trained_hash(Run(lists.run).model)
    if mark.exists() and mark.read_text() != own:
        raise DataError(f"{mark.parent}: the lists there are those of another recognizer: give another --out")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(own)


def _decode(lists: Lists, split: str) -> None:
    run, recipe, data = Run.open(lists.run)
    if recipe.digest() != lists.recipe.digest():
        raise DataError(f"{lists.run}: expected a second round of {lists.settings['recipe']}, found another recipe")
    keys = ("beam", "blank_penalty", "arithmetic")
    found = nbest_split(run.model, data, split, **{key: lists.settings[key] for key in keys})  # type: ignore[arg-type]
    write_nbest(lists.file(split), found)


def _confuse(lists: Lists, split: str) -> None:
    """Dev at the error rate that is asked for; what is scored in the same noise."""
    corpus, folder, nbest = lm_arms.corpus_of(lists.text), lists.work / "confusions", lists.settings["nbest"]
    heard = write_confusions(
        corpus, folder / "dev", ConfusionOptions(split="dev", wer=lists.settings["wer"], nbest=nbest)
    )
    if split != "dev":
        heard = write_confusions(corpus, folder / split, ConfusionOptions(noise=heard.noise, nbest=nbest))
    write_nbest(lists.file(split), read_nbest(heard.folder / "nbest.jsonl"))


def _halve(lists: Lists, split: str) -> None:
    quick = lists.quick or {}
    options = ConfusionOptions(split="dev", utterances=quick["utterances"], noise=quick["noise"])
    heard = write_confusions(lm_arms.corpus_of(lists.text), lists.work / "confusions", options)
    both = read_nbest(heard.folder / "nbest.jsonl")
    half = len(both) // 2
    write_nbest(lists.file(split), both[:half] if split == "dev" else both[half:])


def run_cell(cell: Cell) -> Result:
    """Find weights on dev, rescore, and count: the cell's configuration, seed, figures and seconds."""
    begin = time.perf_counter()
    cell.hypotheses.parent.mkdir(parents=True, exist_ok=True)
    figures = _of_the_lists(cell) if cell.mixing == FIRST else _rescored(cell)
    figures |= {"lists": cell.lists.digest, **_counts(cell)}
    return cell.config, cell.seed, figures, time.perf_counter() - begin


def _of_the_lists(cell: Cell) -> dict[str, Any]:
    """The best entries as they came, and what is to be known of the lists."""
    lists = cell.lists
    found, dev = read_nbest(lists.file(lists.split)), read_nbest(lists.file("dev"))
    best = [Hypothesis(x.id, x.best.text, x.speaker, x.recording, x.reference) for x in found]
    write_hypotheses(cell.hypotheses, best)
    figures: dict[str, Any] = {
        "words_each": [len((x.reference or "").split()) for x in found],
        "conversations": [conversation_of(x.id, x.recording) for x in found],
        "oracle_errors": _oracle(found),
        "dev": {"errors": sum(_errors(x, x.best) for x in dev), "oracle_errors": _oracle(dev)},
    }
    return figures | ({} if not lists.speaks else {"recognizer": sizes_of(Run(lists.run).model)})


def _oracle(lists: Sequence[NBestList]) -> int:
    return sum(min(_errors(item, entry) for entry in item.entries) for item in lists)


def _errors(item: NBestList, entry: NBestEntry) -> int:
    return count_errors((item.reference or "").split(), entry.words).errors


def _rescored(cell: Cell) -> dict[str, Any]:
    """The second pass's hypotheses and weights, kept in files, and the sizes of its language model."""
    ngram = lm_arms.ngram_file(cell.place)
    models: dict[str, LanguageModel] = {NGRAM: read_language_model(ngram)}
    sizes: dict[str, Any] = {"file_bytes": ngram.stat().st_size}
    if cell.arm is not None:
        lm_arms.check_base(cell.place)
        file = lm_arms.made(cell.place, cell.arm)
        assert file is not None
        models[NEURAL], sizes = read_language_model(file), sizes_of(file)
    shares = {} if cell.arm is None else dict.fromkeys(models, 0.5)
    passes = SecondPass(Reading(), models, shares, None, {}, None)
    tuned: dict[str, Any] = {}
    if cell.mixing == REPLACED and cell.control is not None:
        mixture = read_mixture(cell.control.weights)
        passes = replace(passes, mixture=mixture, shares=mixture.shares)
    else:
        passes, tuned = tune_mixture(passes, cell.lists.file("dev"), cell.mixing == TUNED, ())
        assert passes.mixture is not None
        write_mixture(cell.weights, passes.mixture, tuned)
    path = cell.lists.file(cell.lists.split)
    rescored, found = passes.run(path, passes.reading.read(path), None)
    if found["skipped"]:
        raise DataError(f"{path}: expected every list to be scored, found {found['skipped']} that could not be")
    heard = [Hypothesis(x.id, " ".join(x.second), x.speaker, x.recording, x.reference) for x in rescored]
    write_hypotheses(cell.hypotheses, heard)
    known = {key: found[key] for key in ("weights", "shares", "known_words")}
    return {**sizes, **known, "dev": tuned}


def sizes_of(file: Path) -> dict[str, Any]:
    """Bytes of a packed file, and bits a weight."""
    sizes = file_sizes(file)
    return {
        "file_bytes": sizes.file_bytes,
        "model_bytes": sizes.model_bytes,
        "fp32_bytes": sizes.fp32_bytes,
        "average_bits": load_model(file).average_bits,
    }


def _counts(cell: Cell) -> dict[str, Any]:
    """Word errors, and the p-value of MAPSSWE against each cell that this one is compared with."""
    heard = read_hypotheses(cell.hypotheses)
    texts, references = {x.id: x.text for x in heard}, {x.id: x.reference or "" for x in heard}
    p = {}
    for name, other in cell.compared.items():
        beside = {x.id: x.text for x in read_hypotheses(other.hypotheses)}
        p[name] = mapsswe(references, texts, beside).p
    return {**arms.counts_of(heard), "mapsswe_p": p}
