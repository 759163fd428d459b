"""The confusion channel: phones, lexicon, channel, decoder against brute force, files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.data.confusions import decoder as decoding
from sottovoce.data.confusions.channel import Channel
from sottovoce.data.confusions.decoder import Decoder
from sottovoce.data.confusions.files import ConfusionOptions, write_confusions
from sottovoce.data.confusions.lexicon import Lexicon, make_lexicon, pronounce
from sottovoce.data.confusions.lists import Confuser, Reference, calibrate, nbest_of, word_errors
from sottovoce.data.confusions.phones import features, phones, read_phones
from sottovoce.data.text import Conversation, TextCorpus
from sottovoce.decoding.lattices.forward_backward import backward_scores, forward_scores
from sottovoce.decoding.lattices.lattice import make_lattice
from sottovoce.decoding.lattices.paths import best_path
from sottovoce.decoding.lattices.slf import read_slf
from sottovoce.decoding.nbest_files import read_nbest
from sottovoce.decoding.nbest_lists import NBestList, nbest_list
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import ConfigError, DataError
from sottovoce.evaluation.hypotheses import read_hypotheses

A, B, C = (phones().index(phone) for phone in ("p", "b", "ɑː"))
SMALL = {"pa": (A, C), "ba": (B, C), "a": (C,), "p": (A,), "pabba": (A, C, B, B, C), "ah": (C,)}


def small_lexicon() -> Lexicon:
    return make_lexicon({"pa": 5, "ba": 3, "a": 9, "p": 1, "pabba": 2, "ah": 4}, SMALL)


def distance(a: str, b: str) -> float:
    at = [phones().index(phone) for phone in (a, b)]
    return float(np.linalg.norm(features()[at[0]] - features()[at[1]]))


def test_neighbours_in_articulation_are_near() -> None:
    for phone, near, far in (
        ("p", "b", "z"), ("p", "t", "n"), ("s", "z", "m"), ("s", "ʃ", "b"), ("m", "n", "t"), ("iː", "ɪ", "ɑː"),
        ("eɪ", "ɛ", "ɔɪ"), ("l", "ɹ", "k"), ("w", "uː", "t"), ("ə", "ʌ", "s"), ("ð", "d", "iː"),
    ):  # fmt: skip
        assert distance(phone, near) < distance(phone, far), (phone, near, far)
    points = features()
    assert len({tuple(point) for point in points.tolist()}) == len(phones()) == len(set(phones())) == len(points)


def test_ipa_is_read_by_the_longest_phone_and_marks_are_left_out() -> None:
    assert [phones()[p] for p in read_phones("tʃˈɑːɹdʒ")] == ["tʃ", "ɑː", "ɹ", "dʒ"]
    assert [phones()[p] for p in read_phones("bˈʌʔn̩ fˈaɪɚ")] == ["b", "ʌ", "ʔ", "n", "f", "aɪ", "ɚ"]
    assert read_phones("ˈˌ ") == ()


def test_espeak_says_words() -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: no pronunciations")
    said = pronounce(["two", "too", "i'm", "judge", "'", "215"])
    assert said["two"] == said["too"] == tuple(phones().index(p) for p in ("t", "uː"))
    assert [phones()[p] for p in said["judge"]] == ["dʒ", "ʌ", "dʒ"]
    assert said["'"] == () and len(said["215"]) > 8
    assert pronounce(["judge"]) == {"judge": said["judge"]}  # whatever was said before
    with pytest.raises(DataError, match="no voice 'xx'"):
        pronounce(["a"], "xx")


def test_the_lexicon_is_a_tree_of_all_pronunciations() -> None:
    lexicon = small_lexicon()
    assert np.exp(lexicon.unigram).sum() == pytest.approx(1)

    def walk(node: int, path: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        here = lexicon.ending[lexicon.ends[node] : lexicon.ends[node + 1]]
        found = {lexicon.words[w]: path for w in here}
        below = [lexicon.unigram[w] for w in here]
        for child in range(lexicon.children[node], lexicon.children[node + 1]):
            inner = walk(child, (*path, int(lexicon.phone[child])))
            below += [lexicon.unigram[lexicon.words.index(word)] for word in inner]
            found |= inner
        assert lexicon.ahead[node] == max(below)
        return found

    assert walk(0, ()) == SMALL
    assert make_lexicon({"a": 1, "b": 0, "c": 2}, {"a": (1,), "b": (2,), "c": ()}).words == ("a",)
    with pytest.raises(DataError, match="can be pronounced"):
        make_lexicon({"c": 2}, {"c": ()})


def best_alignment(channel: Channel, emissions: np.ndarray, said: tuple[int, ...]) -> float:
    """Log-likelihood of all rows of ``emissions`` given the phones, by the best of all alignments; at most two phones
    lost between observations, the first of which is a phone's."""
    emit = math.log(1 - channel.deletions) + math.log(1 - channel.insertions)

    def rest(phone: int, at: int, lost: int) -> float:
        ways = [0.0] if phone == len(said) and at == len(emissions) > 0 else [-math.inf]
        if phone < len(said) and lost < 2:
            ways.append(math.log(channel.deletions) + rest(phone + 1, at, lost + 1))
        if phone < len(said) and at < len(emissions):
            ways.append(emit + emissions[at, said[phone]] + rest(phone + 1, at + 1, 0))
        if 0 < at < len(emissions):
            ways.append(math.log(channel.insertions) + rest(phone, at + 1, 0))
        return max(ways)

    return rest(0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.2, 1.5))
