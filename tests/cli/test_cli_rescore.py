"""``sottovoce rescore`` over every form of input, with n-grams and packed models; no PyTorch here."""

from __future__ import annotations

import gzip
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sottovoce.cli import second_pass
from sottovoce.decoding.language_model import read_history
from sottovoce.decoding.lattices import best_path, read_kaldi_lattices, read_slf, write_kaldi_lattices, write_slf
from sottovoce.decoding.lattices.lattice import Lattice, make_lattice
from sottovoce.decoding.nbest_files import read_nbest, write_espnet_nbest, write_kaldi_nbest, write_nbest
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.sentence_scores import score_sentences
from sottovoce.decoding.vocabulary import WordList
from sottovoce.evaluation import read_hypotheses
from sottovoce.ngram import Vocabulary, save_ngram, train_kneser_ney
from sottovoce.packed import LstmLmArchitecture, PackedMatrix, PackedModel, make_band
from sottovoce.runtime import TextInput
from sottovoce.runtime.language_models import read_language_model

WORDS = ["the", "cat", "hat", "sat", "on", "a", "mat", "dog", "ran"]
TEXT = ["the cat sat on the mat", "a dog ran", "the dog sat", "a cat ran on the mat", "the cat ran"] * 4


@pytest.fixture
def rescore(run):
    """Run ``sottovoce rescore`` in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code, out, err = run("rescore", *arguments)
        return code, out, err.strip()

    return call


def packed_lm(seed: int = 0) -> PackedModel:
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> PackedMatrix:
        codes = rng.integers(0, 4, (rows, columns), np.uint8)
        scale = rng.uniform(0.005, 0.01, rows).astype(np.float16)
        return PackedMatrix(
            (rows, columns), (make_band(codes, np.array([-96, -32, 32, 96], np.int8), scale, 2, "x", "row"),)
        )

    words = WordList(["</s>", "<unk>", *WORDS])
    a = LstmLmArchitecture(words.size, embedding=8, units=12, layers=1)
    tensors = {
        "embedding.weight": matrix(words.size, 8),
        "lstm.weight_ih_l0": matrix(48, 8),
        "lstm.weight_hh_l0": matrix(48, 12),
        "lstm.bias_ih_l0": rng.normal(0, 0.1, 48).astype(np.float16),
        "lstm.bias_hh_l0": np.zeros(48, np.float16),
        "output.weight": matrix(words.size, 12),
        "output.bias": np.zeros(words.size, np.float16),
    }
    return PackedModel(tensors, a.to_dict(), TextInput("lower").to_dict(), words.model)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trigram and a packed LSTM, in a run's folder."""
    folder = tmp_path_factory.mktemp("models")
    vocabulary = Vocabulary.of(WORDS)
    model, _ = train_kneser_ney(vocabulary.encode([line.split() for line in TEXT]), vocabulary, 3)
    save_ngram(folder / "tri.arpa.gz", model)
    (folder / "run").mkdir()
    packed_lm().save(folder / "run" / "model.safetensors")
    return folder / "tri.arpa.gz", folder / "run"


def listed(id: str, reference: str, *texts: str, **known: str) -> NBestList:
    """Entries whose acoustic scores fall by one each."""
    entries = tuple(NBestEntry(tuple(text.split()), {"acoustic": -10.0 - rank}) for rank, text in enumerate(texts))
    return NBestList(id, entries, reference=reference, **known)


LISTS = [
    listed("a-1", "the cat sat", "the hat sat", "the cat sat", "the cat sat on"),
    listed("a-2", "a dog ran", "a dog ran", "on dog ran"),
    listed("b-1", "the dog sat on the mat", "the dog hat on the mat", "the dog sat on the mat", "the zebra sat"),
    listed("b-2", "the cat ran", "cat the ran", "the cat ran", ""),
]


