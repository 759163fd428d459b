import gzip
import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_cases import best_by_words, lattices, same_lattice

from sottovoce.decoding.lattices import best_path, make_lattice, read_slf, write_slf
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import DataError

# The example of The HTK Book 3.4, section 20.5, shortened: words and pronunciations on links, scales in the header.
BOOK = """VERSION=1.0
UTTERANCE=testf1.mfc
lmname=wdnet
lmscale=20.00 wdpenalty=-30.00
vocab=dict
N=4 L=4
I=0 t=0.00
I=1 t=0.36
I=2 t=0.75
I=3 t=2.48
J=0 S=0 E=1 W=SILENCE v=0 a=-3239.01 l=0.00
J=1 S=1 E=2 W=FOUR v=0 a=-3820.77 l=0.00
J=2 S=1 E=2 W=FOUR v=1 a=-3830.00 l=0.00
J=3 S=2 E=3 W=SILENCE v=0 a=-246.99 l=-1.20
"""


def written(folder: Path, text: str, name: str = "u7.lat") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["u7.lat", "u7.slf.gz"])
def test_the_example_of_the_book(tmp_path: Path, name: str) -> None:
    lattice = read_slf(written(tmp_path, BOOK, name))
    assert (lattice.utterance, lattice.nodes, lattice.links) == ("testf1.mfc", 4, 4)
    assert lattice.times.tolist() == [0, 0.36, 0.75, 2.48]
    assert lattice.weights == ScoreWeights({"acoustic": 1.0, "lm": 20.0}, -30.0)
    assert lattice.notes == {"variant": ("0", "0", "1", "0")}
    best = best_path(lattice)
    assert best.words == ("SILENCE", "FOUR", "SILENCE") and best.links == (0, 1, 3)
    assert best.score == pytest.approx(-3239.01 - 3820.77 - 246.99 - 20 * 1.2 - 3 * 30)


# Words on nodes as in word graphs of HTK: !NULL at the start, sentence marks, a quoted and an escaped word.
NODES = r"""# a comment
VERSION=1.1
base=10 acscale=0.5 prscale=2 wdpenalty=-1 tscale=0.01
start=5 end=1
NODES=6	LINKS=6
I=5 W=!NULL t=0
I=0 W=!SENT_START t=10
I=2 W="it's" v=2 t=20
I=3 WORD=\'em var=1 time=20
I=4 W=caf\303\251 t=30
I=1 W=</s> t=40
J=0 START=5 END=0 acoustic=-2
J=1 S=0 E=2 a=-3 l=-1 r=-0.5
J=2 S=0 E=3 a=-4 language=-2
J=3 S=2 E=4 a=-1
J=4 S=3 E=4 a=-1 n=-3
J=5 S=4 E=1 a=0
"""


def test_words_on_nodes_bases_scales_and_marks(tmp_path: Path) -> None:
    lattice = read_slf(written(tmp_path, NODES))
    assert lattice.utterance == "u7"
    assert lattice.times == pytest.approx([0, 0.1, 0.2, 0.2, 0.3, 0.4])
    assert lattice.weights.factors == {"acoustic": 0.5, "lm": 1.0, "pronunciation": 2.0, "ngram": 1.0}
    ten = math.log(10)
    assert best_by_words(lattice) == pytest.approx(
        {
            ("it's", "café"): ten * (0.5 * -6 - 1 - 2 * 0.5 - 2),
            ("'em", "café"): ten * (0.5 * -7 - 2 - 3 - 2),
        }
    )
    assert lattice.notes["variant"] == ("", "2", "1", "", "", "")


def test_backward_lattices_have_their_words_at_the_start_of_links(tmp_path: Path) -> None:
    text = "N=3 L=2 dir=b\nI=0 W=a\nI=1 W=b\nI=2 W=!NULL\nJ=0 S=0 E=1 a=-1\nJ=1 S=1 E=2 a=-2\n"
    assert best_path(read_slf(written(tmp_path, text))).words == ("a", "b")


def test_probabilities_and_links_without_node_lines(tmp_path: Path) -> None:
    text = "base=0.0 wdpenalty=0.5\nN=3 L=2\nJ=0 S=0 E=1 W=a a=0.25 unknown=3 p=0.1\nJ=1 S=1 E=2 W=b\n"
    lattice = read_slf(written(tmp_path, text))
    assert np.isnan(lattice.times).all()
    # 1 stands for the score that the second link does not have.
    assert best_path(lattice).score == pytest.approx(math.log(0.25) + 2 * math.log(0.5))


@given(lattices(words=["", "a", "'em", '"q"', "x\\y", "é", "a=b", "#1", "'", "c\x07d"]), st.booleans(), st.booleans())
def test_written_and_read_again_it_is_the_same(lattice, packed: bool, bare: bool) -> None:
    notes = {
        "variant": tuple("" if i % 2 else str(i) for i in range(lattice.links)),
        "segmentation": (":a,0.1:",) * lattice.links,
    }
    lattice = replace(lattice, notes=notes, utterance="u 1" if packed else "u1")
    if bare:
        lattice = replace(lattice, times=np.full(lattice.nodes, np.nan))
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("x.slf.gz" if packed else "x.slf")
        write_slf(path, lattice)
        assert same_lattice(read_slf(path), lattice)


