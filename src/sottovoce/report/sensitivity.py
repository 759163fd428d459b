"""The table of a search as a heat map: how much each cluster of weights suffers at each width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.errors import DataError
from sottovoce.report.markup import Markup, element, scroller


def heat_map(found: Mapping[str, Any], plan: Mapping[str, Any] | None, file: Path) -> Markup:
    """Cells gain colour with the logarithm of the sensitivity; those that ``plan`` (plan.json) chose are framed.

    Raises DataError, which names ``file``, for a table without clusters, bits and sensitivities, and for another plan.
    """
    try:
        widths = [int(b) for b in found["bits"]]
        clusters = [
            (str(c["name"]), int(c["weights"]), [float(v) for v in c["omega"]], c["parts"]) for c in found["clusters"]
        ]
        chosen = [_chosen(plan, parts) for *_, parts in clusters]
        if any(len(omega) != len(widths) for _, _, omega, _ in clusters):
            raise ValueError(f"one for each of {len(widths)} widths")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}, plan.json: expected bits and clusters with their sensitivities ({error})") from error
    values = [math.log(v) for _, _, omega, _ in clusters for v in omega if v > 0] or [0.0]
    low, high = min(values), max(values)
    head = element(
        "tr",
        element("th", "cluster"),
        element("th", "weights"),
        *(element("th", f"{b} bit" + "s" * (b > 1)) for b in widths),
    )
    rows = []
    for (name, weights, omega, _), own in zip(clusters, chosen, strict=True):
        cells = [_cell(v, low, high, bits in own) for bits, v in zip(widths, omega, strict=True)]
        rows.append(
            element("tr", element("th", name, scope="row"), element("td", f"{weights:,}", class_="number"), *cells)
        )
    table = element("table", element("thead", head), element("tbody", *rows), class_="heat")
    return scroller("sensitivities", table)


def of_role(found: Mapping[str, Any], role: str, file: Path) -> Mapping[str, Any]:
    """The clusters of one of the models that a joint table is about, under the names that they have there.

    Raises DataError, which names ``file``, for a table without clusters of that model.
    """
    mark = f"{role}:"
    try:
        clusters = [
            {
                **cluster,
                "name": cluster["name"].removeprefix(mark),
                "parts": [[weight.removeprefix(mark), *rows] for weight, *rows in cluster["parts"]],
            }
            for cluster in found["clusters"]
            if cluster["name"].startswith(mark)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: expected clusters with their parts ({error})") from error
    if not clusters:
        raise DataError(f"{file}: expected clusters of this model, with names that begin with {mark}, found none")
    return {**found, "clusters": clusters}


def _cell(value: float, low: float, high: float, chosen: bool) -> Markup:
    share = 0.0 if value <= 0 else (math.log(value) - low) / ((high - low) or 1.0)
    return element("td", f"{value:.2g}", style=f"--heat:{100 * share:.0f}%", class_="chosen" if chosen else None)


def _chosen(plan: Mapping[str, Any] | None, parts: Any) -> set[int]:
    """Bits that a plan gives to a cluster's rows; nothing where it does not know them."""
    found: set[int] = set()
    for weight, start, stop in parts:
        for band in ((plan or {}).get("weights") or {}).get(weight, []):
            first, last = band.get("start", 0), band.get("stop")
            if first <= start and (last is None or stop <= last):
                found.add(int(band["bits"]))
    return found