def test_ngrams_over_json_lines(rescore, tmp_path: Path, models) -> None:
    write_nbest(tmp_path / "in.jsonl", LISTS)
    out, again = tmp_path / "out.trn", tmp_path / "again.jsonl.gz"
    code, shown, err = rescore(
        tmp_path / "in.jsonl", "--lm", models[0], "--weight", "tri=2", "--out", out, "--nbest-out", again, "--json"
    )
    assert (code, err) == (0, "")
    model = read_language_model(models[0])
    for before, after in zip(LISTS, read_nbest(again), strict=True):
        scores = score_sentences(model, [entry.words for entry in before.entries])
        wanted = sorted(
            zip(-(before.columns()["acoustic"] + 2 * scores), scores, before.entries, strict=True), key=lambda x: x[0]
        )
        assert [entry.words for entry in after.entries] == [entry.words for _, _, entry in wanted]
        assert [entry.scores["tri"] for entry in after.entries] == pytest.approx([score for _, score, _ in wanted])
        assert (after.id, after.reference) == (before.id, before.reference)
    assert [x.text for x in read_hypotheses(out)] == [x.best.text for x in read_nbest(again)]
    report = json.loads(shown)
    assert (report["first"]["errors"], report["second"]["errors"], report["oracle_errors"]) == (4, 0, 0)
    assert report["weights"] == {"acoustic": 1.0, "tri": 2.0, "word_penalty": 0.0}
    assert (report["utterances"], report["skipped"], report["changed"]) == (4, 0, 3)
    assert report["known_words"]["tri"] == 1.0


def test_what_is_printed(rescore, tmp_path: Path, models) -> None:
    write_nbest(tmp_path / "in.jsonl", LISTS)
    code, shown, _ = rescore(tmp_path / "in.jsonl", "--lm", f"3gram={models[0]}", "--word-penalty", -0.5)
    lines = shown.splitlines()
    assert code == 0 and lines[0].startswith("4 utterances, 3 changed; of the first pass's words 3gram knows 100.0 %")
    assert lines[1] == "weights: acoustic 1, 3gram 1, word penalty -0.5"
    assert lines[2].startswith("first pass: WER 26.67 % [") and lines[3].startswith("second pass: WER 0.00 % [")
    assert lines[4] == "best entries of the lists: 0 errors"
    bare = [NBestList(x.id, x.entries) for x in LISTS]
    write_nbest(tmp_path / "bare.jsonl", bare)
    assert len(rescore(tmp_path / "bare.jsonl", "--lm", models[0])[1].splitlines()) == 2
    (tmp_path / "ref").write_text("".join(f"{x.id} {x.reference.upper()}\n" for x in LISTS) + "other words\n")
    options = ("--references", tmp_path / "ref", "--normalize", "lower")
    assert "second pass: WER 0.00 %" in rescore(tmp_path / "bare.jsonl", "--lm", models[0], *options)[1]


