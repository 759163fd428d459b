import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.decoding.ctm import CtmWord, ctm_words, write_ctm
from sottovoce.decoding.lattices import best_path, make_lattice
from sottovoce.decoding.nbest_files import read_nbest, write_espnet_nbest, write_kaldi_nbest, write_nbest
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList, nbest_list
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.skipped import Skipped
from sottovoce.errors import DataError

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)
numbers = st.floats(-1e6, 1e6)
texts = st.lists(st.sampled_from(["a", "b", "über", "it's"]), max_size=4).map(tuple)


def lists_with(scores: list[str]):
    entries = st.lists(
        st.builds(NBestEntry, texts, st.fixed_dictionaries(dict.fromkeys(scores, numbers))), min_size=1, max_size=4
    ).map(tuple)
    return st.lists(st.builds(NBestList, names, entries), max_size=4, unique_by=lambda item: item.id)


def round_trip(write, lists, name: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, lists)
        return sorted(read_nbest(path), key=lambda item: item.id)


@given(st.one_of(lists_with([]), lists_with(["acoustic", "lm", "neural x"])))
def test_json_lines_round_trip(lists) -> None:
    known = [NBestList(item.id, item.entries, "s", None, "the words") for item in lists]
    assert round_trip(write_nbest, known, "n.jsonl") == sorted(known, key=lambda item: item.id)


@given(st.one_of(lists_with(["acoustic", "lm"]), lists_with(["acoustic", "lm", "graph"])).filter(bool))
def test_kaldi_round_trip(lists) -> None:
    assert round_trip(write_kaldi_nbest, lists, "nbest") == sorted(lists, key=lambda item: item.id)


@given(lists_with(["score"]).filter(bool))
def test_espnet_round_trip(lists) -> None:
    assert round_trip(write_espnet_nbest, lists, "nbest") == sorted(lists, key=lambda item: item.id)


