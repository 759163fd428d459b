"""HTK's Standard Lattice Format (The HTK Book 3.4, chapter 20), with the further score fields that SRILM writes.

Scores become natural logarithms whatever the header's ``base`` (0: the file has probabilities), the word penalty too;
times become seconds. Unknown fields are passed over, as the definition says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sottovoce.decoding.lattices.lattice import NO_WORD, Lattice, make_lattice
from sottovoce.decoding.scores import ACOUSTIC, LM, NGRAM, PRONUNCIATION, ScoreWeights
from sottovoce.decoding.text_files import finite, natural, read_lines, write_text
from sottovoce.errors import DataError

# A value may be quoted; a quote that is never closed belongs to the word ('em).
_FIELD = re.compile(r"""([^\s=]+)=("(?:[^"\\]|\\.)*"(?!\S)|'(?:[^'\\]|\\.)*'(?!\S)|(?:[^\s\\]|\\.)*)""")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LONG = {
    "VERSION": "V", "UTTERANCE": "U", "SUBLAT": "S", "NODES": "N", "LINKS": "L", "START": "S", "END": "E",
    "WORD": "W", "time": "t", "var": "v", "div": "d", "acoustic": "a", "ngram": "n", "language": "l",
}  # fmt: skip
# Field of a link -> score, field of the header with its factor, and the factor where the header has none.
_EXTRA = {f"x{i}": (f"x{i}", f"x{i}scale", 0.0) for i in range(1, 10)}
_SCORES = {
    "a": (ACOUSTIC, "acscale", 1.0),
    "l": (LM, "lmscale", 1.0),
    "n": (NGRAM, "ngscale", 1.0),
    "r": (PRONUNCIATION, "prscale", 1.0),
    "ds": ("duration", "duscale", 0.0),
    **_EXTRA,
}
SCORE_NAMES = frozenset(name for name, _, _ in _SCORES.values())
"""The scores that the format has fields for; x1 to x9 are anybody's."""
_NOTES = {"v": "variant", "d": "segmentation", "s": "tag"}


@dataclass
class _Parsed:
    """What the lines of a file say; of each node and link its line, so that messages can name it."""

    header: dict[str, str] = field(default_factory=dict)
    header_lines: dict[str, int] = field(default_factory=dict)
    nodes: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)
    links: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)


def read_slf(path: str | Path) -> Lattice:
    """Read one lattice, plain or gzip; words may stand on links or on nodes. The utterance is the header's, else the
    file's name without its extensions.

    Raises DataError naming the file and the line for what the format does not allow, cycles, no path from start to end,
    and scores that are not finite.
    """
    path = Path(path)
    parsed = _parse(path)
    header, base = parsed.header, _base(path, parsed)
    node_numbers = {number: i for i, number in enumerate(sorted(parsed.nodes))}
    links = [parsed.links[number] for number in sorted(parsed.links)]
    starts = [_end_of(path, line, fields, "S", node_numbers) for line, fields in links]
    ends = [_end_of(path, line, fields, "E", node_numbers) for line, fields in links]
    backward = header.get("dir", "f").startswith("b")
    merged = _with_node_fields(path, parsed, links, starts if backward else ends)
    present = [key for key in _SCORES if any(key in fields for _, fields in merged)]
    lines = [line for line, _ in links]
    return make_lattice(
        header.get("U") or _stem(path),
        _times(path, parsed),
        starts,
        ends,
        [fields.get("W", NO_WORD) for _, fields in merged],
        {_SCORES[key][0]: [_score(path, line, key, fields, base) for line, fields in merged] for key in present},
        initial=_named_node(path, parsed, "start", node_numbers),
        finals=_final(_named_node(path, parsed, "end", node_numbers)),
        weights=_weights(path, parsed, present, base),
        notes={
            name: [fields.get(key, "") for _, fields in merged]
            for key, name in _NOTES.items()
            if any(key in fields for _, fields in merged)
        },
        where=lambda link: str(path) if link is None else f"{path}:{lines[link]}",
    )