def test_links_are_every_word_with_its_best_alignment(seed: int, length: int, noise: float) -> None:
    lexicon, channel = small_lexicon(), Channel(noise, 0.1, 0.1)
    source = np.random.default_rng(seed)
    observed = channel.observe([int(source.choice([A, B, C])) for _ in range(length)], source)
    emissions = channel.log_likelihoods(observed)
    links = Decoder(lexicon, channel, beam=1e6).links(observed)
    found = {
        (int(s), int(e), lexicon.words[w]): float(a)
        for s, e, w, a in zip(links.starts, links.ends, links.words, links.acoustic, strict=True)
    }
    wanted = {}
    for start in range(len(observed)):
        for end in range(start + 1, len(observed) + 1):
            for word, said in SMALL.items():
                score = best_alignment(channel, emissions[start:end], said)
                if score > -math.inf:
                    wanted[start, end, word] = score
    assert found.keys() == wanted.keys()
    assert all(found[key] == pytest.approx(score, abs=1e-9) for key, score in wanted.items())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1.0, 8.0))
def test_a_beam_keeps_links_on_paths_within_it(seed: int, beam: float) -> None:
    lexicon, channel = small_lexicon(), Channel(0.8, 0.05, 0.05)
    source = np.random.default_rng(seed)
    observed = channel.observe([int(source.choice([A, B, C])) for _ in range(6)], source)
    whole, part, wide = (Decoder(lexicon, channel, width).links(observed) for width in (1e6, beam, 15.0))
    exact = lattice_of(whole, len(observed), lexicon)
    assert best_path(lattice_of(wide, len(observed), lexicon)).score == pytest.approx(best_path(exact).score)
    if not len(part.words):  # so narrow that no path was found
        return
    found = lattice_of(part, len(observed), lexicon)
    totals = found.totals()
    before, after = forward_scores(found, totals, "best"), backward_scores(found, totals, "best")
    assert (before[found.starts] + totals + after[found.ends] >= before[-1] - beam - 1e-9).all()
    scores = {row[:3]: row[3] for row in zip(*(column.tolist() for column in whole), strict=True)}
    rows = list(zip(*(column.tolist() for column in part), strict=True))
    assert all(row[3] <= scores[row[:3]] + 1e-9 for row in rows)  # never better than the best alignment


