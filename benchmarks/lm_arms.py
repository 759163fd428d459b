"""Rows of benchmarks/mixed_precision_lm.py as cells: one row on one model and seed, judged by running its packed file.

A plan file (YAML) names models, with the recipe of each and how each scheme is trained there, and rows: the float32
model, one width for every weight, or bits chosen by a search within a budget.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from cells import Cells, config_hash
from options import read_plan
from places import Place
from safetensors.torch import load_file, save_file
from searches import searched

from sottovoce.data.text import TextCorpus
from sottovoce.data.text_folder import open_text
from sottovoce.decoding.vocabulary import read_vocabulary
from sottovoce.errors import ConfigError
from sottovoce.evaluation import SentenceScore, mix_scores, mixture_weights, summarize
from sottovoce.evaluation.scores import stream
from sottovoce.ngram import Vocabulary, load_ngram, save_ngram, train_kneser_ney
from sottovoce.packed import PackedMatrix, file_sizes, load_model
from sottovoce.quant import BitPlan
from sottovoce.search import SensitivityTable
from sottovoce.settings import read_settings
from sottovoce.training.arms import Job, carry_out, resolved
from sottovoce.training.config import CompressionConfig, Recipe
from sottovoce.training.perplexity import ngram_scores, score_split
from sottovoce.training.run import Run
from sottovoce.training.searching import search_inputs
from sottovoce.training.train import train
from sottovoce.training.workers import Task

ORDER = 4  # of the n-gram model


@dataclass(frozen=True)
class Model:
    """A recipe, what each scheme is trained with (``schemes``: sections of ``compression``), and hours to expect."""

    name: str
    recipe: Path
    schemes: Mapping[str, Mapping[str, Any]]
    base_hours: float
    epoch_hours: float
    quick: tuple[str, ...] = ("phase.epochs=1",)

    @cached_property
    def digest(self) -> str:
        """Hash of the recipe without its section on compression."""
        found = read_settings(self.recipe, "recipe")
        return config_hash({key: value for key, value in found.items() if key != "compression"})


@dataclass(frozen=True)
class Row:
    """scheme: None for the float32 model as it is, ``train`` for the same trained on alike. settings: what it adds to
    the model's section for the scheme. search: how its bits are chosen. assembled: it starts from the prototypes'
    weights. epochs: of fine-tuning. changes: overrides of the recipe."""

    name: str
    group: str
    scheme: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None
    assembled: bool = False
    epochs: int = 1
    seeds: int = 1
    changes: tuple[str, ...] = ()
    margins: tuple[float, float] | None = None
    models: tuple[str, ...] | None = None
    quick: bool = False

    @property
    def hours(self) -> float:
        """Epochs that it trains."""
        return 0.0 if self.scheme in (None, "ptq") else float(self.epochs)


@dataclass(frozen=True)
class Plan:
    """models and rows by name, prototypes: by bits, the rows whose weights a search and an assembly take; pairs: rows
    that are set against one another."""

    models: Mapping[str, Model]
    rows: tuple[Row, ...]
    prototypes: Mapping[int, str]
    margins: tuple[float, float]
    pairs: tuple[tuple[str, str], ...] = ()

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def load_plan(path: Path) -> Plan:
    """The plan file's models and rows."""
    found = read_plan(path, ("models", "tables", "margins"))
    recipes = Path(__file__).parent.parent / "recipes"
    models = {
        name: Model(name, recipes / f"{m['recipe']}.yaml", m["schemes"], m["base_hours"], m["epoch_hours"])
        for name, m in found["models"].items()
    }
    rows = [_row(group["title"], item) for group in found["tables"] for item in group["rows"]]
    names = [row.name for row in rows]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise ConfigError(f"{path}: rows of one name: {', '.join(sorted(doubled))}")
    margins = found["margins"]
    pairs = tuple((one, other) for one, other in found.get("pairs", []))
    strange = sorted({name for pair in pairs for name in pair} - set(names))
    if strange:
        raise ConfigError(f"{path}: pairs of rows that are not there: {', '.join(strange)}")
    return Plan(models, tuple(rows), found.get("prototypes", {}), (margins["alone"], margins["mixed"]), pairs)


def _row(group: str, item: Mapping[str, Any]) -> Row:
    values = dict(item)
    for name in ("changes", "margins", "models"):
        if name in values:
            values[name] = tuple(values[name])
    return Row(group=group, **values)


def compression(model: Model, row: Row, plan: BitPlan | None = None, quick: bool = False) -> CompressionConfig | None:
    """The row's section, its plan filled in where that has been searched."""
    if row.scheme is None:
        return None
    own: dict[str, Any] = dict(model.schemes.get(row.scheme, {}))
    own["phase"] = {**own.get("phase", {}), **row.settings.get("phase", {})} | {"epochs": 1 if quick else row.epochs}
    own |= {key: value for key, value in row.settings.items() if key != "phase"}
    own["scheme"] = "ptq" if row.scheme == "train" else row.scheme
    if plan is not None:
        own["plan"] = json.loads(plan.to_json())
    return CompressionConfig.model_validate(own)


