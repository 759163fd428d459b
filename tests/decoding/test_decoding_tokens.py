import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import DataError, FormatError

TEXTS = ["zero one two three four", "five six seven eight nine", "turn on the lights"] * 5
MODEL = train_tokenizer(TEXTS, kind="unigram", vocabulary=40)


@given(words=st.lists(st.sampled_from(" ".join(TEXTS).split()), min_size=1, max_size=9))
def test_text_comes_back_and_never_holds_the_blank(words: list[str]) -> None:
    tokenizer = Tokenizer(MODEL)
    text = " ".join(words)
    ids = tokenizer.encode(text)
    assert 0 not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([i for id in ids for i in (0, id, 0)]) == text


def test_pieces_and_size_are_told() -> None:
    tokenizer = Tokenizer(MODEL)
    assert tokenizer.pieces[0] == "<blk>"
    assert len(tokenizer.pieces) == tokenizer.vocabulary
    assert tokenizer.decode([]) == ""
    assert copy.deepcopy(tokenizer).pieces == tokenizer.pieces


@pytest.mark.parametrize("id", [-1, 10_000])
def test_ids_outside_the_vocabulary_are_refused(id: int) -> None:
    with pytest.raises(DataError, match=f"token id {id}"):
        Tokenizer(MODEL).decode([2, id])


@pytest.mark.parametrize("model", [b"", b"hello", MODEL[:50]])
def test_corrupt_models_are_refused(model: bytes) -> None:
    with pytest.raises(FormatError, match="tokenizer: "):
        Tokenizer(model)


def test_a_model_without_the_blank_is_refused() -> None:
    with pytest.raises(FormatError, match="id 0 must be the blank '<blk>', found '<pad>'"):
        Tokenizer(MODEL.replace(b"<blk>", b"<pad>"))


@given(place=st.integers(0, len(MODEL) - 1), bit=st.integers(0, 7))
@settings(max_examples=200)
def test_a_flipped_bit_is_refused_or_harmless(place: int, bit: int) -> None:
    changed = bytearray(MODEL)
    changed[place] ^= 1 << bit
    try:
        tokenizer = Tokenizer(bytes(changed))
    except FormatError:
        return
    assert tokenizer.pieces[0] == "<blk>"