def lattice_of(links, observations: int, lexicon: Lexicon):  # type: ignore[no-untyped-def]
    words = [lexicon.words[w] for w in links.words]
    scores = {"acoustic": links.acoustic.tolist(), "ngram": lexicon.unigram[links.words].tolist()}
    times = [float(t) for t in range(observations + 1)]
    return make_lattice("u", times, links.starts.tolist(), links.ends.tolist(), words, scores)


def test_a_word_is_not_found_where_more_than_two_phones_in_a_row_are_missing() -> None:
    lexicon = make_lexicon({"pabbap": 1}, {"pabbap": (A, C, B, B, C, A)})
    for heard, found in (((B,), False), ((A, A), False), ((C, C), True), ((A, C, B, B, C, A), True)):
        observed = features()[list(heard)]
        links = Decoder(lexicon, Channel(0.1), 1e6).links(observed)
        whole = [a for s, e, a in zip(links.starts, links.ends, links.acoustic, strict=True) if e - s == len(heard)]
        assert bool(max(whole, default=-math.inf) > -30) is found, heard


def test_the_channel_loses_adds_and_blurs_as_often_as_it_says() -> None:
    channel = Channel(0.5, deletions=0.1, insertions=0.2)
    said = [A, B, C] * 4_000
    observed = channel.observe(said, np.random.default_rng(0))
    assert len(observed) / len(said) == pytest.approx(0.9 / 0.8, rel=0.02)
    clean = dataclasses.replace(channel, noise=0.01, deletions=1e-6, insertions=1e-6)
    few = clean.observe(said, np.random.default_rng(0))
    assert len(few) == len(said) and (few - features()[said]).std() == pytest.approx(0.01, rel=0.02)
    assert clean.log_likelihoods(few).argmax(axis=1).tolist() == said
    assert len(channel.observe([A], np.random.default_rng(3))) >= 1
    always = dataclasses.replace(channel, deletions=0.5)
    assert all(len(always.observe([A], np.random.default_rng(k))) for k in range(30))
    assert len(channel.observe([], np.random.default_rng(0))) == 0


def test_likelihoods_are_those_of_the_noise_relative_to_no_phone() -> None:
    channel, points = Channel(0.7), features()
    observed = channel.observe([A, B, C], np.random.default_rng(1))
    logs = channel.log_likelihoods(observed)
    density = np.exp(-np.square(observed[:, None] - points).sum(axis=2) / (2 * 0.7**2))
    assert np.exp(logs) == pytest.approx(density / density.mean(axis=1, keepdims=True))


def test_the_same_is_lost_whatever_the_noise() -> None:
    lost = [len(Channel(noise, 0.3, 0.3).observe([A, B, C] * 9, np.random.default_rng(5))) for noise in (0.1, 1.0)]
    assert lost[0] == lost[1]


# fmt: off
WORDS = [
    "the", "a", "cat", "cap", "hat", "sat", "bat", "mat", "on", "in", "dog", "log", "fog", "and", "end", "then", "ten",
    "when", "red", "bed", "bread", "said",
]
# fmt: on


@pytest.fixture(scope="module")
def corpus() -> TextCorpus:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: no pronunciations")
    source = np.random.default_rng(0)

    def talk(name: str, count: int) -> Conversation:
        sizes = source.integers(2, 8, size=count)
        return Conversation(name, tuple(" ".join(source.choice(WORDS, size=size)) for size in sizes))

    splits = {"train": (talk("t1", 60),), "dev": (talk("d1", 30), talk("d2", 30)), "test": (talk("e1", 40),)}
    return TextCorpus("text", "plain", splits, "test")


def confuser(corpus: TextCorpus, noise: float = 0.4, **values: object) -> Confuser:
    counts = dict.fromkeys(WORDS, 1)
    lexicon = make_lexicon(counts, pronounce(WORDS))
    return Confuser(Decoder(lexicon, Channel(noise)), **values)  # type: ignore[arg-type]


