import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_reference import back_off

from sottovoce.errors import DataError, FormatError, SottovoceError
from sottovoce.ngram import (
    NgramModel,
    Vocabulary,
    frequent_words,
    load_ngram,
    read_text,
    read_word_list,
    save_ngram,
    train_kneser_ney,
)

WORDS = ["a", "b", "c", "d", "é"]
corpora = st.lists(st.lists(st.sampled_from([*WORDS, "x"]), max_size=6), min_size=1, max_size=10)
FORMS = ("lm.arpa", "lm.arpa.gz", "lm.safetensors")

# The trigram "a b a" has no suffix "b a" among the bigrams, and "b" no back-off, as pruned models of other tools.
ARPA = """a comment

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.5\t</s>
-1.25\t<unk>
-0.5\ta\t-0.25
-0.75\tb

\\2-grams:
-0.3\ta b\t-0.125
-0.4\t<s> a\t0.0625
-0.9\ta a

\\3-grams:
-0.2\ta b a

\\end\\
"""
LINES = ARPA.split("\n")


def trained(corpus: list[list[str]], order: int) -> NgramModel:
    vocabulary = Vocabulary.of(WORDS)
    return train_kneser_ney(vocabulary.encode(corpus), vocabulary, order)[0]


def same(left: NgramModel, right: NgramModel) -> bool:
    arrays = (left.keys, right.keys), (left.log10_probs, right.log10_probs), (left.log10_backoffs, right.log10_backoffs)
    return (
        left.vocabulary == right.vocabulary
        and left.counts == right.counts
        and all(a.tobytes() == b.tobytes() for a, b in arrays)
    )


@given(corpora, st.integers(1, 4), st.sampled_from(FORMS))
@settings(max_examples=40)
def test_written_and_read_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[list[str]], order: int, name: str
) -> None:
    path = tmp_path_factory.mktemp("lm") / name
    model = trained(corpus, order)
    save_ngram(path, model)
    assert same(load_ngram(path), model)
    first = path.read_bytes()
    save_ngram(path, model)
    assert path.read_bytes() == first and [p.name for p in path.parent.iterdir()] == [name]


def test_kenlm_gives_the_same_scores(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="needs KenLM: pip install 'sottovoce[lm]'")
    rng = np.random.default_rng(3)
    corpus = [[f"w{i}" for i in rng.zipf(1.4, rng.integers(0, 9)) if i < 50] for _ in range(300)]
    vocabulary = Vocabulary.of([f"w{i}" for i in range(1, 45)])
    model = train_kneser_ney(vocabulary.encode(corpus), vocabulary, 4)[0]
    save_ngram(tmp_path / "lm.arpa", model)
    peer = kenlm.Model(str(tmp_path / "lm.arpa"))
    scores = [score for sentence in corpus for score, _, _ in peer.full_scores(" ".join(sentence))]
    np.testing.assert_allclose(model.score(vocabulary.encode(corpus)), np.array(scores) * math.log(10), atol=1e-5)


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["lm.arpa", "lm.gz"])
def test_a_pruned_model_of_another_tool_is_scored_as_the_format_says(tmp_path: Path, name: str) -> None:
    model = load_ngram(written(tmp_path / name, ARPA))
    probs, weights = {}, {}
    for line in LINES:
        fields = line.split("\t")
        if len(fields) > 1:
            gram = tuple(fields[1].split())
            probs[gram] = float(fields[0])
            weights[gram] = float(fields[2]) if len(fields) > 2 else 0.0
    sentences = [["a", "b", "a", "a", "b", "b"], ["b", "a", "never", "a"], [], ["a", "b", "a", "b", "a"]]
    expected, stepped = [], []
    for sentence in sentences:
        text = ["<s>", *(word if (word,) in probs else "<unk>" for word in sentence), "</s>"]
        expected += [back_off(probs, weights, tuple(text[max(0, i - 2) : i]), text[i]) for i in range(1, len(text))]
        state = np.array([model.start])
        for word in text[1:]:
            score, state = model.step(state, [model.vocabulary.ids[word]])
            stepped.append(score[0])
    expected = np.array(expected) * math.log(10)
    np.testing.assert_allclose(model.score(model.vocabulary.encode(sentences)), expected, atol=1e-6)
    np.testing.assert_allclose(stepped, expected, atol=1e-6)


def test_contexts_that_cannot_matter_are_joined(tmp_path: Path) -> None:
    model = load_ngram(written(tmp_path / "lm.arpa", ARPA))
    ids = [model.vocabulary.ids[word] for word in ("b", "<unk>", "</s>")]
    _, after = model.step([model.start] * 3, ids)
    assert after.tolist() == [0, 0, 0]  # no n-gram goes on from them, and leaving them costs nothing
    _, state = model.step([model.start], [model.vocabulary.ids["a"]])
    assert state[0] != 0 and model.step(state, [model.vocabulary.ids["b"]])[1][0] != 0


def test_a_model_without_the_unknown_word_gets_one(tmp_path: Path) -> None:
    text = ARPA.replace("ngram 1=5", "ngram 1=4").replace("-1.25\t<unk>\n", "")
    model = load_ngram(written(tmp_path / "lm.arpa", text))
    state = model.step([model.start], [model.vocabulary.unk])[0]
    np.testing.assert_allclose(state / math.log(10), [-100.5])


def test_the_unknown_word_in_capitals_is_the_unknown_word(tmp_path: Path) -> None:
    small = load_ngram(written(tmp_path / "small.arpa", ARPA.replace("a a\n", "a <unk>\n")))
    capital = load_ngram(written(tmp_path / "lm.arpa", ARPA.replace("a a\n", "a <unk>\n").replace("<unk>", "<UNK>")))
    assert same(small, capital)