def test_scores_that_have_no_field_are_refused(tmp_path: Path) -> None:
    lattice = make_lattice("u", [0, 1], [0], [1], ["a"], {"neural": [0.0]})
    with pytest.raises(DataError, match="found 'neural': SLF has no such field"):
        write_slf(tmp_path / "x.slf", lattice)
    assert not list(tmp_path.iterdir())


GOOD = "N=3 L=2\nI=0\nI=1\nI=2\nJ=0 S=0 E=1 W=a a=-1\nJ=1 S=1 E=2 W=b a=-2\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("J=1 S=1", "J=0 S=1"), ":6: J=0 is given twice"),
        (("I=1\n", "I=0\n"), ":3: I=0 is given twice"),
        (("I=1\n", "I=x\n"), ":3: expected a whole number as the number I=, found 'x'"),
        (("I=1\n", "I=1 t=soon\n"), ":3: expected a finite number as a time, found 'soon'"),
        (("I=1\n", "I=1 L=sub\n"), ":3: expected a word lattice, found a node that stands for a sub-lattice"),
        (("I=1\n", ".\n"), ":3: expected one lattice, found the end of a sub-lattice"),
        (("I=1\n", "something else\n"), ":3: expected fields such as NODES=3 or J=0, found 'something else'"),
        (("E=2", "E=9"), ":6: there is no node 9"),
        (("E=2", "E=-1"), ":6: expected a whole number as the node E=, found '-1'"),
        ((" E=2", ""), ":6: expected the link's node E=, found none"),
        (("a=-2", "a=-inf"), ":6: expected a finite number as a=, found '-inf'"),
        (("a=-2", "a=1e999"), ":6: expected a finite number as a=, found '1e999'"),
        (("a=-2", "a="), ":6: expected a finite number as a=, found ''"),
        (("L=2", "L=3"), ":1: expected 3 links, found 2"),
        (("N=3", "N=4"), ":1: expected 4 nodes, found 3"),
        (("N=3 L=2", "L=2"), ": expected the number of nodes (N=), found none"),
        (("N=3 L=2\nI=0\nI=1\nI=2\n", "N=999999999 L=2\n"), ":1: expected 999999999 nodes, found 0"),
        (("N=3", "base=-1 N=3"), ":1: expected a base of logarithms, or 0 for probabilities, found -1"),
        (("N=3", "base=0 N=3"), ":5: expected a probability above 0 as a=, found '-1'"),
        (("N=3", "lmscale=x N=3"), None),
        (("N=3", "end=7 N=3"), ":1: there is no node 7"),
        (("S=1 E=2", "S=1 E=0"), ":5: expected no cycle, found one that the link from node 0 to node 1 closes"),
        (("S=1 E=2", "S=2 E=1"), ": expected one node without predecessors, found 2: 0, 2"),
        (("N=3", "start=0 end=2 N=3"), None),
    ],
)  # fmt: skip
def test_refusals_name_file_and_line(tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    path = written(tmp_path, GOOD.replace(*change))
    if message is None:
        assert best_path(read_slf(path)).words == ("a", "b")
        return
    with pytest.raises(DataError) as caught:
        read_slf(path)
    assert str(caught.value).startswith(f"{path}{message}"), caught.value


def test_cycles_missing_paths_and_damaged_files(tmp_path: Path) -> None:
    cycle = "start=0 end=3\nN=4 L=4\nJ=0 S=0 E=1\nJ=1 S=1 E=2\nJ=2 S=2 E=1\nJ=3 S=2 E=3\n"
    with pytest.raises(DataError, match=r"u7.lat:(4|5): expected no cycle"):
        read_slf(written(tmp_path, cycle))
    parted = "start=0 end=3\nN=4 L=2\nJ=0 S=0 E=1\nJ=1 S=2 E=3\n"
    with pytest.raises(DataError, match=r"u7.lat: expected a path from the first node to the last, found none"):
        read_slf(written(tmp_path, parted))
    with pytest.raises(DataError, match=r"u7.lat: expected a lattice with links, found none"):
        read_slf(written(tmp_path, "N=1 L=0\nI=0\n"))
    cut = tmp_path / "cut.slf.gz"
    cut.write_bytes(gzip.compress(GOOD.encode() * 50)[:-20])
    with pytest.raises(DataError, match="a damaged gzip file"):
        read_slf(cut)
    with pytest.raises(DataError, match="No such file"):
        read_slf(tmp_path / "none.slf")
    with pytest.raises(DataError, match="not UTF-8"):
        path = tmp_path / "latin.slf"
        path.write_bytes(b"N=1 L=1 \xff")
        read_slf(path)