def cell_config(place: Place[Model], row: Row, split: str) -> dict[str, Any]:
    """What names a cell. The recipe goes in as its file says it, but for its compression, which the row decides: new
    options with defaults leave old cells valid."""
    section = compression(place.source, row)
    trained = section is not None and row.scheme != "ptq"
    return {
        "corpus": "swda",
        "model": place.source.name,
        "recipe": place.source.digest,
        "quick": place.quick,
        "split": split,
        "row": row.scheme,
        "search": row.search,
        "assembled": row.assembled,
        "changes": list(row.changes),
        "phase": section.phase.model_dump() if section is not None and trained else None,
        "distillation": section.distillation.model_dump() if section and section.distillation else None,
        **({} if section is None or section.dropout is None else {"dropout": section.dropout}),
        **resolved(None if row.scheme == "train" else section),
    }


def tasks_of(place: Place[Model], plan: Plan, rows: list[Row], cells: Cells, split: str) -> Iterator[Task]:
    """What is still to be done here: the float32 training, the rows that others start from, then each row."""
    due = [row for row in rows if cells.done(cell_config(place, row, split), place.seed) is None]
    if not due:
        return
    base = f"{place.name}: 32-bit training"
    yield Task(base, train_base, (place,))
    prototypes = {name_of(place, plan.row(name)) for name in plan.prototypes.values()}
    for row in due:
        needs = prototypes if row.assembled or (row.search or {}).get("prototypes") else set()
        yield Task(name_of(place, row), run_row, (place, plan, row, split), frozenset({base, *needs}))


def name_of(place: Place[Model], row: Row) -> str:
    return f"{place.name}: {row.name}"


def train_base(place: Place[Model]) -> None:
    """Train in 32 bits, one thread; and the n-gram model of the same training text."""
    train(_base_recipe(place), place.data, place.base.folder, threads=1, progress=False)
    file = ngram_file(place)
    if not file.exists():
        vocabulary = read_vocabulary(place.base.tokenizer.read_bytes())
        words = Vocabulary.of(vocabulary.entries)  # type: ignore[attr-defined]
        sentences = words.encode([s.split() for s in corpus_of(place).sentences("train")])
        save_ngram(file, train_kneser_ney(sentences, words, ORDER)[0])


def _base_recipe(place: Place[Model]) -> Recipe:
    """Of the 32-bit training: rows have their own compression."""
    return place.recipe().model_copy(update={"compression": CompressionConfig()})


def run_row(place: Place[Model], plan: Plan, row: Row, split: str) -> tuple[dict[str, Any], int, dict[str, Any], float]:
    """Train and score a row: the cell's configuration, seed, figures and seconds."""
    begin = time.perf_counter()
    torch.set_num_threads(1)
    model, more = make(place, plan, row)
    trained = time.perf_counter() - begin
    figures = measure(place, model, split) | more | {"made_seconds": round(trained, 1)}
    return cell_config(place, row, split), place.seed, figures, time.perf_counter() - begin


def make(place: Place[Model], plan: Plan, row: Row) -> tuple[Path, dict[str, Any]]:
    """The row's packed file, made once, and what is to be said of how it was made."""
    if row.scheme is None:
        return place.base.model, {}
    chosen, more = choose(place, plan, row) if row.search else (None, {})
    section = compression(place.source, row, chosen, place.quick)
    assert section is not None
    control = row.scheme == "train"
    folder = folder_of(place, row)
    start = _assembled(place, plan, row, chosen) if row.assembled and chosen else place.base.module
    recipe = place.recipe(row.changes).model_copy(update={"compression": section})
    job = Job(recipe, place.data, place.base.folder, start, folder, None if control else section, place.seed)
    model = carry_out(job)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return model, more


def folder_of(place: Place[Model], row: Row) -> Path:
    """Where the row's file is made: named by what decides it, whatever it is scored on."""
    return place.folder / "arms" / f"{row.scheme}-{config_hash(cell_config(place, row, 'any'))}"


def check_base(place: Place[Model]) -> None:
    """Raises ConfigError for a 32-bit training of another recipe than the place's: what comes of it would stand under
    the name of this one."""
    found = Run.open(place.base.folder)[1]
    if found.digest() != _base_recipe(place).digest():
        raise ConfigError(
            f"{place.base.folder}: begun with other settings than {place.source.recipe}: give another --work"
        )