def files(folder: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_files_as_the_tools_write_them(tmp_path: Path) -> None:
    kaldi = files(tmp_path / "k", words_text="utt-a-1 the cat\nutt-a-2 a cat\n", acwt="utt-a-2 12.5\nutt-a-1 10\n")
    files(kaldi, lmwt="utt-a-1 3.25\nutt-a-2 4\n")
    (found,) = read_nbest(kaldi)
    assert (found.id, [entry.text for entry in found.entries]) == ("utt-a", ["the cat", "a cat"])
    assert found.best.scores == {"acoustic": -10.0, "lm": -3.25}
    espnet = files(
        tmp_path / "e",
        output_1__1best_recog__text="u1 the cat\n",
        output_1__1best_recog__score="u1 tensor(-3.5, device='cuda:0')\n",
        output_1__2best_recog__text="u1\n",
        output_1__2best_recog__score="u1 tensor(-4.25)\n",
        output_2__1best_recog__text="u2 dog\n",
        output_2__1best_recog__score="u2 -1e-3\n",
    )
    found = read_nbest(espnet)
    assert [(e.text, e.scores["score"]) for e in found[0].entries] == [("the cat", -3.5), ("", -4.25)]
    assert (found[1].id, found[1].best.scores) == ("u2", {"score": -0.001})


def test_what_transcribe_prints(tmp_path: Path) -> None:
    line = {"file": "a.wav", "text": "x y", "score": -2.5, "tokens": ["x", "y"], "times": [0, 1], "log_probs": [0, 0]}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "file": "b.wav", "nbest": [line, line]}) + "\n")
    first, second = read_nbest(path)
    assert (first.id, first.best.text, first.best.scores) == ("a.wav", "x y", {"score": -2.5})
    assert len(second.entries) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: expected a JSON object, found '{'"),
        ("[1]", ":2: expected an object with an id"),
        ('{"id": "u", "nbest": 3}', ":2: u: expected a list as nbest, found 3"),
        ('{"id": "u", "text": "a"}', ":2: u: expected a list as nbest, found None"),
        ('{"id": "u", "nbest": []}', ":2: u: expected an n-best list with entries, found none"),
        ('{"id": "u", "nbest": [{}]}', ":2: u: expected an entry with a text"),
        ('{"id": "u", "nbest": [{"text": "a", "scores": {"lm": "x"}}]}', ":2: u: expected numbers as scores"),
        ('{"id": "u", "nbest": [{"text": "a", "scores": {"lm": -Infinity}}]}', ":2: u: expected a finite number as"),
        (
            '{"id": "u", "nbest": [{"text": "a", "scores": {"lm": 1}}, {"text": "b"}]}',
            ":2: u: expected the scores lm in",
        ),
        ('{"id": "u", "speaker": 3, "nbest": [{"text": "a"}]}', ":2: u: expected texts as speaker"),
    ],
)
def test_bad_lists_are_named_or_skipped(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "n.jsonl"
    path.write_text(f'{{"id": "v", "nbest": [{{"text": "a"}}]}}\n{line}\n')
    with pytest.raises(DataError) as caught:
        read_nbest(path)
    assert str(caught.value).startswith(f"{path}{message}"), caught.value
    skipped: list[Skipped] = []
    assert [item.id for item in read_nbest(path, skipped=skipped)] == ["v"]
    assert [item.id for item in skipped] == ["line 2"] and str(caught.value) == skipped[0].reason


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected Kaldi's words_text or ESPnet's 1best_recog"):
        read_nbest(tmp_path)
    kaldi = files(
        tmp_path / "k", words_text="u-1 a\nu-2 b\nv-1 c\n", acwt="u-1 1\nv-1 1\n", lmwt="u-1 1\nu-2 1\nv-1 1\n"
    )
    with pytest.raises(DataError, match=r"words_text:2: acwt has no cost for 'u-2'"):
        read_nbest(kaldi)
    skipped: list[Skipped] = []
    assert [item.id for item in read_nbest(kaldi, skipped=skipped)] == ["v"] and skipped[0].id == "u"
    files(kaldi, acwt="u-1 1\nu-2 inf\nv-1 1\n")
    with pytest.raises(DataError, match=r"acwt:2: expected a finite number as the cost of 'u-2', found 'inf'"):
        read_nbest(kaldi)
    files(kaldi, words_text="u1 a\n")
    with pytest.raises(DataError, match=r"words_text:1: expected a key such as utterance-1, found 'u1'"):
        read_nbest(kaldi)
    espnet = files(tmp_path / "e", a__1best_recog__text="u a\n", a__1best_recog__score="u tensor(nan)\n")
    with pytest.raises(DataError, match=r"1best_recog/score:1: u: expected a finite number as a score, found 'nan'"):
        read_nbest(espnet)
    files(espnet, b__1best_recog__text="u a\n", b__1best_recog__score="u 1\n")
    with pytest.raises(DataError, match="'u' is given twice at rank 1"):
        read_nbest(espnet)
    path = tmp_path / "twice.jsonl"
    path.write_text('{"id": "v", "nbest": [{"text": "a"}]}\n' * 2)
    with pytest.raises(DataError, match="identifier 'v' is given twice"):
        read_nbest(path)


def test_what_a_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    item = NBestList("u", (NBestEntry(("a",), {"neural": 1.0}),))
    with pytest.raises(DataError, match="expected the scores acoustic, lm and perhaps graph, found neural"):
        write_kaldi_nbest(tmp_path, [item])
    with pytest.raises(DataError, match="expected the score 'score', found neural"):
        write_espnet_nbest(tmp_path, [item])
    with pytest.raises(DataError, match="without white space"):
        write_espnet_nbest(tmp_path, [NBestList("u v", item.entries)], "neural")
    assert not list(tmp_path.iterdir())


def test_lists_are_weighed_and_reordered() -> None:
    entries = tuple(NBestEntry(words, {"lm": lm}) for words, lm in ((("a",), -2.0), (("a", "b"), -1.0), ((), -2.0)))
    item = NBestList("u", entries).with_scores("neural", [-1, -4, -1])
    weights = ScoreWeights({"lm": 2.0, "neural": 0.5}, -0.5)
    assert item.totals(weights).tolist() == [-5.0, -5.0, -4.5]
    assert [entry.text for entry in item.reordered(weights).entries] == ["", "a", "a b"]
    assert item.best.scores == {"lm": -2.0, "neural": -1.0}
    with pytest.raises(DataError, match="u: score 'acoustic': expected among lm, neural"):
        item.totals(ScoreWeights())
    with pytest.raises(DataError, match="u: expected an n-best list with entries"):
        NBestList("u", ())


def test_lists_and_times_from_lattices(tmp_path: Path) -> None:
    lattice = make_lattice(
        "u1", [0.0, 0.4, 1.0], [0, 0, 1, 1], [1, 1, 2, 2], ["a", "b", "!NULL", "c"],
        {"acoustic": [-1, -2, -1, -1], "lm": [0, 0, 0, -1.5]},
    )  # fmt: skip
    item = nbest_list(lattice, 3)
    assert [(entry.text, entry.scores["acoustic"]) for entry in item.entries] == [("a", -2), ("b", -3), ("a c", -2)]
    words = ctm_words(lattice, best_path(lattice), recording="rec", offset=10.0)
    # 1 / (1 + exp(-1)) of the paths begin with "a".
    assert words == [CtmWord("rec", 10.0, 0.4, "a", pytest.approx(0.73106, abs=1e-5))]
    write_ctm(tmp_path / "x.ctm", [CtmWord("rec", 11.5, 0.25, "z"), *words])
    assert (tmp_path / "x.ctm").read_text() == "rec 1 10.000 0.400 a 0.7311\nrec 1 11.500 0.250 z\n"
    with pytest.raises(DataError, match="without white space and finite times"):
        write_ctm(tmp_path / "x.ctm", [CtmWord("a b", 0, 0, "z")])
    with pytest.raises(DataError, match="u: expected a time at each node"):
        timeless = make_lattice("u", [float("nan")] * 2, [0], [1], ["a"], {"lm": [0.0]})
        ctm_words(timeless, best_path(timeless))