def _parse(path: Path) -> _Parsed:
    parsed = _Parsed()
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line.startswith("#") or line.isspace():
            continue
        if line.strip() == ".":
            raise DataError(f"{path}:{number}: expected one lattice, found the end of a sub-lattice: not supported")
        pairs = _FIELD.findall(line)
        if not pairs or (line.count("=") and _FIELD.sub("", line).strip()) or "=" not in line:
            raise DataError(f"{path}:{number}: expected fields such as NODES=3 or J=0, found {line.strip()[:40]!r}")
        if pairs[0][0] in ("I", "J"):
            _add(path, number, parsed.nodes if pairs[0][0] == "I" else parsed.links, pairs)
        else:
            for key, value in pairs:
                parsed.header[_LONG.get(key, key)] = _plain(value)
                parsed.header_lines[_LONG.get(key, key)] = number
    _check_counts(path, parsed)
    return parsed


def _add(path: Path, line: int, items: dict[int, tuple[int, dict[str, str]]], pairs: Sequence[tuple[str, str]]) -> None:
    (kind, value), *rest = pairs
    number = natural(f"{path}:{line}", value, f"the number {kind}=")
    if number in items:
        raise DataError(f"{path}:{line}: {kind}={number} is given twice")
    fields = {
        _LONG.get(key, key): _plain(value) if value[:1] in "\"'" or "\\" in value else value for key, value in rest
    }
    if kind == "I" and "L" in fields:
        raise DataError(f"{path}:{line}: expected a word lattice, found a node that stands for a sub-lattice")
    items[number] = (line, fields)


def _plain(value: str) -> str:
    """A value without its quotes and escapes; \\nnn is a byte in octal."""
    if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
        value = value[1:-1]
    if "\\" not in value:
        return value
    data = _ESCAPE.sub(lambda m: bytes([int(m[1], 8) & 255]) if len(m[1]) == 3 else m[1], value.encode())
    return data.decode("utf-8", errors="replace")


def _check_counts(path: Path, parsed: _Parsed) -> None:
    for key, what, items in (("N", "nodes", parsed.nodes), ("L", "links", parsed.links)):
        if key not in parsed.header:
            raise DataError(f"{path}: expected the number of {what} ({key}=), found none")
        where = f"{path}:{parsed.header_lines[key]}"
        count = natural(where, parsed.header[key], f"the number of {what}")
        if key == "N" and not items and count <= 2 * len(parsed.links):  # node lines are optional
            items.update({i: (parsed.header_lines[key], {}) for i in range(count)})
        if count != len(items):
            raise DataError(f"{where}: expected {count} {what}, found {len(items)}")


def _base(path: Path, parsed: _Parsed) -> float:
    """The natural logarithm of the base of the file's logarithms; 0 where it has probabilities."""
    text = parsed.header.get("base")
    if text is None:
        return 1.0
    where = f"{path}:{parsed.header_lines['base']}"
    base = finite(where, text, "the base")
    if base == 0:
        return 0.0
    if base < 0 or base == 1:
        raise DataError(f"{where}: expected a base of logarithms, or 0 for probabilities, found {text}")
    return math.log(base)


def _natural_log(where: str, text: str, what: str, base: float) -> float:
    value = finite(where, text, what)
    if base:
        return value * base
    if value <= 0:
        raise DataError(f"{where}: expected a probability above 0 as {what}, found {text[:40]!r}")
    return math.log(value)


def _score(path: Path, line: int, key: str, fields: Mapping[str, str], base: float) -> float:
    text = fields.get(key)
    return 0.0 if text is None else _natural_log(f"{path}:{line}", text, f"{key}=", base)


def _end_of(path: Path, line: int, fields: Mapping[str, str], key: str, nodes: Mapping[int, int]) -> int:
    if key not in fields:
        raise DataError(f"{path}:{line}: expected the link's node {key}=, found none")
    number = natural(f"{path}:{line}", fields[key], f"the node {key}=")
    if number not in nodes:
        raise DataError(f"{path}:{line}: there is no node {number}")
    return nodes[number]


def _with_node_fields(
    path: Path, parsed: _Parsed, links: Sequence[tuple[int, dict[str, str]]], at: Sequence[int]
) -> list[tuple[int, dict[str, str]]]:
    """Fields of links, completed by those of the nodes where their words end (or begin, in a backward lattice)."""
    nodes = [
        {key: value for key, value in parsed.nodes[number][1].items() if key != "t"} for number in sorted(parsed.nodes)
    ]
    if not any(nodes):
        return list(links)
    return [(line, {**nodes[node], **fields}) for (line, fields), node in zip(links, at, strict=True)]


