"""Recognizers with a language model in their beam: of words, of pieces, of n-grams; streamed, in batches, on NumPy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from test_runtime_recognizer import sound
from tiny_rnnt import random_matrix, speaking_model, tokenizer

from sottovoce.decoding.fusion import TokenReader, WordReader
from sottovoce.decoding.sentence_scores import score_sentences
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.decoding.vocabulary import Pieces, Vocabulary, WordList
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.fbank import fbank
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.ngram import Vocabulary as NgramVocabulary
from sottovoce.ngram import save_ngram, train_kneser_ney
from sottovoce.packed import LstmLmArchitecture, PackedModel, TransformerLmArchitecture
from sottovoce.runtime import Recognizer, TextInput
from sottovoce.runtime.fusion import make_fusion
from sottovoce.runtime.kernels import native_module
from sottovoce.runtime.language_models import read_language_model

MODEL = speaking_model()
LINES = ["one two three four", "five six seven", "eight nine zero"]


def lstm(words: Vocabulary, seed: int = 0) -> PackedModel:
    rng = np.random.default_rng(seed)
    a = LstmLmArchitecture(words.size, embedding=8, units=12, layers=1)
    tensors: dict[str, Any] = {
        "embedding.weight": random_matrix(rng, words.size, 8),
        "lstm.weight_ih_l0": random_matrix(rng, 48, 8),
        "lstm.weight_hh_l0": random_matrix(rng, 48, 12),
        "lstm.bias_ih_l0": rng.normal(0, 0.1, 48).astype(np.float16),
        "lstm.bias_hh_l0": np.zeros(48, np.float16),
        "output.weight": random_matrix(rng, words.size, 12),
        "output.bias": rng.normal(0, 0.5, words.size).astype(np.float16),
    }
    return PackedModel(tensors, a.to_dict(), TextInput("lower").to_dict(), words.model)


def transformer(words: Vocabulary, seed: int = 0) -> PackedModel:
    rng = np.random.default_rng(seed)
    a = TransformerLmArchitecture(words.size, width=12, layers=2, heads=2, feed_forward=16, context=48)
    tensors: dict[str, Any] = {
        "embedding.weight": random_matrix(rng, words.size, 12),
        "positions": rng.normal(0, 0.1, (48, 12)).astype(np.float16),
    }
    dense = {"output": (words.size, 12)}
    for i in range(2):
        for name in ("query", "key", "value", "attended"):
            dense[f"layers.{i}.{name}"] = (12, 12)
        dense |= {f"layers.{i}.expand": (16, 12), f"layers.{i}.contract": (12, 16)}
    for name, (rows, columns) in dense.items():
        tensors[f"{name}.weight"] = random_matrix(rng, rows, columns)
        tensors[f"{name}.bias"] = np.zeros(rows, np.float16)
    for name in ("norm", *(f"layers.{i}.{part}_norm" for i in range(2) for part in ("attention", "feed_forward"))):
        tensors |= {f"{name}.weight": np.ones(12, np.float32), f"{name}.bias": np.zeros(12, np.float32)}
    return PackedModel(tensors, a.to_dict(), TextInput("lower").to_dict(), words.model)


def pieces() -> Pieces:
    """The recognizer's characters, after ``</s>`` and ``<unk>``."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 5),
        model_writer=model,
        model_type="char",
        vocab_size=30,
        hard_vocab_limit=False,
        eos_id=0,
        unk_id=1,
        bos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    return Pieces(model.getvalue())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    words = WordList(["</s>", "<unk>", *" ".join(LINES).split()])
    lstm(words).save(folder / "words.safetensors")
    lstm(pieces()).save(folder / "pieces.safetensors")
    transformer(pieces()).save(folder / "transformer.safetensors")
    texts = {"ngram": [line.split() for line in LINES], "pieces_ngram": [_as_pieces(line) for line in LINES]}
    for name, sentences in texts.items():
        vocabulary = NgramVocabulary.of({word for sentence in sentences for word in sentence})
        model, _ = train_kneser_ney(vocabulary.encode(sentences * 3), vocabulary, 3)
        save_ngram(folder / f"{name}.arpa", model)
    return {file.stem: file for file in folder.iterdir()}


def _as_pieces(line: str) -> list[str]:
    known = Tokenizer(tokenizer())
    return [known.pieces[i] for i in known.encode(line)]


