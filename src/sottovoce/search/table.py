"""What a search found: how much each cluster suffers at each width, and the plans that follow from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from sottovoce.errors import PlanError
from sottovoce.packed.replacing import replacing
from sottovoce.quant.makers import level_count
from sottovoce.quant.plan import BitPlan
from sottovoce.quant.spec import BandSpec
from sottovoce.search.clustering import Cluster, Part, joins_bands, plan_of, spec_of

if TYPE_CHECKING:
    from sottovoce.search.allocation import Join

VERSION = 1


@dataclass(frozen=True)
class Choice:
    """A width for each cluster, what it adds up to, and its plan.

    omega: sum of the clusters' sensitivities; average_bits: over the weights in clusters; model_bytes: at most what the
    packed file will hold, all of it but a tokenizer.
    """

    bits: tuple[int, ...]
    omega: float
    average_bits: float
    model_bytes: int
    plan: BitPlan


@dataclass(frozen=True, eq=False)
class SensitivityTable:
    """C clusters at B widths.

    omega: float64 (C, B), the sensitivity, not negative, whose sum over clusters a plan should make small: nats of
        divergence (``kl``), mean curvature times squared rounding error (``hessian``), or negative log probability
        (``nas``).
    weights: int64 (C,), weights in each cluster. bytes: int64 (C, B), what its codes, levels and scales take in the
        file. fixed_bytes: everything else there but a tokenizer; join_bytes: what is saved where two neighbouring
        bands come out alike and are one. parameters: all of the model's, for the ratio.
    levels: kind, grouping, zero and scale_dtype that the widths were tried with; the plans have them too.
    details: how it was measured, and where there is such a thing the standard error of each cluster.
    """

    metric: str
    clusters: tuple[Cluster, ...]
    bits: tuple[int, ...]
    omega: NDArray[np.float64]
    weights: NDArray[np.int64]
    bytes: NDArray[np.int64]
    fixed_bytes: int
    join_bytes: int
    parameters: int
    levels: BandSpec
    details: Mapping[str, Any] = field(default_factory=dict)

    def allocate(
        self, *, average_bits: float | None = None, max_bytes: int | None = None, min_bits: int = 1
    ) -> BitPlan:
        """The plan with the least summed sensitivity within the budget, exactly; see ``choose``."""
        return self.choose(average_bits=average_bits, max_bytes=max_bytes, min_bits=min_bits).plan

    def choose(self, *, average_bits: float | None = None, max_bytes: int | None = None, min_bits: int = 1) -> Choice:
        """The choice with the least summed sensitivity within the budget, by integer programming.

        average_bits: most bits a weight in clusters, averaged over weights; levels and scales do not count.
        max_bytes: most bytes of the packed file without its tokenizer, everything counted. min_bits: no fewer than so
        many for any cluster. Both budgets may be given together.

        Raises PlanError where nothing fits, with the least that would.
        """
        from sottovoce.search.allocation import Budget, allocate  # scipy is slow to import

        allowed = self._allowed(min_bits)
        self.check_budget(average_bits, max_bytes, min_bits)
        budgets = []
        if average_bits is not None:
            budgets.append(Budget(self._bit_cost(), int(average_bits * int(self.weights.sum()) + 1e-6)))
        if max_bytes is not None:
            budgets.append(Budget(self.bytes, max_bytes - self.fixed_bytes, self._joins()))
        found = allocate(self.omega, budgets, allowed)
        if found is None:
            wanted = [] if average_bits is None else [f"{average_bits:g} bits on average at most"]
            wanted += [] if max_bytes is None else [f"{max_bytes:,} bytes at most"]
            raise PlanError(f"no plan has {' and '.join(wanted)}")
        return self.price(found.tolist())

    def check_budget(self, average_bits: float | None, max_bytes: int | None, min_bits: int = 1) -> None:
        """Raises PlanError for no budget, or one too small for any plan, with the least that would do.

        Sensitivities play no part in it.
        """
        if average_bits is None and max_bytes is None:
            raise PlanError("a budget is needed: average_bits, max_bytes or both")
        allowed = self._allowed(min_bits)
        fewest = min(b for b, fits in zip(self.bits, allowed[0], strict=True) if fits)
        if average_bits is not None and not fewest <= average_bits < math.inf:
            raise PlanError(f"average_bits: at least {fewest} are needed, and no infinity; found {average_bits:g}")
        least = self.price([int(np.argmax(row)) for row in allowed]).model_bytes
        if max_bytes is not None and max_bytes < least:
            raise PlanError(
                f"max_bytes: at least {least:,} are needed, with {fewest} bits for every cluster; found {max_bytes:,}"
            )

    def price(self, options: Sequence[int]) -> Choice:
        """What one option (an index of ``bits``) for each cluster comes to."""
        rows, taken = np.arange(len(self.clusters)), np.asarray(options)
        bits = tuple(self.bits[i] for i in options)
        saved = sum(int(j.saved[options[j.first]]) for j in self._joins() if options[j.first] == options[j.second])
        return Choice(
            bits,
            float(self.omega[rows, taken].sum()),
            float((self.weights * np.array(bits)).sum() / max(int(self.weights.sum()), 1)),
            self.fixed_bytes + int(self.bytes[rows, taken].sum()) - saved,
            plan_of(self.clusters, bits, self.levels),
        )

    def average_within(self, max_bytes: int) -> float:
        """About as many bits a weight as a file of ``max_bytes`` has room for, no bands joined."""
        return float(np.interp(max_bytes, self.fixed_bytes + self.bytes.sum(0), self.bits))

    def pareto(self, by: str = "bytes", min_bits: int = 1) -> list[Choice]:
        """Choices from the smallest to the least sensitive, each of them the best for its size.

        by: size in ``bytes`` (bands counted apart) or in ``bits``. They are the corners of the front's convex hull;
        between two of them ``choose`` finds what lies above the line.
        """
        from sottovoce.search.allocation import front

        if by not in ("bytes", "bits"):
            raise PlanError(f"the front is by bytes or by bits, found {by!r}")
        cost = self.bytes if by == "bytes" else self._bit_cost()
        return [self.price(x.tolist()) for x in front(self.omega, cost, self._allowed(min_bits))]

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, whole or not at all."""
        with replacing(Path(path)) as stream:
            stream.write(self.to_json().encode())

    def to_json(self) -> str:
        """The table as ``save`` writes it."""
        return json.dumps(self._to_dict(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> SensitivityTable:
        """Raises PlanError for a file that cannot be read, or holds no table of this version."""
        try:
            data = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise PlanError(f"{path}: cannot read the table ({error})") from error
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise PlanError(f"{path}: expected a sensitivity table of version {VERSION}, found {version!r}")
        try:
            table = cls._from_dict(data)
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"{path}: expected a sensitivity table ({error})") from error
        return table

    def plot(self, path: str | Path) -> None:
        """Draw the sensitivities and the front into a picture; wants matplotlib."""
        from sottovoce.search.drawing import plot

        plot(self, Path(path))

    def __str__(self) -> str:
        from sottovoce.search.drawing import sensitivities

        with (console := Console(file=StringIO(), width=160)).capture() as shown:
            console.print(sensitivities(self))
        return shown.get().rstrip()

    def __rich__(self) -> Any:
        from sottovoce.search.drawing import sensitivities

        return sensitivities(self)

    def _joins(self) -> tuple[Join, ...]:
        """What neighbouring bands save where they take the same bits and become one."""
        from sottovoce.search.allocation import Join

        if not joins_bands(self.levels):
            return ()
        saved = np.array([self.join_bytes + level_count(spec_of(self.levels, bits)) for bits in self.bits], np.int64)
        parts = sorted((part.weight, part.start, i) for i, c in enumerate(self.clusters) for part in c.parts)
        return tuple(Join(a[2], b[2], saved) for a, b in pairwise(parts) if a[0] == b[0])

    def _bit_cost(self) -> NDArray[np.int64]:
        return self.weights[:, None] * np.array(self.bits, np.int64)

    def _allowed(self, min_bits: int) -> NDArray[np.bool_]:
        allowed = np.array(self.bits) >= min_bits
        if not allowed.any():
            raise PlanError(f"min_bits is {min_bits}, but the table has {', '.join(map(str, self.bits))} bits only")
        return np.broadcast_to(allowed, self.omega.shape).copy()

    def _to_dict(self) -> dict[str, Any]:
        levels = asdict(self.levels)
        return {
            "version": VERSION,
            "metric": self.metric,
            "levels": {key: levels[key] for key in ("kind", "grouping", "zero", "scale_dtype")},
            "bits": list(self.bits),
            "fixed_bytes": self.fixed_bytes,
            "join_bytes": self.join_bytes,
            "parameters": self.parameters,
            "details": dict(self.details),
            "clusters": [
                {
                    "name": cluster.name,
                    "parts": [[part.weight, part.start, part.stop] for part in cluster.parts],
                    "weights": int(self.weights[i]),
                    "omega": self.omega[i].tolist(),
                    "bytes": self.bytes[i].tolist(),
                }
                for i, cluster in enumerate(self.clusters)
            ],
        }

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> SensitivityTable:
        rows = data["clusters"]
        shape = (len(rows), len(data["bits"]))
        omega = np.array([row["omega"] for row in rows], np.float64).reshape(shape)
        if not rows or not np.isfinite(omega).all() or (omega < 0).any():
            raise ValueError("sensitivities must be finite numbers, not negative")
        return cls(
            str(data["metric"]),
            tuple(
                Cluster(str(row["name"]), tuple(Part(str(w), int(a), int(b)) for w, a, b in row["parts"]))
                for row in rows
            ),
            tuple(int(b) for b in data["bits"]),
            omega,
            np.array([row["weights"] for row in rows], np.int64),
            np.array([row["bytes"] for row in rows], np.int64).reshape(shape),
            int(data["fixed_bytes"]),
            int(data["join_bytes"]),
            int(data["parameters"]),
            BandSpec(8, **data["levels"]),
            data["details"],
        )
