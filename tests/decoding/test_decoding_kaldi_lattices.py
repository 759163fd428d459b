from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from lattice_cases import best_by_words, lattices, same_lattice

from sottovoce.decoding.lattices import (
    best_path,
    nbest_paths,
    read_kaldi_lattices,
    read_symbols,
    write_kaldi_lattices,
)
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.skipped import Skipped
from sottovoce.errors import DataError

SYMBOLS = {"0": "<eps>", "1": "yes", "2": "no"}

# "yes" over four frames or "no" over three, then silence; the same two paths in both forms.
COMPACT = """utt-1
0 1 1 1.5,10.25,7_7_8_8
0 1 2 0.5,12,9_9_9
1 2 0 0,3,4_4
2 0.25,0,
"""
PLAIN = """utt-1
0\t1\t7\t1\t1.5,10.25
1\t2\t7\t0
2\t3\t8\t0
3\t4\t8\t0
0\t5\t9\t2\t0.5,12
5\t6\t9\t0\t0,0
6\t4\t9\t0
4\t7\t4\t0\t0,3
7\t8\t4\t0
8\t0.25,0
"""


def read(folder: Path, text: str, **options):
    path = folder / "lat.txt"
    path.write_text(text)
    return list(read_kaldi_lattices(path, **{"symbols": SYMBOLS, **options}))


@pytest.mark.parametrize("text", [COMPACT, PLAIN])
def test_both_forms_give_the_same_words_and_scores(tmp_path: Path, text: str) -> None:
    weights = ScoreWeights({"acoustic": 0.1, "lm": 1.0})
    (lattice,) = read(tmp_path, text, weights=weights)
    assert lattice.utterance == "utt-1"
    assert best_by_words(lattice) == pytest.approx({("yes",): -1.5 - 1.325 - 0.25, ("no",): -0.5 - 1.5 - 0.25})
    assert [path.words for path in nbest_paths(lattice, 5)] == [("no",), ("yes",)]


def test_times_come_from_transition_ids(tmp_path: Path) -> None:
    (lattice,) = read(tmp_path, COMPACT, frame_shift=0.03)
    assert lattice.times[:1].tolist() == [0.0] and lattice.times[-1] == pytest.approx(0.03 * 5)
    assert lattice.notes["segmentation"][0] == "7_7_8_8"
    (lattice,) = read(tmp_path, "u\n0 1 1 1,2\n1\n")
    assert np.isnan(lattice.times).all() and not lattice.notes


def test_final_weights_arcs_without_weights_and_labels_as_words(tmp_path: Path) -> None:
    (lattice,) = read(tmp_path, "u\n0 1 yes\n1 2 no 1,1,\n1 0.5,0,\n2 0,0,\n", symbols=None)
    assert best_by_words(lattice) == {("yes",): -0.5, ("yes", "no"): -2.0}
    (lattice,) = read(tmp_path, "u\n3 1 1 1,1,\n1 Infinity,Infinity,\n1 2 0 2,0,\n2\n0 1 2 0,0,\n")
    assert best_by_words(lattice) == {("yes",): -4.0}  # the first line's state is the initial one


def test_the_others_go_on_and_the_skipped_are_named(tmp_path: Path) -> None:
    archive = "\n".join(
        [
            COMPACT,
            "cyclic\n0 1 1 0,0,\n1 0 2 0,0,\n1\n",
            "unknown\n0 1 9 0,0,\n1\n",
            "infinite\n0 1 1 0,inf,\n1\n",
            "endless\n0 1 1 0,0,\n",
            "apart\n0 1 1 0,0,\n2 3 1 0,0,\n3\n",
            "empty\n",
            COMPACT.replace("utt-1", "utt-2"),
        ]
    )
    skipped: list[Skipped] = []
    found = read(tmp_path, archive, skipped=skipped)
    assert [lattice.utterance for lattice in found] == ["utt-1", "utt-2"]
    path = tmp_path / "lat.txt"
    assert {item.id: item.reason.removeprefix(f"{path}:") for item in skipped} == {
        "cyclic": "8: cyclic: expected no cycle, found one that the link from node 0 to node 1 closes",
        "unknown": "13: the label 9 is not among the words",
        "infinite": "17: expected a finite number as the acoustic cost, found 'inf'",
        "endless": "20: endless: expected a final state, found none",
        "apart": "23: apart: expected a path from the first node to the last, found none",
        "empty": "28: empty: expected a final state, found none",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1 1 2 3 0,0", "expected an arc"),
        ("0 1", "expected a weight such as"),
        ("0 1 1 0,x,", "expected costs, found '0,x,'"),
        ("0 1 1 0,0,3,4", "expected a weight"),
        ("0 one 1 0,0,", "expected a whole number as a state, found 'one'"),
        ("0 99999 1 0,0,", "expected states numbered without gaps"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, f"u\n{line}\n1\n")
    with pytest.raises(DataError, match=r"lat.txt:1: expected the name of an utterance, found '0 1 1 0,0,'"):
        read(tmp_path, "0 1 1 0,0,\n")


def test_symbols(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("<eps> 0\nyes 1\n")
    assert read_symbols(path) == {"0": "<eps>", "1": "yes"}
    for text, message in (
        ("yes 1\nno 1\n", "words.txt:2: the number 1 is given twice"),
        ("yes one\n", "words.txt:1: expected a whole number"),
        ("yes 1\nyes 2\n", "words.txt:2: 'yes' is given twice"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_symbols(path)


@given(lattices())
def test_written_and_read_again_it_is_the_same(lattice) -> None:
    lattice = replace(lattice, times=np.full(lattice.nodes, np.nan), weights=ScoreWeights())
    symbols = {str(i): word or "<eps>" for i, word in enumerate(lattice.words)}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lat.gz"
        for table in (symbols, None):
            write_kaldi_lattices(path, [lattice, replace(lattice, utterance="u2")], table)
            first, second = read_kaldi_lattices(path, table)
            assert same_lattice(first, lattice) and second.utterance == "u2"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (lattice,) = read(tmp_path, COMPACT)
    with pytest.raises(DataError, match="the word 'yes' is not among the symbols"):
        write_kaldi_lattices(tmp_path / "x", [lattice], {"0": "<eps>"})
    with pytest.raises(DataError, match="a name without white space"):
        write_kaldi_lattices(tmp_path / "x", [replace(lattice, utterance="a b")])
    assert not (tmp_path / "x").exists()
    assert best_path(lattice).words