def references(corpus: TextCorpus, split: str = "dev") -> list[Reference]:
    return [
        Reference(f"{talk.id}-{i:04d}", text, talk.id)
        for talk in corpus.split(split)
        for i, text in enumerate(talk.sentences)
    ]


def test_lists_are_the_lattices_exact_nbest_and_scores_add_up(corpus: TextCorpus) -> None:
    items = references(corpus)[:12]
    for item, lattice in zip(items, confuser(corpus, 0.6).lattices(items), strict=True):
        assert lattice is not None
        found, wanted = nbest_of(lattice, 30, item), nbest_list(lattice, 30)
        assert totals(found) == pytest.approx(totals(wanted))  # words of equal score come in any order
        assert len({entry.words for entry in found.entries}) == len(found.entries) == len(wanted.entries)
        assert (found.id, found.recording, found.reference) == (item.id, item.recording, item.text)
        assert totals(found)[0] == pytest.approx(best_path(lattice).score)


def totals(found: NBestList) -> list[float]:
    return found.totals(ScoreWeights({"acoustic": 1.0, "ngram": 1.0})).tolist()


def test_an_utterance_depends_on_its_id_and_the_seed_alone(corpus: TextCorpus) -> None:
    items = references(corpus)[:6]
    whole, one = confuser(corpus).lattices(items), confuser(corpus).lattices(items[3:4])
    other = confuser(corpus, seed=1).lattices(items[3:4])
    assert whole[3] is not None and one[0] is not None and other[0] is not None
    assert whole[3].scores["acoustic"].tolist() == one[0].scores["acoustic"].tolist()
    assert whole[3].scores["acoustic"].tolist() != other[0].scores["acoustic"].tolist()
    assert confuser(corpus).lattices([Reference("x", "", "x")]) == [None]


def test_calibration_finds_the_noise_of_an_error_rate(corpus: TextCorpus) -> None:
    items = references(corpus)
    found = {wer: calibrate(confuser(corpus), items, wer) for wer in (15.0, 35.0)}
    assert found[15.0] < found[35.0]
    for wer, noise in found.items():
        again = confuser(corpus).at(noise)
        assert word_errors(items, again.lattices(items)) == pytest.approx(wer, abs=4)  # of 250 words
    with pytest.raises(DataError, match=r"wer 0\.1: at a noise of .* still have"):
        calibrate(confuser(corpus), items, 0.1)


def options(**values: object) -> ConfusionOptions:
    return ConfusionOptions(**{"noise": 0.45, "min_count": 1, **values})  # type: ignore[arg-type]


