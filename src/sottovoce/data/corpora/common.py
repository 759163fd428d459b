"""What the readers of existing corpora share: from entries a split to a prepared folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lhotse import MonoCut, Recording

from sottovoce.data import options as check
from sottovoce.data.checks import Skips
from sottovoce.data.entries import Entry, build_cuts, split_off_dev
from sottovoce.data.prepared import SPLITS, Prepared, begin, finish
from sottovoce.errors import DataError
from sottovoce.progress import Progress

Read = Callable[[Path, Skips], dict[str, list[Entry]]]


def prepare_entries(
    name: str,
    read: Read,
    source: str | Path,
    out: str | Path,
    *,
    seed: int,
    dev_share: float | None = None,
    test_share: float | None = None,
    strict: bool,
    progress: Progress | None,
    options: Mapping[str, Any] | None = None,
    part_of: Callable[[Recording], str] | None = None,
) -> Prepared:
    """Read, check and write the manifests of a corpus; audio stays where it is.

    ``read`` gives entries by split. Without a dev (or test) split, ``dev_share`` (``test_share``) of the training
    utterances become one, by whole speakers where there are several; a corpus that has its own splits gives no share.
    ``options`` are the corpus' own, checked. ``part_of`` names the part of the corpus that a recording is from: each
    cut keeps it in its custom field ``part``, and the details count them. Raises ConfigError or DataError.
    """
    place = check_source(source)
    shares = {"dev_share": dev_share, "test_share": test_share}
    chosen = {
        "source": str(place.absolute()),
        "seed": check.integer("seed", seed, 0, 2**31),
        **{name: check.number(name, share, 0.001, 0.9) for name, share in shares.items() if share is not None},
        "strict": bool(strict),
        **(options or {}),
    }
    done = begin(out, name, chosen)
    if done is not None:
        return done
    skips = Skips(strict)
    entries, details = _complete(read(place, skips), chosen)
    cuts = {split: build_cuts(entries[split], skips, progress) for split in SPLITS}
    if part_of is not None:
        details["parts"] = {split: _name_parts(cuts[split], part_of) for split in SPLITS}
    skips.report(sum(map(len, cuts.values())))
    return finish(out, name, chosen, cuts, skips.items, details)


def check_source(source: str | Path) -> Path:
    """``source`` as a path. Raises DataError if there is nothing."""
    place = Path(source)
    if not place.exists():
        raise DataError(f"{source}: no such file or folder")
    return place


def _name_parts(cuts: list[MonoCut], part_of: Callable[[Recording], str]) -> dict[str, int]:
    """Give each cut the name of its part; utterances of each."""
    for cut in cuts:
        cut.custom = {**(cut.custom or {}), "part": part_of(cut.recording)}
    return dict(Counter(cut.custom["part"] for cut in cuts))


def _complete(
    entries: Mapping[str, list[Entry]], options: Mapping[str, Any]
) -> tuple[dict[str, list[Entry]], dict[str, Any]]:
    full = {split: list(entries.get(split, [])) for split in SPLITS}
    details: dict[str, Any] = {}
    for split in ("test", "dev"):
        share = options.get(f"{split}_share")
        if share is not None and not full[split] and full["train"]:
            full["train"], full[split], disjoint = split_off_dev(full["train"], share, options["seed"])
            details[f"{split}_cut_from_train"] = (
                "by speakers" if disjoint else "by utterances: speakers not known, or one only"
            )
    return full, details