def made(place: Place[Model], row: Row) -> Path | None:
    """The row's packed file, if it is there."""
    file = place.base.model if row.scheme is None else Run(folder_of(place, row)).model
    return file if file.exists() else None


def choose(place: Place[Model], plan: Plan, row: Row) -> tuple[BitPlan, dict[str, Any]]:
    """Bits by the row's search, and what the search took."""
    search = dict(row.search or {})
    ratio, average = search.pop("ratio", None), search.pop("average_bits", None)
    table, seconds = _searched(place, plan, search, average)
    most = None if ratio is None else int(4 * table.parameters / ratio)
    choice = table.choose(average_bits=average, max_bytes=most)
    return choice.plan, {
        "omega": choice.omega,
        "search_seconds": seconds,
        "clusters": len(table.clusters),
        "widths": len(table.bits),
    }


def _searched(
    place: Place[Model], plan: Plan, search: dict[str, Any], average: float | None
) -> tuple[SensitivityTable, float]:
    """The table of a search, kept with its seconds, so that another budget costs nothing."""
    metric = search["metric"]
    name = f"{metric}-{config_hash(search | ({'average': average} if metric == 'nas' else {}))}.json"
    kept = place.folder / "searches" / name
    return searched(
        kept,
        lambda: search_inputs(place.base.folder, data=place.data, utterances=search.get("utterances", 256)),
        search,
        average,
        (lambda: {n: _weights(place, plan, n) for n in plan.prototypes}) if search.get("prototypes") else None,
    )


def _weights(place: Place[Model], plan: Plan, bits: int) -> dict[str, torch.Tensor]:
    """The quantized weights of the prototype of so many bits, by name."""
    packed = load_model(Run(folder_of(place, plan.row(plan.prototypes[bits]))).model)
    return {name: torch.from_numpy(packed.decode(name).copy()) for name in packed.tensors}


def _assembled(place: Place[Model], plan: Plan, row: Row, chosen: BitPlan) -> Path:
    """The trained module with each band's weights from the prototype of its bits; all else as it was trained."""
    path = folder_of(place, row).with_suffix(".assembled.safetensors")
    weights = load_file(place.base.module)
    prototypes = {n: _weights(place, plan, n) for n in plan.prototypes}
    for name, bands in chosen.weights.items():
        for band in bands:
            rows = slice(band.start, band.stop)
            weights[f"model.{name}"][rows] = prototypes[band.bits][name][rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def measure(place: Place[Model], model: Path, split: str) -> dict[str, Any]:
    """Perplexity of a packed file, alone and mixed with the n-gram model at the weight that is best on dev, and its
    sizes; nats and words of each conversation, for what is paired."""
    corpus = corpus_of(place)
    packed = load_model(model)
    vocabulary = read_vocabulary(packed.tokenizer or b"")
    ngram = load_ngram(ngram_file(place))
    scores, beside = {}, {}
    for name in {"dev", split}:
        scores[name] = score_split(model, corpus, name)
        beside[name] = ngram_scores(ngram, vocabulary, corpus, name)
    share = float(mixture_weights([stream(scores["dev"]), stream(beside["dev"])]).weights[0])
    mixed = mix_scores([scores[split], beside[split]], [share, 1 - share])
    sizes = file_sizes(model)
    found = summarize(scores[split])
    return {
        "perplexity": found.perplexity,
        "ci95": found.ci95,
        "mixed": summarize(mixed).perplexity,
        "ngram": summarize(beside[split]).perplexity,
        "weight": share,
        "words": _by_conversation(scores[split], lambda s: float(s.words)),
        "nats": _by_conversation(scores[split], lambda s: s.nats),
        "mixed_nats": _by_conversation(mixed, lambda s: s.nats),
        "average_bits": packed.average_bits,
        "bands": {
            name: [[band.start, band.stop, band.bits] for band in tensor.bands]
            for name, tensor in packed.tensors.items()
            if isinstance(tensor, PackedMatrix)
        },
        "model_bytes": sizes.model_bytes,
        "fp32_bytes": sizes.fp32_bytes,
        "file_bytes": sizes.file_bytes,
    }


def _by_conversation(scores: list[SentenceScore], value: Any) -> list[float]:
    return [round(sum(value(s) for s in some), 4) for _, some in groupby(scores, lambda s: s.conversation)]


@lru_cache(maxsize=1)
def _opened(data: Path, settings: str) -> TextCorpus:
    return open_text(data, json.loads(settings))


def corpus_of(place: Place[Model]) -> TextCorpus:
    return _opened(place.data, json.dumps(place.recipe().corpus))


def ngram_file(place: Place[Model]) -> Path:
    """The n-gram model of the training text, which ``train_base`` leaves."""
    return place.work / f"{ORDER}-gram-{config_hash(place.recipe().corpus)}.safetensors"
