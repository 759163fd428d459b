"""What the readers of existing corpora share: from entries a split to a prepared folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sottovoce.data import options as check
from sottovoce.data.checks import Skips
from sottovoce.data.entries import Entry, Progress, build_cuts, split_off_dev
from sottovoce.data.prepared import SPLITS, Prepared, begin, finish
from sottovoce.errors import DataError

Read = Callable[[Path, Skips], dict[str, list[Entry]]]


def prepare_entries(
    name: str,
    read: Read,
    source: str | Path,
    out: str | Path,
    *,
    seed: int,
    dev_share: float,
    test_share: float,
    strict: bool,
    progress: Progress | None,
) -> Prepared:
    """Read, check and write the manifests of a corpus; audio stays where it is.

    ``read`` gives entries by split. Without a dev (or test) split, ``dev_share`` (``test_share``) of the training
    utterances become one, by whole speakers where there are several. Raises ConfigError or DataError.
    """
    place = Path(source)
    if not place.exists():
        raise DataError(f"{source}: no such file or folder")
    chosen = {
        "source": str(place.absolute()),
        "seed": check.integer("seed", seed, 0, 2**31),
        "dev_share": check.number("dev_share", dev_share, 0.001, 0.9),
        "test_share": check.number("test_share", test_share, 0.001, 0.9),
        "strict": bool(strict),
    }
    done = begin(out, name, chosen)
    if done is not None:
        return done
    skips = Skips(strict)
    entries, details = _complete(read(place, skips), chosen)
    cuts = {split: build_cuts(entries[split], skips, progress) for split in SPLITS}
    skips.report(sum(map(len, cuts.values())))
    return finish(out, name, chosen, cuts, skips.items, details)


def _complete(
    entries: Mapping[str, list[Entry]], options: Mapping[str, Any]
) -> tuple[dict[str, list[Entry]], dict[str, Any]]:
    full = {split: list(entries.get(split, [])) for split in SPLITS}
    details: dict[str, Any] = {}
    for split in ("test", "dev"):
        if not full[split] and full["train"]:
            share = options[f"{split}_share"]
            full["train"], full[split], disjoint = split_off_dev(full["train"], share, options["seed"])
            details[f"{split}_cut_from_train"] = (
                "by speakers" if disjoint else "by utterances: speakers not known, or one only"
            )
    return full, details
