"""BitPlan: bits, table and scales of every weight parameter, as data that people can read, edit and version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from sottovoce.errors import PlanError, did_you_mean
from sottovoce.packed.replacing import replacing
from sottovoce.quant.spec import BandSpec
from sottovoce.quant.weights import Weight, find_weights

VERSION = 1


@dataclass(frozen=True)
class PlannedBand:
    """One band of a weight with its rows resolved."""

    weight: Weight
    spec: BandSpec
    start: int
    stop: int

    @property
    def count(self) -> int:
        """Weights in the band."""
        return (self.stop - self.start) * self.weight.columns


@dataclass(frozen=True)
class BitPlan:
    """For each weight parameter, by name, its bands of rows in order; parameters that are not named stay float."""

    weights: Mapping[str, tuple[BandSpec, ...]]

    @classmethod
    def uniform(
        cls,
        model: nn.Module,
        bits: int,
        *,
        kind: str | None = None,
        grouping: str = "tensor",
        zero: bool | None = None,
        scale_dtype: str = "float16",
        overrides: Mapping[str, int] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> BitPlan:
        """The same bits for every weight of the model.

        kind: by default Lloyd-Max, and uniform levels at 8 bits, where they cost nothing. overrides: bits for the
        parameters that match a shell pattern, the last match counting. include: patterns of the only parameters to
        compress, all where there are none; exclude: patterns of parameters left in float. A tied weight goes by any of
        its names. Raises PlanError for a pattern that matches nothing.
        """
        names = {name: w.name for w in find_weights(model) for name in (w.name, *w.aliases)}
        if not names:
            raise PlanError(
                "the model has no weight that can be compressed: no LSTM, GRU, Linear, Embedding, Conv or attention"
            )
        chosen = dict.fromkeys(names.values(), bits)
        for pattern, value in (overrides or {}).items():
            chosen |= dict.fromkeys(_matching(pattern, names), value)
        wanted = {name for pattern in include for name in _matching(pattern, names)} if include else set(chosen)
        wanted -= {name for pattern in exclude for name in _matching(pattern, names)}

        def spec(b: int) -> BandSpec:
            eight = kind is None and b == 8
            return BandSpec(
                b, kind or ("uniform" if eight else "lloyd-max"), grouping, None if eight else zero, scale_dtype
            )

        return cls({name: (spec(b),) for name, b in chosen.items() if name in wanted})

    def split_rows(self, name: str, at: int, bits: tuple[int, int]) -> BitPlan:
        """The plan with one weight cut in two bands at row ``at``, with these bits above and below it."""
        if name not in self.weights or len(self.weights[name]) != 1:
            raise PlanError(
                f"{name}: expected a weight of one band to split, found {len(self.weights.get(name, ()))} bands"
            )
        band = self.weights[name][0]
        parts = (replace(band, bits=bits[0], stop=at), replace(band, bits=bits[1], start=at))
        return BitPlan({**self.weights, name: parts})

    def resolve(self, model: nn.Module) -> list[PlannedBand]:
        """The plan's bands laid on the model's weights.

        Raises PlanError for a name that the model does not have, a tied weight named twice, bands that leave or repeat
        rows, and scales per gate on a part of a weight.
        """
        known = {name: w for w in find_weights(model) for name in (w.name, *w.aliases)}
        bands: list[PlannedBand] = []
        seen: dict[str, str] = {}
        for name, specs in self.weights.items():
            if name not in known:
                raise PlanError(f"plan names {name!r}, which is no weight of this model{did_you_mean(name, known)}")
            weight = known[name]
            if weight.name in seen:
                raise PlanError(f"plan names {name!r}, which is tied to {seen[weight.name]!r}: name a tied weight once")
            seen[weight.name] = name
            bands += _lay(name, weight, specs)
        return bands

    def average_bits(self, model: nn.Module) -> float:
        """Bits a compressed weight, averaged over weights."""
        bands = self.resolve(model)
        return sum(b.count * b.spec.bits for b in bands) / max(sum(b.count for b in bands), 1)

    def to_json(self) -> str:
        """Versioned JSON, one weight a line."""
        defaults = asdict(BandSpec(8))
        rows = [
            f"    {json.dumps(name)}: {json.dumps([_sparse(s, defaults) for s in specs])}"
            for name, specs in self.weights.items()
        ]
        return f'{{\n  "version": {VERSION},\n  "weights": {{\n' + ",\n".join(rows) + "\n  }\n}\n"

    @classmethod
    def from_json(cls, text: str, source: str = "plan") -> BitPlan:
        """Raises PlanError naming the source for broken JSON, another version, or an unknown or unfit value."""
        try:
            data = json.loads(text)
            version, weights = data["version"], data["weights"]
            items = {str(name): [dict(band) for band in bands] for name, bands in weights.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"{source}: expected a JSON object with version and weights ({error})") from error
        if version != VERSION:
            raise PlanError(f"{source}: expected plan version {VERSION}, found {version!r}")
        return cls({name: tuple(_band(source, name, band) for band in bands) for name, bands in items.items()})

    def save(self, path: str | Path) -> None:
        """Write the plan, whole or not at all."""
        with replacing(Path(path)) as stream:
            stream.write(self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> BitPlan:
        """Raises PlanError when the file cannot be read or is no plan."""
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"{path}: cannot read the plan ({error})") from error
        return cls.from_json(text, str(path))


def _lay(name: str, weight: Weight, specs: tuple[BandSpec, ...]) -> list[PlannedBand]:
    bands, row = [], 0
    for spec in specs:
        stop = weight.rows if spec.stop is None else spec.stop
        if spec.start != row or not row < stop <= weight.rows:
            raise PlanError(
                f"{name}: bands must cover rows 0 to {weight.rows} in order, "
                f"found {spec.start} to {stop} after row {row}"
            )
        if spec.grouping == "gate" and stop - spec.start != weight.rows:
            raise PlanError(
                f"{name}: scales per gate want the whole weight in one band, found rows {spec.start} to {stop}"
            )
        bands.append(PlannedBand(weight, spec, row, stop))
        row = stop
    if row != weight.rows:
        raise PlanError(f"{name}: bands must cover all {weight.rows} rows, found {row}")
    return bands


def _matching(pattern: str, names: Mapping[str, str]) -> list[str]:
    """First names of the weights that have a name of this pattern; ``names`` maps every name to the first one."""
    found = [first for name, first in names.items() if fnmatchcase(name, pattern)]
    if not found:
        raise PlanError(f"pattern {pattern!r} matches no weight{did_you_mean(pattern, names)}")
    return found


def _sparse(spec: BandSpec, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in asdict(spec).items() if k in ("bits", "kind", "grouping") or v != defaults[k]}


def _band(source: str, name: str, data: dict[str, Any]) -> BandSpec:
    try:
        return BandSpec(**data)
    except TypeError as error:
        raise PlanError(f"{source}: {name}: {str(error).split('.')[-1]}") from error
    except PlanError as error:
        raise PlanError(f"{source}: {name}: {error}") from error
