"""The parts of a second pass: shared beginnings, conversations, inputs of any form, files of weights."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_language_model import ToyNetwork

from sottovoce.decoding.conversations import conversation_of, in_conversations, read_conversations
from sottovoce.decoding.first_pass import normalized, read_first_pass
from sottovoce.decoding.language_model import TokenModel
from sottovoce.decoding.lattices import best_path, make_lattice, write_kaldi_lattices, write_slf
from sottovoce.decoding.mixture import Mixture, read_mixture, write_mixture
from sottovoce.decoding.nbest_files import write_espnet_nbest, write_nbest
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.prefixes import prefix_levels
from sottovoce.decoding.protocol import concatenate, replace
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.second_pass import rescore_lists
from sottovoce.decoding.skipped import Skipped
from sottovoce.errors import ConfigError, DataError

rows = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=12)


@given(rows, st.data())
def test_a_prefix_tree_has_each_beginning_once(sequences, data) -> None:
    roots = data.draw(st.lists(st.integers(0, 2), min_size=len(sequences), max_size=len(sequences)))
    arrays = [np.array(sequence, np.int64) for sequence in sequences]
    before = [(root,) for root in range(3)]
    places = dict(enumerate((root,) for root in roots))
    depth = 0
    for level in prefix_levels(arrays, np.array(roots, np.int64)):
        depth += 1
        here = [(*before[parent], token) for parent, token in zip(level.parents, level.tokens, strict=True)]
        wanted = {(root, *s[:depth]) for root, s in zip(roots, sequences, strict=True) if len(s) >= depth}
        assert set(here) == wanted and len(here) == len(wanted)
        assert level.rows.tolist() == [i for i, s in enumerate(sequences) if len(s) >= depth]
        places |= {row: here[node] for row, node in zip(level.rows.tolist(), level.nodes.tolist(), strict=True)}
        before = here
    assert places == {i: (root, *s) for i, (root, s) in enumerate(zip(roots, sequences, strict=True))}
    assert depth == max(map(len, sequences), default=0)


def test_states_that_grew_are_joined() -> None:
    short, long = (np.ones((2, 3)), np.arange(2)), (np.full((1, 5), 2.0), np.arange(1))
    joined = concatenate([short, long])
    assert joined[0].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [2, 2, 2, 2, 2]] and joined[1].tolist() == [0, 1, 0]
    assert replace(short, np.array([1]), long)[0].tolist() == [[1, 1, 1, 0, 0], [2, 2, 2, 2, 2]]
    assert replace(long, np.array([0]), (short[0][:1], short[1][:1]))[0].tolist() == [[1, 1, 1, 0, 0]]
    assert short[0].shape == (2, 3)


def test_conversations(tmp_path: Path) -> None:
    assert [conversation_of(id) for id in ("sw2005-17", "a_b_3", "a-b_3", "u1", "-1")] == [
        "sw2005",
        "a_b",
        "a",
        "u1",
        "-1",
    ]
    assert conversation_of("sw2005-17", "tape") == "tape"
    ids = ["a-1", "b-1", "a-2", "x"]
    assert in_conversations(ids, [None] * 4) == [[0, 2], [1], [3]]
    assert in_conversations(ids, ["r", "r", None, None]) == [[0, 1], [2], [3]]
    path = tmp_path / "conversations"
    path.write_text("x c\na-2 c\na-1 d\nb-1 c\nothers e\n")
    assert in_conversations(ids, ["r"] * 4, read_conversations(path)) == [[3, 2, 1], [0]]
    with pytest.raises(DataError, match="conversations: expected one for 'y', found none"):
        in_conversations(["y"], [None], read_conversations(path))
    path.write_text("x c 7\n")
    with pytest.raises(DataError, match="conversations:1: expected an utterance and its conversation, found 'c 7'"):
        read_conversations(path)


def lattice(id: str, *words: str):
    count = len(words)
    return make_lattice(
        id,
        range(count + 1),
        range(count),
        range(1, count + 1),
        words,
        {"acoustic": [-1.0] * count, "lm": [-2.0] * count},
    )


LISTS = [
    NBestList("u1", (NBestEntry(("a", "B"), {"score": -1.0}),)),
    NBestList("u2", (NBestEntry((), {"score": -2.0}),)),
]


def test_inputs_of_any_form(tmp_path: Path) -> None:
    write_nbest(tmp_path / "lists", LISTS)  # no name says what it is
    write_nbest(tmp_path / "l.jsonl", LISTS[:1])
    write_espnet_nbest(tmp_path / "decode" / "output.1", LISTS)
    write_slf(tmp_path / "one.lat.gz", lattice("u1", "a", "b"))
    (tmp_path / "slf" / "deep").mkdir(parents=True)
    for id in ("u1", "u2"):
        write_slf(tmp_path / "slf" / "deep" / f"{id}.x", lattice(id, "a", "b"))
    write_kaldi_lattices(tmp_path / "lat.1.gz", [lattice("u1", "a"), lattice("u2", "b")])
    forms = {
        "lists": "n-best",
        "l.jsonl": "n-best",
        "decode": "n-best",
        "one.lat.gz": "slf",
        "slf": "slf",
        "lat.1.gz": "kaldi",
    }
    for name, form in forms.items():
        found = read_first_pass(tmp_path / name, acoustic_scale=0.25)
        assert found.form == form
        assert {x.id for x in found.lists} | {x.utterance for x in found.lattices} <= {"u1", "u2"}
        assert all(x.weights.factors == {"acoustic": 0.25, "lm": 1.0} for x in found.lattices)
    assert len(read_first_pass(tmp_path / "slf").lattices) == len(read_first_pass(tmp_path / "lists").lists) == 2


def test_inputs_that_are_none(tmp_path: Path) -> None:
    write_slf(tmp_path / "a.slf", lattice("u1", "a"))
    write_slf(tmp_path / "b.slf", lattice("u1", "b"))
    with pytest.raises(DataError, match="utterance 'u1' is given twice"):
        read_first_pass(tmp_path)
    write_nbest(tmp_path / "b.slf", LISTS)
    with pytest.raises(DataError, match=r"expected files of one form, found a\.slf and b\.slf"):
        read_first_pass(tmp_path)
    (tmp_path / "b.slf").write_bytes(gzip.compress(b"x" * 100)[:20])
    skipped: list[Skipped] = []
    assert len(read_first_pass(tmp_path, skipped=skipped).lattices) == 1
    assert [item.id for item in skipped] == ["b"] and "damaged gzip" in skipped[0].reason
    with pytest.raises(DataError, match="damaged gzip"):
        read_first_pass(tmp_path)


def test_texts_in_another_normalization(tmp_path: Path) -> None:
    write_nbest(tmp_path / "l.jsonl", LISTS)
    found = normalized(read_first_pass(tmp_path / "l.jsonl"), "lower")
    assert [x.best.words for x in found.lists] == [("a", "b"), ()]
    write_nbest(
        tmp_path / "m.jsonl", [NBestList("u1", (NBestEntry(("<s>", "A", "<eps>", "b", "</s>"), {"lm": -1.0}),))]
    )
    marked = read_first_pass(tmp_path / "m.jsonl")
    assert [normalized(marked, form).lists[0].best.text for form in ("plain", "lower")] == ["A b", "a b"]
    write_slf(tmp_path / "a.slf", lattice("u1", "Uh-huh", "uh", "UH", "<laugh>"))
    given = read_first_pass(tmp_path / "a.slf")
    lowered = normalized(given, "lower").lattices[0]
    assert best_path(lowered).words == ("uh-huh", "uh", "uh", "<laugh>") and len(lowered.words) == 4
    with pytest.raises(DataError, match="u1: a link has one word, and normalized 'Uh-huh' is several"):
        normalized(given, "spoken")
    skipped: list[Skipped] = []
    assert normalized(given, "spoken", skipped).lattices == () and [item.id for item in skipped] == ["u1"]
    with pytest.raises(ConfigError, match="normalization: expected one of"):
        normalized(given, "loud")
    write_slf(tmp_path / "b.slf", lattice("u1", "OK", "<laugh>"))
    assert best_path(normalized(read_first_pass(tmp_path / "b.slf"), "spoken").lattices[0]).words == ("ok",)


def test_progress_reaches_the_end_past_what_is_skipped() -> None:
    lists = [NBestList(f"u{i}", (NBestEntry(("a",), {"acoustic": -1.0} if i else {"other": -1.0}),)) for i in range(3)]
    skipped: list[Skipped] = []
    told: list[tuple[int, int]] = []
    model = TokenModel(ToyNetwork(3), lambda word: [1])
    found = rescore_lists(
        lists,
        {"toy": model},
        weights=lambda item: ScoreWeights({"acoustic": 1.0, "toy": 1.0}),
        skipped=skipped,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [x.id for x in found] == ["u1", "u2"] and [x.id for x in skipped] == ["u0"] and told == [(3, 3)]


numbers = st.floats(-1e6, 1e6)


@given(st.dictionaries(st.text(min_size=1), numbers), numbers, st.dictionaries(st.text(min_size=1), numbers))
def test_a_file_of_weights_gives_them_again(tmp_path_factory, factors, penalty: float, shares) -> None:
    path = tmp_path_factory.getbasetemp() / "weights.json"
    mixture = Mixture(ScoreWeights(factors, penalty), shares)
    write_mixture(path, mixture, {"errors": 3})
    assert read_mixture(path) == mixture


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"factors": {"a": 1}}', '{"factors": {"a": "1"}, "word_penalty": 0}',
     '{"factors": {}, "word_penalty": 1e999}', '{"factors": {}, "word_penalty": 1' + "0" * 400 + "}",
     '{"factors": {}, "word_penalty": 0, "more": 1}'],
)  # fmt: skip
def test_what_is_no_file_of_weights(tmp_path: Path, text: str) -> None:
    (tmp_path / "w").write_text(text)
    with pytest.raises(DataError, match=r"w: expected (a JSON object|the keys|finite numbers)"):
        read_mixture(tmp_path / "w")