def test_two_models_log_linearly_and_linearly(rescore, tmp_path: Path, models) -> None:
    write_nbest(tmp_path / "in.jsonl", LISTS)
    lms = ("--lm", f"lstm={models[1]}", "--lm", models[0])
    loaded = [read_language_model(path) for path in models[::-1]]
    sentences = [entry.words for item in LISTS for entry in item.entries]
    code, shown, _ = rescore(tmp_path / "in.jsonl", *lms, "--nbest-out", tmp_path / "a.jsonl", "--json")
    assert code == 0 and json.loads(shown)["weights"] == {"acoustic": 1, "lstm": 1, "tri": 1, "word_penalty": 0}
    found = {(x.id, e.words): e.scores for x in read_nbest(tmp_path / "a.jsonl") for e in x.entries}
    keys = [(item.id, entry.words) for item in LISTS for entry in item.entries]
    for name, model in zip(("lstm", "tri"), loaded, strict=True):
        assert [found[key][name] for key in keys] == pytest.approx(score_sentences(model, sentences))
    share = "lstm=0.25,tri=0.75"
    code, shown, _ = rescore(
        tmp_path / "in.jsonl",
        *lms,
        "--interpolate",
        share,
        "--weight",
        "interpolated=3",
        "--nbest-out",
        tmp_path / "b.jsonl",
    )
    assert code == 0 and "weights: acoustic 1, interpolated 3, word penalty 0; shares: lstm 0.25, tri 0.75" in shown
    found = {(x.id, e.words): e.scores for x in read_nbest(tmp_path / "b.jsonl") for e in x.entries}
    for key in keys:
        wanted = 0.0
        states = [model.start(1) for model in loaded]
        for word in (*key[1], "</s>"):
            steps = [model.step([word], state) for model, state in zip(loaded, states, strict=True)]
            states = [state for _, state in steps]
            wanted += math.log(0.25 * math.exp(steps[0][0][0]) + 0.75 * math.exp(steps[1][0][0]))
        assert found[key]["interpolated"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("interpolate", [None, "em"])
def test_weights_are_tuned_kept_and_used(rescore, tmp_path: Path, models, interpolate: str | None) -> None:
    """The acoustic score is no help; what was found on dev is in the file, and gives the same hypotheses again."""
    write_nbest(tmp_path / "dev.jsonl", LISTS)
    write_nbest(tmp_path / "test.jsonl", LISTS[::-1])
    lms = ("--lm", f"lstm={models[1]}", "--lm", models[0], *(("--interpolate", interpolate) if interpolate else ()))
    saved = tmp_path / "w.json"
    code, shown, err = rescore("--tune", tmp_path / "dev.jsonl", *lms, "--save-weights", saved)
    assert (code, err) == (0, "") and "tuned on 4 lists of 15 words: 4 errors in the first pass" in shown
    value = json.loads(saved.read_text())
    assert value["tuned"]["errors"] == 0 and value["factors"]["acoustic"] == 1.0
    if interpolate:
        assert set(value["factors"]) == {"acoustic", "interpolated"}
        assert sum(value["shares"].values()) == pytest.approx(1) and value["shares"]["tri"] > 0.8
    assert (
        "(weights tuned on this same input)"
        in rescore(tmp_path / "dev.jsonl", *lms, "--tune", tmp_path / "dev.jsonl")[1]
    )
    both = ("--tune", tmp_path / "dev.jsonl", "--out", tmp_path / "both.tsv", "--json")
    report = json.loads(rescore(tmp_path / "test.jsonl", *lms, *both)[1])
    assert report["tuned"]["errors"] == report["second"]["errors"] == 0 and not report["tuned_on_input"]
    code, shown, _ = rescore(tmp_path / "test.jsonl", *lms[:4], "--weights", saved, "--out", tmp_path / "later.tsv")
    assert code == 0 and (tmp_path / "later.tsv").read_bytes() == (tmp_path / "both.tsv").read_bytes()


def sausage(id: str, *places: dict[str, float]) -> Lattice:
    """One link a word and place, with its acoustic score, and a first-pass language model score of -1."""
    links = [(i, word, score) for i, place in enumerate(places) for word, score in place.items()]
    return make_lattice(
        id,
        [0.5 * i for i in range(len(places) + 1)],
        [i for i, _, _ in links],
        [i + 1 for i, _, _ in links],
        [word for _, word, _ in links],
        {"acoustic": [score for _, _, score in links], "lm": [-1.0] * len(links)},
    )


LATTICES = [
    sausage("a-1", {"the": -1, "a": -1.5}, {"hat": -1, "cat": -1.25, "mat": -2}, {"sat": -1, "": -3}),
    sausage("a-2", {"the": -1.5, "a": -1}, {"dog": -1, "cat": -1.5}, {"ran": -1.25, "hat": -1}),
]
REFERENCES = {"a-1": "the cat sat", "a-2": "a dog ran"}


@pytest.fixture
def slf(tmp_path: Path) -> Path:
    """Two good lattices among what no lattice may be."""
    folder = tmp_path / "slf"
    folder.mkdir()
    for lattice in LATTICES:
        write_slf(folder / f"{lattice.utterance}.lat.gz", lattice)
    good = "VERSION=1.0\nN=3 L=2\nI=0\nI=1\nI=2\nJ=0 S=0 E=1 W=a a={}\nJ=1 S={} E={} W=b a=-1\n"
    (folder / "cycle.lat").write_text(good.format(-1, 1, 0))
    (folder / "infinite.lat").write_text(good.format("-inf", 1, 2))
    (folder / "no_path.lat").write_text(good.format(-1, 2, 2))
    (folder / "empty.lat").write_text("VERSION=1.0\nN=0 L=0\n")
    (folder / "damaged.lat.gz").write_bytes(gzip.compress(b"VERSION=1.0\n" * 50)[:40])
    (tmp_path / "ref").write_text("".join(f"{id} {text}\n" for id, text in REFERENCES.items()))
    return folder


def test_bad_lattices_are_told_and_the_others_go_on(rescore, slf: Path, tmp_path: Path, models) -> None:
    out = tmp_path / "out.ctm"
    options = ("--lm", models[0], "--weight", "lm=0", "--references", tmp_path / "ref", "--out", out)
    code, shown, err = rescore(slf, *options)
    assert code == 0 and "2 utterances (5 skipped)" in shown
    lines = err.splitlines()
    assert len(lines) == 5 and [line.split()[1] for line in lines] == [
        "cycle:", "damaged:", "empty:", "infinite:", "no_path:",
    ]  # fmt: skip
    assert "expected no cycle" in lines[0] and "infinite.lat:6: expected a finite number as a=" in lines[3]
    words = [line.split() for line in out.read_text().splitlines()]
    assert [word[4] for word in words] == ["the", "cat", "sat", "a", "dog", "ran"]
    assert words[1] == ["a-1", "1", "0.500", "0.500", "cat"]  # the first pass' confidence would be another choice's
    assert rescore(slf, *options, "--method", "lattice")[0] == 0
    word = out.read_text().splitlines()[1].split()
    assert word[:5] == words[1] and 0 < float(word[5]) < 1
    for bad in ("cycle.lat", "empty.lat"):
        code, _, err = rescore(slf / bad, *options)
        assert code == 2 and err.splitlines()[-1].endswith("expected utterances to rescore, found none (1 skipped)")


def test_on_the_lattice_and_by_exact_lists_the_best_is_the_same(rescore, slf: Path, tmp_path: Path, models) -> None:
    lms = ("--lm", f"lstm={models[1]}", "--lm", models[0], "--weight", "lm=0.5", "--weight", "lstm=1.5")
    wide = ("--order", 9, "--max-histories", 1000)
    folder = tmp_path / "rescored"
    code, _, _ = rescore(
        slf, *lms, "--method", "lattice", *wide, "--lattices-out", folder, "--out", tmp_path / "a.jsonl"
    )
    assert code == 0
    assert (
        rescore(slf, *lms, "--nbest", 100, "--out", tmp_path / "b.jsonl", "--nbest-out", tmp_path / "n.jsonl")[0] == 0
    )
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    for item in read_nbest(tmp_path / "n.jsonl"):
        again = read_slf(folder / f"{item.id}.slf.gz")
        assert again.weights.factors == {"acoustic": 1.0, "lm": 0.5, "x1": 1.5, "x2": 1.0}
        scores = item.best.scores
        total = scores["acoustic"] + 0.5 * scores["lm"] + 1.5 * scores["lstm"] + scores["tri"]
        path = best_path(again)
        assert path.words == item.best.words and path.score == pytest.approx(total, abs=1e-4)
    assert len(item.entries) == 8


def test_references_are_looked_for_before_models_run(rescore, tmp_path: Path, models, monkeypatch) -> None:
    """Of one utterance, or of none that is in the file; what tuning alone needs is no such file."""
    write_nbest(tmp_path / "in.jsonl", [NBestList(x.id, x.entries) for x in LISTS])
    write_nbest(tmp_path / "dev.jsonl", [NBestList(f"dev-{x.id}", x.entries) for x in LISTS])
    (tmp_path / "dev").write_text("".join(f"dev-{x.id} {x.reference}\n" for x in LISTS))
    given = (tmp_path / "in.jsonl", "--lm", models[0], "--references", tmp_path / "dev")
    code, shown, _ = rescore(*given, "--tune", tmp_path / "dev.jsonl")
    assert code == 0 and "tuned on 4 lists" in shown and "second pass" not in shown
    monkeypatch.setattr(second_pass, "rescore_lists", lambda *_, **__: pytest.fail("models ran"))
    code, _, err = rescore(*given)
    assert code == 2 and err == "error: references: expected one for 'a-1', found none"


def test_weights_of_files_that_differ_are_said_to(rescore, tmp_path: Path, models) -> None:
    for lattice, scale in zip(LATTICES, (10.0, 12.0), strict=True):
        weighted = replace(lattice, weights=lattice.weights.replacing(lm=scale))
        write_slf(tmp_path / f"{lattice.utterance}.slf", weighted)
    _, shown, _ = rescore(tmp_path, "--lm", models[0])
    assert "lm 10, tri 1, word penalty 0 (of the first utterance: by their files, others differ)" in shown
    assert "differ" not in rescore(tmp_path, "--lm", models[0], "--weight", "lm=11")[1]


def test_kaldi_archives(rescore, tmp_path: Path, models) -> None:
    symbols = {"0": "<eps>", **{str(i): word for i, word in enumerate(WORDS, start=1)}}
    (tmp_path / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in symbols.items()))
    archive = tmp_path / "lat.1.gz"
    write_kaldi_lattices(archive, LATTICES, symbols)
    text = gzip.decompress(archive.read_bytes()).decode() + "bad\n0 1 77 1,1,\n1\n\n"
    archive.write_bytes(gzip.compress(text.encode()))
    options = ("--lm", models[0], "--words", tmp_path / "words.txt", "--acoustic-scale", 0.5, "--method", "lattice")
    code, shown, err = rescore(archive, *options, "--weight", "lm=0", "--lattices-out", tmp_path / "out.gz")
    assert code == 0 and "acoustic 0.5, lm 0, tri 1" in shown
    assert err.startswith("skipped bad: ") and err.endswith("the label 77 is not among the words")
    model = read_language_model(models[0])
    for before, after in zip(LATTICES, read_kaldi_lattices(tmp_path / "out.gz", symbols), strict=True):
        path = best_path(after, before.weights.replacing(acoustic=0.5, lm=1.0))
        acoustic = sum(before.scores["acoustic"][i] for i in range(before.links) if before.word(i) in path.words)
        assert len(path.words) == 3
        assert path.score == pytest.approx(0.5 * acoustic + score_sentences(model, [path.words])[0], abs=1e-5)


