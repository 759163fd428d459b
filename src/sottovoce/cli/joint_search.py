"""``sottovoce search --models``: one byte budget for a recognizer and its language model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sottovoce.cli.progress import progress_bar
from sottovoce.errors import ConfigError
from sottovoce.packed.replacing import replacing
from sottovoce.quant import BandSpec, BitPlan
from sottovoce.search import SensitivityTable
from sottovoce.search.clustering import clusters
from sottovoce.search.drawing import bits_of_layers
from sottovoce.search.joint import bytes_of_plan, errors_of_plans, join_tables, joint_sensitivity, split_plan
from sottovoce.search.measuring import sized, widths_of
from sottovoce.training.joint import ROLES, JointInputs, joint_inputs, joint_models
from sottovoce.training.searching import Trained

TABLE = "joint_sensitivity.json"


def parse_models(text: str) -> dict[str, Path]:
    """``asr=RUN,lm=RUN`` as folders by role. Raises ConfigError for anything else."""
    found: dict[str, Path] = {}
    for item in text.split(","):
        role, equals, folder = item.strip().partition("=")
        if not equals or not folder or role not in ROLES or role in found:
            raise ConfigError(f"--models {text}: expected asr=RUN,lm=RUN, found {item.strip()!r}")
        found[role] = Path(folder)
    missing = [role for role in ROLES if role not in found]
    if missing:
        raise ConfigError(f"--models {text}: expected asr=RUN,lm=RUN, found no {missing[0]}")
    return {role: found[role] for role in ROLES}


def joint_search(
    runs: Mapping[str, Path],
    *,
    widths: Sequence[int],
    average_bits: float | None,
    max_bytes: int | None,
    min_bits: int,
    by: str,
    rows: Mapping[str, Sequence[int]],
    bands: bool,
    levels: BandSpec,
    data: Path | None,
    utterances: int,
    nbest: int,
    seed: int,
    picture: Path | None,
    told: Callable[[SensitivityTable, float, float], None] = lambda table, searched, allocated: None,
) -> None:
    """Search, write ``plan.json`` into each run, and print the bits and what they are expected to cost; ``told`` gets
    the seconds of search and allocation."""
    console = Console(highlight=False)
    models = joint_models(runs)
    borders = _borders(models, rows, bands)
    _sized(models, borders, by, widths, levels).check_budget(average_bits, max_bytes, min_bits)  # before the long work
    inputs = joint_inputs(models, data=data, utterances=utterances, nbest=nbest, seed=seed)
    inputs = replace(inputs, scorers={role: replace(x, rows=borders[role]) for role, x in inputs.scorers.items()})
    begin = time.perf_counter()
    with progress_bar(Console(stderr=True), "word errors") as update:
        table = joint_sensitivity(inputs.scorers, inputs.lists, widths, by=by, levels=levels, progress=update)
    searched = time.perf_counter()
    choice = table.choose(average_bits=average_bits, max_bytes=max_bytes, min_bits=min_bits)
    allocated = time.perf_counter() - searched
    plans = split_plan(choice.plan, list(runs))
    _write(table, plans, runs)
    console.print(bits_of_layers(table, choice))
    _tell(console, inputs, plans, runs)
    ratio = 4 * table.parameters / choice.model_bytes
    console.print(f"together at most {choice.model_bytes:,} bytes, {ratio:.1f}x smaller than float32", soft_wrap=True)
    if picture is not None:
        table.plot(picture)
    told(table, searched - begin, allocated)


def _borders(
    models: Mapping[str, Trained], rows: Mapping[str, Sequence[int]], bands: bool
) -> dict[str, dict[str, Sequence[int]]]:
    """By role and weight the borders of ``--rows ROLE:WEIGHT=BORDER,...``, and with ``bands`` the models' own."""
    found = {role: dict[str, Sequence[int]](x.searchable.row_borders() if bands else {}) for role, x in models.items()}
    for name, borders in rows.items():
        role, colon, weight = name.partition(":")
        if not colon or role not in found:
            raise ConfigError(f"--rows {name}: expected a role first, as in lm:output.weight=1000")
        found[role][weight] = borders
    return found


def _sized(
    models: Mapping[str, Trained],
    borders: Mapping[str, Mapping[str, Sequence[int]]],
    by: str,
    bits: Sequence[int],
    levels: BandSpec,
) -> SensitivityTable:
    tables = {}
    for role, x in models.items():
        found = clusters(x.searchable.model, by, borders[role])
        tables[role] = sized(x.searchable.model, found, widths_of(bits, None), levels, x.fields, x.tokenizer_bytes)
    return join_tables(tables)


def _write(table: SensitivityTable, plans: Mapping[str, BitPlan], runs: Mapping[str, Path]) -> None:
    """Into all runs or none: a plan is of one budget with the other run's."""
    texts = {runs[role] / TABLE: table.to_json() for role in plans}
    texts |= {runs[role] / "plan.json": plan.to_json() for role, plan in plans.items()}
    try:
        with ExitStack() as files:
            for path, text in texts.items():
                files.enter_context(replacing(path)).write(text.encode())
    except OSError as error:
        folders = ", ".join(map(str, runs.values()))
        raise ConfigError(f"{folders}: the plans cannot be written, neither was ({error.strerror})") from error


def _tell(console: Console, inputs: JointInputs, plans: Mapping[str, BitPlan], runs: Mapping[str, Path]) -> None:
    lists, tuned = inputs.lists, inputs.tuned.weights
    factors = ", ".join(f"{name} {value:.3g}" for name, value in tuned.factors.items())
    console.print(
        f"{len(lists.features)} lists, {lists.words:,} words; weights: {factors}, "
        f"word penalty {tuned.word_penalty:.3g}",
        soft_wrap=True,
    )
    rounded = errors_of_plans(inputs.scorers, lists, plans)
    console.print(
        f"word errors expected: {lists.expected_errors():.2f} by float models, {rounded.expected:.2f} by both plans, "
        f"rounded; of the best entries: {lists.errors_of_best()} and {rounded.best}",
        soft_wrap=True,
    )
    for role, plan in plans.items():
        size = bytes_of_plan(inputs.scorers[role], plan)
        console.print(f"{runs[role] / 'plan.json'}: {size:,} bytes", soft_wrap=True)
