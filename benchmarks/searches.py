"""Searches of a benchmark: the table of each is kept with its seconds, so that another budget costs nothing."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sottovoce.packed.replacing import replacing
from sottovoce.quant import BandSpec
from sottovoce.search import NAS, SensitivityTable, mean_loss, search_architecture, sensitivity
from sottovoce.search.rounding import Prototypes
from sottovoce.training.searching import SearchInputs


def searched(
    kept: Path,
    open_inputs: Callable[[], SearchInputs],
    search: Mapping[str, Any],
    average_bits: float | None = None,
    prototypes: Callable[[], Prototypes] | None = None,
    cache: Path | None = None,
) -> tuple[SensitivityTable, float]:
    """The table in ``kept``, found now if it is not there, and the seconds that finding it took.

    search: ``metric``, ``bits``, ``by``, ``kind``, ``grouping``, ``zero``, ``bands`` (whether the module's borders of
    rows count), ``probes`` of the Hessian, and the ``settings`` of an architecture search, which is for
    ``average_bits``. cache: a folder by which an interrupted search goes on; its seconds add up.
    """
    clock = kept.with_suffix(".seconds")
    if kept.exists():
        return SensitivityTable.load(kept), float(clock.read_text())
    inputs = open_inputs()
    given = None if prototypes is None else prototypes()
    kept.parent.mkdir(parents=True, exist_ok=True)
    if cache is None:
        clock.unlink(missing_ok=True)
    with clocked(clock):
        table = _find(inputs, search, average_bits, given, cache)
    table.save(kept)
    return table, float(clock.read_text())


@contextmanager
def clocked(clock: Path) -> Iterator[None]:
    """The seconds of the block are added to those in the file, also where it is interrupted."""
    spent = float(clock.read_text()) if clock.exists() else 0.0
    begin = time.perf_counter()
    try:
        yield
    finally:
        clock.parent.mkdir(parents=True, exist_ok=True)
        with replacing(clock) as file:
            file.write(str(round(spent + time.perf_counter() - begin, 1)).encode())


def levels_of(search: Mapping[str, Any]) -> BandSpec:
    """Table and scales that widths are tried with; bits do not count."""
    return BandSpec(8, search.get("kind", "uniform"), search.get("grouping", "row"), search.get("zero"))


def _find(
    inputs: SearchInputs,
    search: Mapping[str, Any],
    average_bits: float | None,
    prototypes: Prototypes | None,
    cache: Path | None,
) -> SensitivityTable:
    module, loss = inputs.module, mean_loss(inputs.module, inputs.batches)
    options: dict[str, Any] = {
        "bits": search.get("bits", [1, 2, 4, 8]),
        "by": search.get("by", "gate"),
        "rows": module.row_borders() if search.get("bands", True) else None,
        "levels": levels_of(search),
        "fields": inputs.fields,
        "tokenizer_bytes": inputs.tokenizer_bytes,
        "prototypes": prototypes,
        "cache": cache,
    }
    if search["metric"] == "nas":
        settings = NAS(**search.get("settings", {}))
        return search_architecture(
            module.model, inputs.batches, loss, settings=settings, average_bits=average_bits, **options
        )
    return sensitivity(
        module.model, inputs.batches, search["metric"], logits=module.logits, loss=loss,
        position_weights=module.position_weights, probes=search.get("probes", 16), **options,
    )  # fmt: skip
