"""Words of a hypothesis: they are its text, with times and confidences that can be computed by hand."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.decoding.nbest import Hypothesis
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.runtime import Word
from sottovoce.runtime.words import words_of


def trained(model_type: str, **options: Any) -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four", "five  six sevén", "eight nine zero ten"] * 20),
        model_writer=model, model_type=model_type, hard_vocab_limit=False, normalization_rule_name="identity",
        pad_id=0, pad_piece="<blk>", unk_id=1, bos_id=-1, eos_id=-1, minloglevel=2, **options,
    )  # fmt: skip
    return Tokenizer(model.getvalue())


TOKENIZERS = [
    trained("char", vocab_size=30),
    trained("bpe", vocab_size=50),
    trained("unigram", vocab_size=40, split_by_whitespace=False),
    trained("bpe", vocab_size=310, byte_fallback=True),
    trained("char", vocab_size=30, add_dummy_prefix=False),
]


def hypothesis_of(tokens: list[int], times: list[int], log_probs: list[float]) -> Hypothesis:
    return Hypothesis(tuple(tokens), tuple(times), 0.0, tuple(log_probs))


def test_times_and_confidences_by_hand() -> None:
    tokenizer = TOKENIZERS[0]
    tokens = tokenizer.encode("one six")
    assert [tokenizer.pieces[token] for token in tokens] == ["▁", "o", "n", "e", "▁", "s", "i", "x"]
    log_probs = [-0.125, -0.25, 0.0, -0.5, -1.0, -2.0, -3.0, -4.0]
    words = words_of(hypothesis_of(tokens, [3, 5, 6, 9, 10, 20, 22, 23], log_probs), tokenizer, 0.04)
    assert words == (
        Word("one", 0.2, 0.4, round(math.exp(-0.875 / 4), 6)),  # frames 5 to 9; the space alone has no time of its own
        Word("six", 0.8, 0.96, round(math.exp(-10 / 4), 6)),
    )


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=range(len(TOKENIZERS)))
@given(data=st.data())
@settings(max_examples=60)
def test_words_are_the_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.integers(1, tokenizer.vocabulary - 1), max_size=20))
    times = sorted(data.draw(st.lists(st.integers(0, 99), min_size=len(tokens), max_size=len(tokens))))
    words = words_of(hypothesis_of(tokens, times, [-0.5] * len(tokens)), tokenizer, 0.04)
    assert [word.text for word in words] == [part for part in tokenizer.decode(tokens).split(" ") if part]
    assert all(0 <= word.start < word.end <= 4.0 and word.confidence == round(math.exp(-0.5), 6) for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)


def test_nothing_has_no_words() -> None:
    tokenizer = TOKENIZERS[0]
    space = tokenizer.pieces.index("▁")
    assert words_of(hypothesis_of([], [], []), tokenizer, 0.04) == ()
    assert words_of(hypothesis_of([space, space], [1, 2], [-1.0, -1.0]), tokenizer, 0.04) == ()
