"""Kaldi's lattices in text form, ``lattice-copy ark:lat.1 ark,t:-``: archives of Lattice or CompactLattice.

After a line with the utterance stand arcs and final weights, and an empty line ends it. A Lattice arc is ``state next
transition-id word graph,acoustic``; a CompactLattice arc is ``state next word graph,acoustic,id_id_...``. Weights are
costs, negative natural logarithms; arcs without one cost nothing. The first state is the initial one. Graph costs
become the score "lm" (they hold transition and pronunciation costs too), transition ids the note "segmentation" and,
times the frame shift, times of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sottovoce.decoding.lattices.lattice import Lattice, make_lattice
from sottovoce.decoding.scores import ACOUSTIC, LM, ScoreWeights
from sottovoce.decoding.skipped import Skipped, keep_good
from sottovoce.decoding.text_files import finite, natural, read_lines, read_table, write_text
from sottovoce.errors import DataError

FRAME_SHIFT = 0.01

Symbols = Mapping[str, str]


def read_symbols(path: str | Path) -> dict[str, str]:
    """Kaldi's ``words.txt``: number, as a text, to word. Raises DataError naming the line of anything else."""
    path = Path(path)
    found: dict[str, str] = {}
    for word, (line, number) in read_table(path).items():
        natural(f"{path}:{line}", number, f"the number of {word!r}")
        if number in found:
            raise DataError(f"{path}:{line}: the number {number} is given twice")
        found[number] = word
    return found


def read_kaldi_lattices(
    path: str | Path,
    symbols: Symbols | None = None,
    *,
    frame_shift: float = FRAME_SHIFT,
    weights: ScoreWeights | None = None,
    skipped: list[Skipped] | None = None,
) -> Iterator[Lattice]:
    """The lattices of an archive, plain or gzip, in order. ``symbols`` (of ``words.txt``) turns numbers into words;
    without it labels are taken for words, and 0 for none. ``frame_shift`` is the seconds of a transition id.

    A lattice that cannot be used is noted in ``skipped``, or, without it, raises DataError naming file and line: no
    path, a cycle, a label that is not in ``symbols``, a weight that is not finite, another form.
    """
    path = Path(path)
    blocks = _blocks(path, read_lines(path))
    return keep_good(
        ((id, _maker(path, id, line, block, symbols, frame_shift, weights)) for id, line, block in blocks),
        skipped,
    )


def _maker(
    path: Path,
    id: str,
    line: int,
    block: list[tuple[int, list[str]]],
    symbols: Symbols | None,
    frame_shift: float,
    weights: ScoreWeights | None,
) -> Callable[[], Lattice]:
    return lambda: _lattice(path, id, line, block, symbols, frame_shift, weights)


def _blocks(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, int, list[tuple[int, list[str]]]]]:
    """Utterance, line of its name, and its lines as columns."""
    id, first, block = "", 0, list[tuple[int, list[str]]]()
    for number, text in enumerate(lines, start=1):
        columns = text.split()
        if not columns:
            if id:
                yield id, first, block
            id, block = "", []
        elif id:
            block.append((number, columns))
        elif len(columns) == 1:
            id, first = columns[0], number
        else:
            raise DataError(f"{path}:{number}: expected the name of an utterance, found {text.strip()[:40]!r}")
    if id:
        yield id, first, block


@dataclass
class _Arcs:
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    acoustic: list[float] = field(default_factory=list)
    alignments: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    finals: dict[int, dict[str, float]] = field(default_factory=dict)
    initial: int = -1


def _lattice(
    path: Path,
    id: str,
    line: int,
    block: list[tuple[int, list[str]]],
    symbols: Symbols | None,
    frame_shift: float,
    weights: ScoreWeights | None,
) -> Lattice:
    arcs = _Arcs()
    for number, columns in block:
        _read_line(f"{path}:{number}", number, columns, arcs, symbols)
    if not arcs.finals:
        raise DataError(f"{path}:{line}: {id}: expected a final state, found none")
    nodes = max([*arcs.starts, *arcs.ends, *arcs.finals]) + 1
    if nodes > 2 * len(block) + 2:
        raise DataError(f"{path}:{line}: {id}: expected states numbered without gaps, found one numbered {nodes - 1}")
    lattice = make_lattice(
        id,
        [math.nan] * nodes,
        arcs.starts,
        arcs.ends,
        arcs.words,
        {ACOUSTIC: arcs.acoustic, LM: arcs.graph},
        initial=arcs.initial,
        finals=arcs.finals,
        weights=weights or ScoreWeights(),
        notes={"segmentation": arcs.alignments} if any(arcs.alignments) else None,
        where=lambda link: f"{path}:{line if link is None else arcs.lines[link]}: {id}",
    )
    return _timed(lattice, frame_shift)


