"""n-gram models of the Switchboard transcripts, beside figures and models that were computed by others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sottovoce.evaluation.perplexity import perplexity
from sottovoce.ngram import Vocabulary, frequent_words, load_ngram, read_arpa, save_ngram, train_kneser_ney

pytestmark = [pytest.mark.real, pytest.mark.slow]

# An independent trainer's validation perplexities over 9,682 types (words seen three times, <unk>, </s>).
PUBLISHED = {2: 74.18, 3: 61.98, 4: 60.98, 5: 60.88}

Text = list[list[str]]


def utterances(folder: Path) -> Text:
    """Lower case, markup gone, hyphens and punctuation but apostrophes to spaces; utterances without words left out."""
    found = []
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = re.sub(r"<[^>]*>", " ", line.split("|")[1].lower())
            found.append(re.sub(r"[^a-z0-9' ]", " ", words).split())
    return [words for words in found if words]


@pytest.fixture(scope="module")
def swda(real_data: Path) -> tuple[Text, Text]:
    return utterances(real_data / "swda" / "train"), utterances(real_data / "swda" / "val")


@pytest.mark.parametrize("order", PUBLISHED)
def test_perplexity_is_the_one_computed_elsewhere(swda: tuple[Text, Text], order: int) -> None:
    train, val = swda
    vocabulary = Vocabulary.of(frequent_words(train, 3))
    assert len(vocabulary) - 1 == 9682  # all but <s>
    model, _ = train_kneser_ney(vocabulary.encode(train), vocabulary, order)
    assert perplexity(model.score(vocabulary.encode(val))) == pytest.approx(PUBLISHED[order], abs=0.006)


@pytest.mark.parametrize("cutoffs", [(), (0, 0, 1, 2)])
def test_lmplz_trains_the_same_model(swda: tuple[Text, Text], cutoffs: tuple[int, ...], tmp_path: Path) -> None:
    """To a thousandth of a nat: its statistics give the last n-gram of each order its plain count."""
    lmplz = shutil.which("lmplz")
    if lmplz is None:
        pytest.skip("needs KenLM's lmplz on the PATH")
    train, val = swda
    known = set(frequent_words(train, 3))
    # lmplz counts no <unk>: words outside the vocabulary become one plain word.
    train, val = ([[w if w in known else "rare" for w in words] for words in text] for text in (train, val))
    vocabulary = Vocabulary.of(frequent_words(train))
    text, arpa = tmp_path / "text", tmp_path / "lm.arpa"
    text.write_text("".join(" ".join(words) + "\n" for words in train))
    prune = ["--prune", *map(str, cutoffs)] if cutoffs else []
    command = [lmplz, "-o", "4", "-S", "10%", "-T", str(tmp_path), *prune, "--text", str(text), "--arpa", str(arpa)]
    subprocess.run(command, check=True, capture_output=True)
    theirs = read_arpa(arpa)
    ours, _ = train_kneser_ney(vocabulary.encode(train), vocabulary, 4, cutoffs)
    assert ours.counts == theirs.counts
    left, right = (model.score(model.vocabulary.encode(val)) for model in (ours, theirs))
    np.testing.assert_allclose(left, right, atol=1e-3)
    assert perplexity(left) == pytest.approx(perplexity(right), rel=1e-5)


def test_kenlm_scores_the_file_alike(swda: tuple[Text, Text], tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="needs KenLM: pip install 'sottovoce[lm]'")
    train, val = swda
    vocabulary = Vocabulary.of(frequent_words(train, 3))
    model, _ = train_kneser_ney(vocabulary.encode(train), vocabulary, 4)
    save_ngram(tmp_path / "lm.arpa", model)
    peer = kenlm.Model(str(tmp_path / "lm.arpa"))
    scores = [score for words in val for score, _, _ in peer.full_scores(" ".join(words))]
    np.testing.assert_allclose(model.score(vocabulary.encode(val)), np.array(scores) * np.log(10), atol=1e-5)
    again = load_ngram(tmp_path / "lm.arpa")
    assert again.keys.tobytes() == model.keys.tobytes()
    assert again.log10_probs.tobytes() == model.log10_probs.tobytes()


def test_the_model_that_comes_with_an4_is_read(real_data: Path) -> None:
    model = load_ngram(real_data / "an4" / "etc" / "an4.ug.lm")
    assert model.counts == (107, 1)
    np.testing.assert_allclose(np.exp(model.distribution([0])).sum(), 1.0, atol=1e-3)  # the file has four digits