def _times(path: Path, parsed: _Parsed) -> list[float]:
    scale = 1.0
    if "tscale" in parsed.header:
        scale = finite(f"{path}:{parsed.header_lines['tscale']}", parsed.header["tscale"], "tscale")
    times = []
    for _, (line, fields) in sorted(parsed.nodes.items()):
        times.append(finite(f"{path}:{line}", fields["t"], "a time") * scale if "t" in fields else math.nan)
    return times


def _named_node(path: Path, parsed: _Parsed, key: str, nodes: Mapping[int, int]) -> int | None:
    if key not in parsed.header:
        return None
    return _end_of(path, parsed.header_lines[key], {key: parsed.header[key]}, key, nodes)


def _final(node: int | None) -> dict[int, dict[str, float]] | None:
    return None if node is None else {node: {}}


def _weights(path: Path, parsed: _Parsed, present: Sequence[str], base: float) -> ScoreWeights:
    factors = {}
    for key in present:
        name, scale, default = _SCORES[key]
        factors[name] = default
        if scale in parsed.header:
            factors[name] = finite(f"{path}:{parsed.header_lines[scale]}", parsed.header[scale], scale)
    penalty = 0.0
    if "wdpenalty" in parsed.header:
        where = f"{path}:{parsed.header_lines['wdpenalty']}"
        penalty = _natural_log(where, parsed.header["wdpenalty"], "wdpenalty", base)
    return ScoreWeights(factors, penalty)


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return name.rsplit(".", 1)[0] if "." in name else name


def write_slf(path: str | Path, lattice: Lattice) -> None:
    """Write a lattice with its words on links and natural logarithms, gzip if the name ends in .gz; ``read_slf`` gives
    the same lattice again. Scores that SLF has no field for are refused.

    Raises DataError naming the file for such a score or a path that cannot be written.
    """
    path = Path(path)
    keys = {name: key for key, (name, _, _) in _SCORES.items()}
    unknown = next((name for name in lattice.scores if name not in keys), None)
    if unknown is not None:
        raise DataError(
            f"{path}: expected one of the scores {', '.join(keys)}, found {unknown!r}: SLF has no such field"
        )
    lines = _header(lattice)
    for node, time in enumerate(lattice.times.tolist()):
        lines.append(f"I={node}" if math.isnan(time) else f"I={node} t={time!r}")
    columns = [(keys[name], values.tolist()) for name, values in lattice.scores.items()]
    notes = [(key, lattice.notes[name]) for key, name in _NOTES.items() if name in lattice.notes]
    words = ["!NULL", *map(_quoted, lattice.words[1:])]
    for i, (start, end, label) in enumerate(
        zip(lattice.starts.tolist(), lattice.ends.tolist(), lattice.labels.tolist(), strict=True)
    ):
        parts = [f"J={i} S={start} E={end} W={words[label]}"]
        parts += [f"{key}={_quoted(texts[i])}" for key, texts in notes if texts[i]]
        parts += [f"{key}={values[i]!r}" for key, values in columns]
        lines.append(" ".join(parts))
    write_text(path, "\n".join([*lines, ""]))


def _header(lattice: Lattice) -> list[str]:
    scales = {name: scale for name, scale, _ in _SCORES.values()}
    factors = [f"{scales[name]}={lattice.weights.factors.get(name, 0.0)!r}" for name in lattice.scores]
    return [
        "VERSION=1.0",
        f"UTTERANCE={_quoted(lattice.utterance)}",
        f"base={math.e!r}",
        " ".join([*factors, f"wdpenalty={lattice.weights.word_penalty!r}"]),
        f"start=0 end={lattice.final}",
        f"N={lattice.nodes} L={lattice.links}",
    ]


def _quoted(value: str) -> str:
    """A value as ``_plain`` reads it: bytes that would end or change it are escaped."""
    escaped = value.replace("\\", "\\\\")
    escaped = "".join(f"\\{ord(c):03o}" if c.isspace() and ord(c) < 128 else c for c in escaped)
    escaped = "".join(c if not c.isspace() else "".join(f"\\{b:03o}" for b in c.encode()) for c in escaped)
    return f"\\{escaped}" if escaped[:1] in ("'", '"') else escaped