READERS = {
    "words": WordReader, "ngram": WordReader, "pieces": TokenReader, "transformer": TokenReader,
    "pieces_ngram": TokenReader,
}  # fmt: skip
OPTIONS: dict[str, Any] = {"method": "beam", "beam": 3, "lm_weight": 0.5, "internal_lm_weight": 0.2}


@pytest.mark.parametrize("name", READERS)
def test_a_model_is_read_by_pieces_where_it_has_them(models: dict[str, Path], name: str) -> None:
    reader = make_fusion(models[name], Tokenizer(tokenizer()), weight=1.0).reader
    assert isinstance(reader, READERS[name])
    known = Tokenizer(tokenizer())
    tokens = known.encode("two three")
    state, total = reader.start(1), 0.0
    for token in tokens:
        total += float(reader.scores(state)[0, token])
        state = reader.read(np.array([token]), state)
    total += float(reader.final(state)[0])
    model = read_language_model(models[name])
    texts = _as_pieces("two three") if name == "pieces_ngram" else ["two", "three"]
    assert total == pytest.approx(score_sentences(model, [texts])[0], abs=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_pieces_of_sound_and_batches_give_the_same(models: dict[str, Path], name: str) -> None:
    recognizer = Recognizer(MODEL, lm=models[name], **OPTIONS)
    sounds = [sound(seconds, seed) for seed, seconds in enumerate([1.2, 0.5, 2.0])]
    whole = [recognizer.transcribe(samples, 16_000) for samples in sounds]
    assert any(result.text for result in whole)
    streams = [recognizer.create_stream() for _ in sounds]
    for start in range(0, 32_000, 4_000):
        for stream, samples in zip(streams, sounds, strict=True):
            stream.accept_waveform(16_000, samples[start : start + 4_000])
        recognizer.decode_streams(streams)
    for stream in streams:
        stream.input_finished()
    recognizer.decode_streams(streams)
    assert [recognizer.get_result(stream) for stream in streams] == whole
    assert recognizer.transcribe_batch([fbank(samples, FeatureSettings(bins=20)) for samples in sounds]) == whole


@pytest.mark.parametrize("name", READERS)
@pytest.mark.skipif(native_module()[0] is None, reason="installed without a compiler")
def test_numpy_gives_the_same(models: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Recognizer(MODEL, lm=models[name], **OPTIONS).transcribe(sound(1.0, 3), 16_000)
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "numpy")
    assert Recognizer(MODEL, lm=models[name], **OPTIONS).transcribe(sound(1.0, 3), 16_000) == compiled


@pytest.mark.parametrize("name", READERS)
def test_the_weight_is_what_the_model_counts(models: dict[str, Path], name: str) -> None:
    plain = Recognizer(MODEL, method="beam", beam=3).transcribe(sound(1.5, 1), 16_000)
    options = {"method": "beam", "beam": 3, "lm": models[name]}
    assert Recognizer(MODEL, **options, lm_weight=0.0).transcribe(sound(1.5, 1), 16_000) == plain
    strong = Recognizer(MODEL, **options, lm_weight=3.0).transcribe(sound(1.5, 1), 16_000)
    assert strong.score < plain.score and strong.ids != plain.ids


def test_segments_are_sentences(models: dict[str, Path]) -> None:
    recognizer = Recognizer(MODEL, lm=models["words"], **OPTIONS)
    stream = recognizer.create_stream()
    scores = []
    for seed in range(2):
        stream.accept_waveform(16_000, sound(1.0, seed))
        recognizer.decode_stream(stream)
        scores.append(recognizer.get_result(stream).score)
        recognizer.reset(stream)
    assert recognizer.get_result(stream).text == "" and all(np.isfinite(scores))


def test_mistakes(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a language model needs a beam search"):
        Recognizer(MODEL, lm=models["words"])
    with pytest.raises(ConfigError, match="internal_lm_weight: expected lm"):
        Recognizer(MODEL, method="beam", internal_lm_weight=0.5)
    for weight in (0.0, 0.3):  # before a file is read
        with pytest.raises(ConfigError, match=r"^lm_weight: expected lm"):
            Recognizer("nowhere.safetensors", method="beam", lm_weight=weight)
    with pytest.raises(ConfigError, match="lm_weight: expected a finite number of at least 0, found -1"):
        Recognizer(MODEL, method="beam", lm=models["words"], lm_weight=-1)
    with pytest.raises(DataError, match=r"none\.arpa: cannot be read"):
        Recognizer(MODEL, method="beam", lm=tmp_path / "none.arpa")
