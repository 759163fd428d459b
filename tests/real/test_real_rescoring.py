"""Smoke tests of the second pass on real digits, AN4 and synthetic commands, from audio to rescored text. No claims:
the recognizers are hardly trained, and a language model has little to say about digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sottovoce.cli.main import app
from sottovoce.data.prepare import prepare
from sottovoce.data.utterances import split_texts
from sottovoce.decoding.nbest_files import read_nbest
from sottovoce.evaluation.hypotheses import read_hypotheses
from sottovoce.evaluation.wer import count_errors
from sottovoce.ngram import Vocabulary, save_ngram, train_kneser_ney
from sottovoce.training.config import load_recipe
from sottovoce.training.train import train

pytestmark = [pytest.mark.real, pytest.mark.slow]


def called(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("corpus", "recipe", "options", "settings"),
    [
        ("fsdd", "fsdd-small", {"split": "official", "train_strings": 600}, ["data.epoch_strings=600"]),
        ("an4", "an4", {"audio": "mfc"}, ["phase.epochs=2"]),
        ("synth", "synth-small", {"train": 400, "dev": 40, "test": 40}, ["data.epoch_strings=400"]),
    ],
)
def test_lists_are_rescored_by_an_ngram_of_the_training_text(
    real_data: Path, tmp_path: Path, corpus: str, recipe: str, options: dict[str, Any], settings: list[str]
) -> None:
    if corpus == "synth":
        pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: it comes with the [demo] extra")
    data, run, lm = tmp_path / "data", tmp_path / "run", tmp_path / "lm.arpa"
    prepare(corpus, None if corpus == "synth" else real_data / corpus, data, options)
    train(load_recipe(recipe, ["phase.epochs=3", *settings]), data, run, threads=1, progress=False)
    sentences = [text.split() for text in split_texts(data, "train")]
    vocabulary = Vocabulary.of(sorted({word for sentence in sentences for word in sentence}))
    save_ngram(lm, train_kneser_ney(vocabulary.encode(sentences), vocabulary, 2)[0])
    lists = {split: tmp_path / f"{split}.jsonl" for split in ("dev", "test")}
    for split, path in lists.items():
        called("evaluate", run, "--split", split, "--method", "beam", "--beam", 8, "--nbest-out", path)
    out = {split: tmp_path / f"{split}-out.jsonl" for split in lists}
    for split, path in lists.items():
        called("rescore", path, "--lm", lm, "--tune", lists["dev"], "--out", out[split])
        assert [found.id for found in read_hypotheses(out[split])] == [found.id for found in read_nbest(path)]
    first = sum(count_errors(x.reference.split(), x.entries[0].words).errors for x in read_nbest(lists["dev"]))
    second = sum(count_errors(x.reference.split(), x.text.split()).errors for x in read_hypotheses(out["dev"]))
    assert second <= first  # the first pass alone is one of the weights that are tried