def _read_line(where: str, line: int, columns: list[str], arcs: _Arcs, symbols: Symbols | None) -> None:
    state = natural(where, columns[0], "a state")
    if arcs.initial < 0:
        arcs.initial = state
    if len(columns) <= 2:
        graph, acoustic, _ = _weight(where, columns[1] if len(columns) == 2 else "")
        if graph != math.inf or acoustic != math.inf:  # an infinite cost is Kaldi's way to say "not final"
            _check_finite(where, graph, acoustic)
            arcs.finals[state] = {LM: -graph, ACOUSTIC: -acoustic}
        return
    weighted = "," in columns[-1]
    labels = columns[2 : len(columns) - weighted]
    if len(labels) not in (1, 2):
        raise DataError(f"{where}: expected an arc of a lattice or a compact lattice, found {' '.join(columns)[:40]!r}")
    graph, acoustic, alignment = _weight(where, columns[-1] if weighted else "")
    _check_finite(where, graph, acoustic)
    if len(labels) == 2:
        alignment = "" if labels[0] in ("0", "<eps>") else labels[0]
    arcs.starts.append(state)
    arcs.ends.append(natural(where, columns[1], "a state"))
    arcs.words.append(_word(where, labels[-1], symbols))
    arcs.graph.append(-graph)
    arcs.acoustic.append(-acoustic)
    arcs.alignments.append(alignment)
    arcs.lines.append(line)


def _weight(where: str, text: str) -> tuple[float, float, str]:
    if not text:
        return 0.0, 0.0, ""
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise DataError(f"{where}: expected a weight such as 1.5,20.25 or 1.5,20.25,3_4_4, found {text[:40]!r}")
    try:
        return float(parts[0]), float(parts[1]), parts[2] if len(parts) == 3 else ""
    except ValueError:
        raise DataError(f"{where}: expected costs, found {text[:40]!r}") from None


def _check_finite(where: str, graph: float, acoustic: float) -> None:
    for cost, what in ((graph, "graph"), (acoustic, "acoustic")):
        finite(where, repr(cost), f"the {what} cost")


def _word(where: str, label: str, symbols: Symbols | None) -> str:
    if symbols is None:
        return "" if label == "0" else label
    if label not in symbols:
        raise DataError(f"{where}: the label {label} is not among the words")
    return symbols[label]


def _timed(lattice: Lattice, frame_shift: float) -> Lattice:
    """Times of nodes by the transition ids on the way to them; unchanged where links have none."""
    if "segmentation" not in lattice.notes:
        return lattice
    frames = [0] * lattice.nodes
    for start, end, ids in zip(
        lattice.starts.tolist(), lattice.ends.tolist(), lattice.notes["segmentation"], strict=True
    ):
        frames[end] = frames[start] + (ids.count("_") + 1 if ids else 0)
    lattice.times[:] = [count * frame_shift for count in frames]
    return lattice


def write_kaldi_lattices(path: str | Path, lattices: Iterable[Lattice], symbols: Symbols | None = None) -> None:
    """Write an archive of compact lattices, with words as they are or as numbers of ``symbols``.

    Of the scores "acoustic" and "lm" are kept. Raises DataError naming a word that ``symbols`` lacks, an utterance
    whose name has white space, or a path that cannot be written.
    """
    numbers = {word: number for number, word in symbols.items()} if symbols is not None else None
    write_text(Path(path), "".join(_archived(Path(path), lattice, numbers) for lattice in lattices))


def _archived(path: Path, lattice: Lattice, numbers: Mapping[str, str] | None) -> str:
    if len(lattice.utterance.split()) != 1:
        raise DataError(f"{path}: expected a name without white space, found {lattice.utterance!r}")
    zeros = [0.0] * lattice.links
    graph, acoustic = (lattice.scores[name].tolist() if name in lattice.scores else zeros for name in (LM, ACOUSTIC))
    alignments = lattice.notes.get("segmentation", ("",) * lattice.links)
    labels = [_label(path, lattice, word, numbers) for word in lattice.words]
    lines = [lattice.utterance]
    for i, (start, end, label) in enumerate(
        zip(lattice.starts.tolist(), lattice.ends.tolist(), lattice.labels.tolist(), strict=True)
    ):
        weight = f"{0.0 - graph[i]!r},{0.0 - acoustic[i]!r},{alignments[i]}"
        lines.append(f"{start}\t{end}\t{labels[label]}\t{weight}")
    return "\n".join([*lines, str(lattice.final), "", ""])


def _label(path: Path, lattice: Lattice, word: str, numbers: Mapping[str, str] | None) -> str:
    if not word:
        return "0"
    if numbers is None:
        return word
    if word not in numbers:
        raise DataError(f"{path}: {lattice.utterance}: the word {word!r} is not among the symbols")
    return numbers[word]