def test_a_folder_holds_lists_references_and_lattices(corpus: TextCorpus, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = write_confusions(
        corpus, tmp_path / "out", options(noise=0.9, lattices="slf", nbest=5), lambda *s: steps.append(s)
    )
    texts = corpus.split("test")[0].sentences
    lists = read_nbest(tmp_path / "out" / "nbest.jsonl")
    assert [item.id for item in lists] == [f"e1-{i:04d}" for i in range(40)] and steps[-1] == (40, 40)
    assert [item.reference for item in lists] == list(texts) and {item.recording for item in lists} == {"e1"}
    assert all(set(item.best.scores) == {"acoustic", "ngram"} and len(item.entries) <= 5 for item in lists)
    assert [h.text for h in read_hypotheses(tmp_path / "out" / "references.tsv")] == list(texts)
    lattice = read_slf(tmp_path / "out" / "slf" / "e1-0007.slf.gz")
    assert totals(nbest_list(lattice, 5)) == pytest.approx(totals(lists[7]))
    assert found.utterances == 40 and found.words == sum(len(text.split()) for text in texts)
    assert 0 <= found.oracle_wer < found.wer < 100 and found.silent == 0
    values = json.loads((tmp_path / "out" / "confusions.json").read_text())
    assert values["found"]["noise"] == 0.9 and values["made_of"]["text"] == corpus.fingerprint()


def test_the_same_command_gives_the_same_folder_and_another_is_refused(corpus: TextCorpus, tmp_path: Path) -> None:
    first = write_confusions(corpus, tmp_path / "a", options(utterances=7, lattices="kaldi"))
    write_confusions(corpus, tmp_path / "b", options(utterances=7, lattices="kaldi"))
    for name in ("nbest.jsonl", "references.tsv", "confusions.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert write_confusions(corpus, tmp_path / "a", options(utterances=7, lattices="kaldi")) == first
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    with pytest.raises(DataError, match="made with seed=0, now 1"):
        write_confusions(corpus, tmp_path / "a", options(utterances=7, lattices="kaldi", seed=1))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not empty and not ours"):
        write_confusions(corpus, tmp_path / "c", options())


def test_what_an_interrupted_run_left_does_not_stay(
    corpus: TextCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as broken:
        broken.setattr(
            "sottovoce.data.confusions.files.oracle_path", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            write_confusions(corpus, out, options(utterances=9, lattices="slf"))
    assert len(list((out / "slf").iterdir())) == 9
    (out / ".nbest.jsonl.0.tmp").write_text("what a kill leaves")
    write_confusions(corpus, out, options(utterances=4, lattices="slf", seed=1))
    assert {path.name for path in out.iterdir()} == {"nbest.jsonl", "references.tsv", "slf", "confusions.json"}
    assert len(list((out / "slf").iterdir())) == 4


def test_lists_of_others_are_not_written_over(corpus: TextCorpus, tmp_path: Path) -> None:
    (tmp_path / "nbest.jsonl").write_text("those of a recognizer")
    with pytest.raises(DataError, match="not empty and not ours"):
        write_confusions(corpus, tmp_path, options())
    assert (tmp_path / "nbest.jsonl").read_text() == "those of a recognizer"


def test_another_vocabulary_under_the_same_name_is_noticed(corpus: TextCorpus, tmp_path: Path) -> None:
    path = tmp_path / "few.words"
    for words in (WORDS[:6], WORDS[:7]):
        path.write_text("</s>\t9\n<unk>\t0\n" + "".join(f"{word}\t1\n" for word in words))
        if words == WORDS[:6]:
            write_confusions(corpus, tmp_path / "out", options(words=path, utterances=2))
    with pytest.raises(DataError, match="made with words="):
        write_confusions(corpus, tmp_path / "out", options(words=path, utterances=2))


def test_words_outside_of_the_vocabulary_are_heard_as_others(corpus: TextCorpus, tmp_path: Path) -> None:
    vocabulary = tmp_path / "few.words"
    vocabulary.write_text("</s>\t9\n<unk>\t0\n" + "".join(f"{word}\t1\n" for word in WORDS[:6]))
    found = write_confusions(corpus, tmp_path / "out", options(words=vocabulary, noise=0.02))
    lists = read_nbest(tmp_path / "out" / "nbest.jsonl")
    assert {word for item in lists for entry in item.entries for word in entry.words} <= set(WORDS[:6])
    assert found.wer > 40


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": None}, "either wer or noise, found none"),
        ({"wer": 30.0}, "either wer or noise, found both"),
        ({"noise": 11}, "noise"),
        ({"nbest": 0}, "nbest"),
        ({"lattices": "htk"}, "lattices must be none, slf or kaldi"),
        ({"deletions": 0.9}, "deletions"),
        ({"utterances": 0}, "utterances"),
        ({"beam": 0}, "beam"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    corpus = TextCorpus("text", "plain", {"train": (Conversation("t", ("a",)),)}, "train")
    with pytest.raises(ConfigError, match=message):
        write_confusions(corpus, tmp_path / "out", options(**values))
    assert not (tmp_path / "out").exists()


def test_the_number_of_partial_words_is_bounded(corpus: TextCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST", 3)
    items = references(corpus)[:3]
    for lattice in confuser(corpus, 0.9).lattices(items):
        assert lattice is None or lattice.links < 200