def at(line: int, text: str) -> str:
    """The file with line ``line`` (from 1) replaced."""
    return "\n".join([*LINES[: line - 1], text, *LINES[line:]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: expected \\data\\ before the end"),
        (at(4, "ngram 2=5"), ":4: expected 'ngram 1=count', found 'ngram 2=5'"),
        (at(5, "ngram 2=x"), ":5: expected 'ngram 2=count'"),
        (at(4, "what"), ":4: expected 1 to 20 lines 'ngram k=count'"),
        (at(4, "ngram 1=6"), ":14: expected 6 1-grams, and number 6 of them here, found a blank line"),
        (at(4, "ngram 1=4"), r":13: expected \\2-grams:"),
        (at(8, "\\2-grams:"), r":8: expected \\1-grams:"),
        (at(11, "-1.25\t<unk>\t0 0"), ":11: expected a log-probability, a word and perhaps a back-off, found"),
        (at(16, "-0.3\ta"), ":16: expected a log-probability, 2 words and perhaps a back-off"),
        (at(21, "-0.2\ta b a\t0"), ":21: expected a log-probability, 3 words and no back-off"),
        (at(12, "x\ta\t-0.25"), ":12: expected a finite log10 probability .* found 'x a -0.25'"),
        (at(12, "0.5\ta\t-0.25"), ":12: expected a finite log10 probability of at most 0"),
        (at(12, "-0.5\ta\tnan"), ":12: expected a finite"),
        (at(12, "-0.5\ta\t1e99"), ":12: expected a finite"),
        (at(13, "-0.75\ta"), ":13: expected each word once"),
        (at(18, "-0.9\ta zebra"), ":18: expected words that are among the unigrams, found '-0.9 a zebra"),
        (at(18, "-0.9\ta b"), ":18: expected each n-gram once"),
        (at(21, "-0.2\tb a a"), ":21: expected its first 2 words as a 2-gram too, found '-0.2 b a a"),
        (at(23, ""), r":24: expected \\end\\, found a blank line or the end"),
        (at(9, "-99\tBOS\t-0.5").replace("<s> a", "b a"), "among the unigrams, found no <s>"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path / "lm.arpa", text)
    with pytest.raises(FormatError, match=message) as caught:
        load_ngram(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    model = trained([["a", "b"], ["c"]], 3)
    save_ngram(tmp_path / "lm.arpa.gz", model)
    whole = (tmp_path / "lm.arpa.gz").read_bytes()
    (tmp_path / "lm.arpa.gz").write_bytes(whole[:-20])
    with pytest.raises(FormatError, match=r"lm\.arpa\.gz: gzip file is damaged"):
        load_ngram(tmp_path / "lm.arpa.gz")
    with pytest.raises(DataError, match=r"none\.arpa: cannot be read"):
        load_ngram(tmp_path / "none.arpa")
    with pytest.raises(FormatError, match="expected a name that ends in"):
        save_ngram(tmp_path / "lm.bin", model)
    with pytest.raises(DataError, match="cannot be written"):
        save_ngram(tmp_path / "no" / "lm.arpa", model)


def test_every_damaged_byte_of_a_binary_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    save_ngram(path, trained([["a", "b"], ["c"]], 2))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SottovoceError, match=r"lm\.safetensors"):
            load_ngram(path)


def test_arrays_that_are_no_model_are_refused() -> None:
    model = trained([["a", "b"], ["c"]], 3)
    size = len(model.vocabulary)
    swapped, orphan = model.keys.copy(), model.keys.copy()
    swapped[-2:] = swapped[-2:][::-1]
    orphan[-1] = (len(model.keys) + 5) * size
    for keys, message in ((swapped, "sorted"), (orphan, "contexts of the 3-grams"), (model.keys[:-1], "shapes")):
        with pytest.raises(FormatError, match=message):
            NgramModel(model.vocabulary, model.counts, keys, model.log10_probs, model.log10_backoffs)
    for probs in (model.log10_probs + 200, model.log10_probs * np.float32("nan")):
        with pytest.raises(FormatError, match="log-probabilities"):
            NgramModel(model.vocabulary, model.counts, model.keys, probs, model.log10_backoffs)


def test_texts_and_word_lists(tmp_path: Path) -> None:
    text = written(tmp_path / "text.gz", "b a\n\n  a\u00a0c  a\n")
    assert read_text([text]) == [["b", "a"], ["a\u00a0c", "a"]]  # as KenLM: only ASCII spaces part words
    assert frequent_words([["b", "a"], ["a", "c", "c", "d"]], 1) == ["a", "c", "b", "d"]
    assert frequent_words([["b", "a"], ["a", "c", "c", "d"]], 2) == ["a", "c"]
    assert read_word_list(written(tmp_path / "words", "b 12\na\n\nc\t3\n")) == ["b", "a", "c"]
    for content, message in (
        ("a\nb\na\n", "words:3: 'a' is given twice"),
        ("a b c\n", "words:1: expected"),
        ("", "none"),
    ):
        with pytest.raises(DataError, match=message):
            read_word_list(written(tmp_path / "words", content))
    for content, message in (("a\nb </s>\n", "text:2: <s> and </s>"), ("\n \n", "found no word")):
        with pytest.raises(DataError, match=message):
            read_text([written(tmp_path / "text", content)])
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_text([tmp_path / "text"])