def test_lists_of_kaldi_and_espnet_and_back(rescore, tmp_path: Path, models) -> None:
    kaldi = [NBestList(x.id, tuple(NBestEntry(e.words, {**e.scores, "lm": -3.0}) for e in x.entries)) for x in LISTS]
    write_kaldi_nbest(tmp_path / "kaldi", kaldi)
    code, _, _ = rescore(tmp_path / "kaldi", "--lm", f"lm={models[0]}", "--nbest-out", tmp_path / "k", "--nbest", 2)
    assert code == 0
    model = read_language_model(models[0])
    for item in read_nbest(tmp_path / "k"):
        assert len(item.entries) == 2
        assert [e.scores["lm"] for e in item.entries] == pytest.approx(
            score_sentences(model, [e.words for e in item.entries])
        )
    espnet = [NBestList(x.id, tuple(NBestEntry(e.words, {"score": -1.0}) for e in x.entries)) for x in LISTS]
    write_espnet_nbest(tmp_path / "espnet", espnet)
    out = tmp_path / "e"
    assert rescore(tmp_path / "espnet", "--lm", models[0], "--nbest-out", out, "--layout", "espnet")[0] == 0
    item = read_nbest(out)[0]
    assert item.best.scores["score"] == pytest.approx(score_sentences(model, [item.best.words])[0] - 1)


