"""Language models: batches, steps, kernels and NumPy agree to the bit, and float mode agrees with torch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.decoding.language_model import TokenModel, read_history
from sottovoce.decoding.lattices import make_lattice, nbest_paths
from sottovoce.decoding.lattices.rescoring import rescore_lattice
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.decoding.sentence_scores import score_sentences
from sottovoce.decoding.vocabulary import WordList
from sottovoce.errors import ConfigError, DataError, FormatError
from sottovoce.models import LanguageModel, make_lm
from sottovoce.ngram import Vocabulary as NgramVocabulary
from sottovoce.ngram import save_ngram, train_kneser_ney
from sottovoce.packed import LmArchitecture, LstmLmArchitecture, PackedModel, TransformerLmArchitecture
from sottovoce.quant import BitPlan
from sottovoce.runtime import LanguageModelScorer, TextInput
from sottovoce.runtime.kernels import native_module
from sottovoce.runtime.language_models import knows, read_language_model, token_model
from sottovoce.schemes import PTQ, compress, pack_float

V = 37
ARCHITECTURES = {
    "lstm": LstmLmArchitecture(V, embedding=12, units=20, layers=2),
    "lstm-tied": LstmLmArchitecture(V, embedding=16, units=16, layers=1, tied=True),
    "pre": TransformerLmArchitecture(V, width=24, layers=2, heads=3, feed_forward=40, context=12),
    "post-tied": TransformerLmArchitecture(
        V, width=16, layers=3, heads=2, feed_forward=24, context=9, norm="post", positions="sinusoidal", tied=True
    ),
}
WORDS = WordList(["</s>", "<unk>", *(f"w{i}" for i in range(V - 2))])
NATIVE = native_module()[0] is not None


def network(a: LmArchitecture, seed: int = 0) -> LanguageModel:
    """Random weights, large enough that sentences differ."""
    torch.manual_seed(seed)
    model = make_lm(a)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.1))
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    return model.eval()


def shipped(packed: PackedModel, a: LmArchitecture) -> PackedModel:
    return replace(packed, architecture=a.to_dict(), input=TextInput("plain").to_dict(), tokenizer=WORDS.model)


def packed_model(a: LmArchitecture, seed: int = 0, bits: int = 4) -> PackedModel:
    model = network(a, seed)
    plan = BitPlan.uniform(model, bits).split_rows("embedding.weight", 10, (bits + 1, bits))
    return shipped(compress(model, plan, PTQ()).finish(), a)


def sentences(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, V, n) for n in lengths]


def by_steps(scorer: LanguageModelScorer, stream: list[int]) -> list[float]:
    """Log-probability of each token after the first, one step at a time."""
    state, found = scorer.start(1), []
    for token, target in pairwise(stream):
        scores, state = scorer.step(np.array([token]), state)
        found.append(scores[0, target])
    return found


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> LmArchitecture:
    return request.param


LENGTHS = [0, 1, 3, 30, 7, 7, 2, 25, 11, 12, 13]  # past the contexts of 9 and 12 tokens, and just at them


def test_a_batch_gives_each_sentence_what_it_gets_alone(architecture: LmArchitecture) -> None:
    scorer = LanguageModelScorer(packed_model(architecture))
    batch = sentences(LENGTHS)
    for sentence, scores in zip(batch, scorer.score(batch), strict=True):
        assert scores.dtype == np.float32 and scores.shape == (len(sentence) + 1,) and np.all(scores < 0)
        np.testing.assert_array_equal(scores, scorer.score([sentence])[0])
        np.testing.assert_array_equal(scores, by_steps(scorer, [0, *sentence, 0]))


@pytest.mark.parametrize("context", ["history", "conversation"])
def test_history_is_what_the_stream_held_before(architecture: LmArchitecture, context: str) -> None:
    scorer = LanguageModelScorer(packed_model(architecture))
    before, after = sentences([4, 0, 6]), sentences([5, 2], seed=1)
    stream = [0, *(t for s in before for t in [*s, 0])]
    start = len(stream) - 1
    if context == "history":
        for sentence, scores in zip(after, scorer.score(after, history=before), strict=True):
            np.testing.assert_array_equal(scores, by_steps(scorer, [*stream, *sentence, 0])[start:])
        return
    whole, short = scorer.score_conversations([[*before, *after], before[:1]])
    expected = by_steps(scorer, [*stream, *after[0], 0, *after[1], 0])
    assert [len(s) for s in whole] == [5, 1, 7, 6, 3]
    np.testing.assert_array_equal(np.concatenate(whole), expected)
    np.testing.assert_array_equal(short[0], expected[:5])


@given(lengths=st.lists(st.integers(0, 40), max_size=6), seed=st.integers(0, 50), bits=st.integers(1, 7))
@settings(max_examples=15)
@pytest.mark.skipif(not NATIVE, reason="installed without a compiler")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_kernels_give_the_bits_of_numpy(name: str, lengths: list[int], seed: int, bits: int) -> None:
    model, batch = packed_model(ARCHITECTURES[name], seed, bits), sentences(lengths, seed)
    found = LanguageModelScorer(model).score(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOTTOVOCE_KERNEL", "numpy")
        definition = LanguageModelScorer(model)
    assert definition.kernel == "numpy"
    for a, b in zip(found, definition.score(batch), strict=True):
        np.testing.assert_array_equal(a, b)
    state = definition.start(2)
    for tokens in ([0, 0], [3, 4], [1, 9]):
        a, after = LanguageModelScorer(model).step(np.array(tokens), state)
        b, state = definition.step(np.array(tokens), state)
        np.testing.assert_array_equal(a, b)
        for x, y in zip(after, state, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["lstm", "lstm-tied"])
def test_the_accelerators_arithmetic_runs_lstms_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = packed_model(ARCHITECTURES[name]), sentences(LENGTHS)
    found = LanguageModelScorer(model, arithmetic="accelerator").score(batch)
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "numpy")
    for a, b, plain in zip(
        found,
        LanguageModelScorer(model, arithmetic="accelerator").score(batch),
        LanguageModelScorer(model).score(batch),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, plain, atol=0.7)
    assert any(not np.array_equal(a, b) for a, b in zip(found, LanguageModelScorer(model).score(batch), strict=True))
    with pytest.raises(ConfigError, match="no attention: a Transformer needs int8 or float"):
        LanguageModelScorer(packed_model(ARCHITECTURES["pre"]), arithmetic="accelerator")


def test_float_mode_agrees_with_torch(architecture: LmArchitecture) -> None:
    model = network(architecture)
    longest = getattr(architecture, "context", 60)
    batch = sentences([0, 3, longest - 1, 5])
    # What is packed last is what the module holds then: packing leaves it on the levels of the file.
    packs = (pack_float, lambda m: compress(m, BitPlan.uniform(m, 3), PTQ()).finish(float_dtype="float16"))
    for pack in packs:
        found = LanguageModelScorer(shipped(pack(model), architecture), arithmetic="float").score(batch)
        for sentence, scores in zip(batch, found, strict=True):
            stream = torch.tensor([[0, *sentence, 0]])
            expected = model(stream[:, :-1])[0].log_softmax(-1)[0].gather(1, stream[0, 1:, None])[:, 0]
            np.testing.assert_allclose(scores, expected.detach().numpy(), atol=1e-4, rtol=0)


def test_a_full_context_keeps_its_newer_half() -> None:
    a = ARCHITECTURES["pre"]
    assert isinstance(a, TransformerLmArchitecture)
    model = network(a)
    scorer = LanguageModelScorer(shipped(pack_float(model), a), arithmetic="float")
    (sentence,) = sentences([29])
    stream = [0, *sentence, 0]
    found = scorer.score([sentence])[0]
    begins, start = [], 0
    while start + a.context < len(stream) - 1:
        begins.append(start)
        start += a.context - a.kept
    assert len(begins) == 3
    for begin in [*begins, start]:
        window = torch.tensor([stream[begin : begin + a.context + 1]])
        logits = model(window[:, :-1])[0].log_softmax(-1)[0].detach().numpy()
        new = 0 if begin == 0 else a.kept
        for at in range(new, window.shape[1] - 1):
            assert found[begin + at] == pytest.approx(logits[at, stream[begin + at + 1]], abs=1e-4)


def test_probabilities_sum_to_one_and_the_old_state_stays(architecture: LmArchitecture) -> None:
    scorer = LanguageModelScorer(packed_model(architecture))
    state = scorer.start(3)
    before = [x.copy() for x in state]
    scores, after = scorer.step(np.array([0, 5, 6]), state)
    np.testing.assert_allclose(np.exp(scores).sum(-1), 1, atol=1e-5)
    for old, now in zip(before, state, strict=True):
        np.testing.assert_array_equal(old, now)
    picked = tuple(x[[2, 0]] for x in after)
    np.testing.assert_array_equal(
        scorer.step(np.array([1, 1]), picked)[0], scorer.step(np.array([1] * 3), after)[0][[2, 0]]
    )


def test_text_is_split_into_words_and_bad_input_is_one_line(architecture: LmArchitecture) -> None:
    model = packed_model(architecture)
    scorer = LanguageModelScorer(model)
    np.testing.assert_array_equal(scorer.score(["w0 nobody w3"])[0], scorer.score([[2, 1, 5]])[0])
    assert scorer.score([]) == [] and scorer.score_conversations([[]]) == [[]]
    with pytest.raises(DataError, match="token id 37 is outside the vocabulary of 37"):
        scorer.score([[1, 37]])
    with pytest.raises(FormatError, match="expected 37 tokens as in the network, found 2"):
        LanguageModelScorer(replace(model, tokenizer=WordList(["</s>", "<unk>"]).model))
    with pytest.raises(FormatError, match="expected kind 'tokens', found 'waveform'"):
        LanguageModelScorer(replace(model, input={"kind": "waveform"}))
    with pytest.raises(ConfigError, match="context: expected sentence or conversation"):
        scorer.score_text([["w1"]], "page")
    tensors = {name: tensor for name, tensor in model.tensors.items() if name != "output.bias"}
    with pytest.raises(FormatError, match=r"output\.bias: expected a tensor of shape \(37,\)"):
        LanguageModelScorer(replace(model, tensors=tensors))


@pytest.mark.parametrize("name", ["lstm-tied", "post-tied"])
def test_tied_embeddings_are_stored_once(name: str) -> None:
    model = packed_model(ARCHITECTURES[name])
    assert model.aliases == {"output.weight": "embedding.weight"} and "output.weight" not in model.tensors


def test_the_second_pass_has_the_scorers_scores(architecture: LmArchitecture) -> None:
    scorer = LanguageModelScorer(packed_model(architecture))
    model = TokenModel(scorer, scorer.vocabulary.encode)
    texts = ["w1 w2 w3", "w1 w2", "", "w1 w2 w3 nothing w4", "w5"]
    history = ["w7 w8", "w9"]
    begun = read_history(model, [text.split() for text in history])
    for starts, before in ((None, ()), (begun, history)):
        found = score_sentences(model, [text.split() for text in texts], starts=starts)
        wanted = [float(scores.astype(np.float64).sum()) for scores in scorer.score(texts, before)]
        assert found == pytest.approx(wanted, abs=1e-9)


def in_lists(seed: int, count: int = 6) -> list[list[int]]:
    """Lists of sentences that share beginnings, an empty one, and one past the contexts among them."""
    rng = np.random.default_rng(seed)
    found: list[list[int]] = []
    for _ in range(count):
        first = rng.integers(1, V, rng.integers(0, 20)).tolist()
        for _ in range(4):
            cut = rng.integers(0, len(first) + 1)
            found.append([*first[:cut], *rng.integers(1, V, rng.integers(0, 4)).tolist(), *first[cut:]])
    return [*found, []]


@pytest.mark.parametrize("kernel", ["", "numpy"])
def test_shared_beginnings_change_no_bit(
    architecture: LmArchitecture, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel:
        monkeypatch.setenv("SOTTOVOCE_KERNEL", kernel)
    model = packed_model(architecture)
    shared, apart = LanguageModelScorer(model), LanguageModelScorer(model, share_beginnings=False)
    batch, before = in_lists(1), sentences([4, 0, 6])
    for a, b in zip(shared.score(batch, before), apart.score(batch, before), strict=True):
        np.testing.assert_array_equal(a, b)
    _, states = shared.step(np.array([0, 0]), shared.start(2))
    origins = np.arange(len(batch)) % 2
    rows = [np.array(row, np.int64) for row in batch]
    for a, b, row in zip(
        shared.score_rows(rows, states, origins), apart.score_rows(rows, states, origins), batch, strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, by_steps(shared, [0, *row, 0])[1:])


@pytest.mark.parametrize("context", [9, 64])
@pytest.mark.parametrize("order", [None, 3])
def test_lattices_longer_than_a_states_first_room(context: int, order: int | None) -> None:
    """A Transformer's state grows on the way; histories of different lengths meet at a node."""
    length = 20
    links = [(i, i + 1, f"w{i}") for i in range(length)] + [(3, 5, "w30"), (10, 12, "w31"), (4, 18, "w32")]
    lattice = make_lattice(
        "u",
        [float(i) for i in range(length + 1)],
        [start for start, _, _ in links],
        [end for _, end, _ in links],
        [word for _, _, word in links],
        {"acoustic": [-1.0] * len(links)},
    )
    a = TransformerLmArchitecture(V, width=16, layers=2, heads=2, feed_forward=24, context=context)
    model = token_model(LanguageModelScorer(packed_model(a)))
    found = rescore_lattice(lattice, model, ScoreWeights({"acoustic": 0.0, "lm": 1.0}), order=order)
    paths = nbest_paths(found, 10)
    assert len(paths) == 5
    scores = score_sentences(model, [path.words for path in paths])
    if order is None:
        np.testing.assert_allclose([path.score for path in paths], scores, atol=1e-4)
    assert {path.words for path in paths} == {path.words for path in nbest_paths(lattice, 10)}