@pytest.mark.parametrize("given", ["names", "recordings", "file"])
def test_history_is_the_conversation_so_far(rescore, tmp_path: Path, models, given: str) -> None:
    lists = [*LISTS[:1], listed("a-9", "a dog", "a dog", "dog"), *LISTS[1:]]
    if given != "names":
        lists = [NBestList(f"u{i}", x.entries, recording=x.id[0], reference=x.reference) for i, x in enumerate(lists)]
    if given == "file":  # the order is the file's
        pairs = [(x.id, x.recording) for x in (lists[2], lists[1], lists[0], *lists[3:])]
        (tmp_path / "c").write_text("".join(f"{id} {name}\n" for id, name in pairs))
        lists = [NBestList(x.id, x.entries, reference=x.reference) for x in lists]
    write_nbest(tmp_path / "in.jsonl", lists)
    file = ("--conversations", tmp_path / "c") if given == "file" else ()
    found = tmp_path / "out.jsonl"
    code, _, _ = rescore(tmp_path / "in.jsonl", "--lm", f"lstm={models[1]}", "--history", *file, "--nbest-out", found)
    assert code == 0
    model, done = read_language_model(models[1]), {x.id: x for x in read_nbest(found)}
    orders = [[2, 1, 0], [3, 4]] if given == "file" else [[0, 1, 2], [3, 4]]
    for order in orders:
        before: list[tuple[str, ...]] = []
        for i in order:
            item = done[lists[i].id]
            scores = score_sentences(model, [e.words for e in item.entries], starts=read_history(model, before))
            assert [e.scores["lstm"] for e in item.entries] == pytest.approx(scores, abs=1e-5)
            before.append(item.best.words)
    assert len(before) == 2
    assert (
        rescore(
            "--tune", tmp_path / "in.jsonl", "--lm", models[1], "--history", *file, "--save-weights", tmp_path / "w"
        )[0]
        == 0
    )