@pytest.mark.parametrize("normalization", ["plain", "spoken"])
def test_an_unknown_word_costs_what_unk_does(normalization: str) -> None:
    """A normalization that leaves out what stands in angle brackets leaves the recognizer's <unk>."""
    packed = replace(packed_model(ARCHITECTURES["lstm"]), input=TextInput(normalization).to_dict())
    model = token_model(LanguageModelScorer(packed))
    sentences = [["w1", unknown, "w2"] for unknown in ("<unk>", "<UNK>", "nobody")]
    scores = score_sentences(model, sentences)
    assert len(set(scores.tolist())) == 1 and scores[0] != score_sentences(model, [["w1", "w2"]])[0]
    assert not knows(model, "<unk>")


def test_any_file_of_a_language_model(tmp_path: Path) -> None:
    packed_model(ARCHITECTURES["lstm"]).save(tmp_path / "model.safetensors")
    vocabulary = NgramVocabulary.of(["w1", "w2"])
    ngrams, _ = train_kneser_ney(vocabulary.encode([["w1", "w2"], ["w2"]] * 3), vocabulary, 2)
    for name in ("a.arpa", "a.lm.gz", "a.safetensors"):
        save_ngram(tmp_path / name, ngrams)
    words = [["w1", "w2", "nobody"]]
    scores = {
        name: score_sentences(read_language_model(tmp_path / name), words)[0]
        for name in ("a.arpa", "a.lm.gz", "a.safetensors")
    }
    assert len(set(scores.values())) == 1
    for path in (tmp_path, tmp_path / "model.safetensors"):
        model = read_language_model(path)
        expected = LanguageModelScorer(tmp_path / "model.safetensors").score(["w1 w2 nobody"])[0]
        assert score_sentences(model, words)[0] == pytest.approx(float(expected.astype(np.float64).sum()))
        assert knows(model, "w1") and not knows(model, "nobody")
    assert not knows(read_language_model(tmp_path / "a.arpa"), "nobody")
    (tmp_path / "bad.safetensors").write_bytes(b"12345678" * 3)
    for name, message in (
        ("bad.safetensors", r"bad\.safetensors: "),
        ("none.safetensors", "none.safetensors: cannot be read"),
    ):
        with pytest.raises(FormatError, match=message):
            read_language_model(tmp_path / name)