def test_history_on_lattices(rescore, tmp_path: Path, models) -> None:
    for lattice in LATTICES:
        write_slf(tmp_path / f"{lattice.utterance}.slf", lattice)
    wide = ("--order", 9, "--max-histories", 1000)
    texts = []
    for i, options in enumerate((("--method", "lattice", *wide), ("--nbest", 100))):
        out = tmp_path.parent / f"{tmp_path.name}-{i}.jsonl"
        assert rescore(tmp_path, "--lm", models[1], "--history", *options, "--out", out)[0] == 0
        texts.append(out.read_text())
    assert texts[0] == texts[1]


def test_lists_that_cannot_be_used(rescore, tmp_path: Path, models) -> None:
    lines = [
        '{"id": "empty", "nbest": []}',
        '{"id": "infinite", "nbest": [{"text": "a", "scores": {"acoustic": -1e999}}]}',
        '{"id": "u1", "nbest": [{"text": "dog", "scores": {"acoustic": 1}}, {"text": "", "scores": {"acoustic": 0}}]}',
        '{"id": "u2", "nbest": [{"text": "a", "scores": {"other": -1}}]}',
        "not json",
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    code, shown, err = rescore(tmp_path / "in.jsonl", "--lm", models[0], "--weight", "acoustic=2")
    assert code == 0 and "1 utterance (4 skipped)" in shown
    assert [line.split()[1] for line in err.splitlines()] == ["line", "line", "line", "u2:"]


def test_mistakes_are_one_line(rescore, tmp_path: Path, models) -> None:
    write_nbest(tmp_path / "in.jsonl", LISTS)
    write_nbest(tmp_path / "bare.jsonl", [NBestList(x.id, x.entries) for x in LISTS])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("a file of text\n")
    (tmp_path / "w.json").write_text('{"factors": {"acoustic": 1, "lm": 2}, "word_penalty": 0}')
    (tmp_path / "half").write_text("a-1 a\n")
    (tmp_path / "others").write_text("/path/to/a-1 a\n")
    write_slf(tmp_path / "a.slf", LATTICES[0])
    (tmp_path / "untimed.slf").write_text(re.sub(r" t=\S+", "", (tmp_path / "a.slf").read_text()))
    (tmp_path / "words.txt").write_text("<eps> 0\n")
    (tmp_path / "d.jsonl").mkdir()
    slf, twice = tmp_path / "a.slf", tmp_path / "twice.jsonl"
    lm, given = ("--lm", models[0]), tmp_path / "in.jsonl"
    for arguments, message in (
        ((given,), "--lm: expected at least one language model"),
        (lm, "expected an INPUT to rescore, or --tune with --save-weights"),
        ((tmp_path / "none", *lm), "none: cannot be read: No such file or directory"),
        ((tmp_path / "empty", *lm), "expected lattices or n-best lists in this folder, found no file"),
        ((tmp_path / "text", *lm), "expected n-best lists in JSON lines, an SLF lattice or Kaldi's text lattices"),
        (
            (given, "--lm", tmp_path / "no.arpa"),
            "expected a model file, an n-gram file or a run folder, found nothing at",
        ),
        ((given, "--lm", tmp_path / "text"), "text:2: expected"),
        ((given, "--lm", tmp_path / "empty"), "model.safetensors: cannot be read"),
        ((given, *lm, *lm), "expected models with names of their own; NAME=PATH gives one"),
        ((given, *lm, "--weight", "trii=2"), "found 'trii'; did you mean 'tri'?"),
        ((given, *lm, "--weight", "tri"), "--weight: expected NAME=NUMBER, each name once, found 'tri'"),
        ((given, *lm, "--weights", tmp_path / "w.json"), "weights: expected scores among acoustic, tri, found 'lm'"),
        ((given, *lm, "--weights", tmp_path / "text"), "text: expected a JSON object with factors and word_penalty"),
        ((given, *lm, "--interpolate", "other=1"), "interpolation: expected shares of tri, found other"),
        ((given, *lm, "--interpolate", "em"), "--interpolate em finds shares on a development set"),
        ((given, *lm, "--tune", tmp_path / "bare.jsonl"), "a-1: expected a reference to tune by, found none"),
        ((given, *lm, "--tune", given, "--fix", "x"), "weights: expected acoustic, tri, word_penalty, found 'x'"),
        ((given, *lm, "--fix", "tri"), "--fix is for weights that are found: expected --tune beside it"),
        ((given, *lm, "--conversations", given), "expected --history beside it"),
        ((given, *lm, "--normalize", "loud"), "normalization: expected one of"),
        ((given, *lm, "--out", tmp_path / "out.ctm"), "n-best lists have no times of words: ctm needs lattices"),
        ((given, *lm, "--out", tmp_path / "no" / "x.trn"), "cannot be written: there is no such folder"),
        ((given, *lm, "--lattices-out", tmp_path / "l"), "with --method lattice"),
        ((given, *lm, "--method", "lattice"), "--method lattice: expected lattices, found n-best lists in"),
        ((tmp_path / "bare.jsonl", *lm, "--references", tmp_path / "half"), "expected one for 'a-2', found none"),
        ((tmp_path / "bare.jsonl", *lm, "--references", tmp_path / "others"), "expected one for 'a-1', found none"),
        ((given, *lm, "--references", tmp_path / "half"), "expected one for 'a-2', found none"),  # theirs or none
        ((given, *lm, "--references", tmp_path / "others"), "expected one for 'a-1', found none"),
        ((given, *lm, "--out", given), "in.jsonl: expected another path to write to: this one is read"),
        ((tmp_path, *lm, "--out", given), "in.jsonl: expected another path to write to: this one is read"),
        ((given, *lm, "--acoustic-scale", 0.1), "--acoustic-scale is for lattices, found n-best lists in"),
        ((given, *lm, "--words", tmp_path / "words.txt"), "--words is for Kaldi's lattices, found n-best lists in"),
        ((slf, *lm, "--words", tmp_path / "words.txt"), "--words is for Kaldi's lattices, found SLF lattices in"),
        ((slf, *lm, "--order", 3), "--order is for rescoring on the lattice: expected --method lattice"),
        ((slf, *lm, "--max-histories", 3), "--max-histories is for rescoring on the lattice: expected"),
        ((slf, *lm, "--method", "lattice", "--nbest", 5), "--nbest is for lists: it does not go with --method lattice"),
        ((given, *lm, "--out", twice, "--nbest-out", twice), "expected a path of its own for each output"),
        (
            (given, *lm, "--out", tmp_path / "empty"),
            "empty: cannot be written: expected a file or nothing there, found",
        ),
        ((given, *lm, "--nbest-out", tmp_path / "d.jsonl"), "expected a file or nothing there, found a folder"),
        ((given, *lm, "--nbest-out", tmp_path / "text"), "expected a folder or nothing there, found a file"),
        (
            (slf, *lm, "--method", "lattice", "--out", tmp_path / "o.trn", "--lattices-out", tmp_path / "text"),
            "text: cannot be written: expected a folder or nothing there, found a file",
        ),
        ((tmp_path / "untimed.slf", *lm, "--out", tmp_path / "o.ctm"), "a-1: expected a time at each node, found none"),
    ):
        before = sorted(tmp_path.iterdir())
        code, out, err = rescore(*arguments)
        assert code == 2 and out == "" and message in err and err.count("\n") == 0, (arguments, err)
        assert sorted(tmp_path.iterdir()) == before
