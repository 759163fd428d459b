"""Normalizations by example, and vocabularies that survive the packed file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.tokenizer import train_pieces
from sottovoce.decoding.text import NORMALIZATIONS, normalization, spoken, telephone
from sottovoce.decoding.vocabulary import WordList, read_vocabulary
from sottovoce.errors import ConfigError, DataError, FormatError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Uh-huh, I've <Laughter> GOT 'em.", "uh huh i've got 'em"),
        ("us-, usually.", "us usually"),
        ("' child_talking (( )) *slash error", "child talking slash error"),
        ("It’s 4 o’clock", "it's 4 o'clock"),
        ("<noise>", ""),
    ],
)
def test_spoken_by_example(text: str, expected: str) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[silence]", ""),
        ("[noise] i [laughter-mean] it", "i mean it"),
        ("th[at]- that -[th]at was", "that was"),
        ("the [splace/space] of them_1", "the space of them"),
        ("{gotcha} uh-huh <b_aside> no <e_aside>", "gotcha uh huh no"),
        ("((a red)) h- house [[skip]] a.b.c.", "a red house a b c"),
    ],
)
def test_telephone_by_example(text: str, expected: str) -> None:
    assert telephone(text) == expected


@given(text=st.text(max_size=60), name=st.sampled_from(sorted(NORMALIZATIONS)))
def test_normalizing_twice_changes_nothing_more(text: str, name: str) -> None:
    once = normalization(name)(text)
    assert normalization(name)(once) == once
    assert once.split(" ") == once.split() or not once


def test_an_unknown_normalization_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="expected one of plain, lower, spoken, telephone, found 'spokn'; did you mean"
    ):
        normalization("spokn")


WORDS = WordList(["</s>", "<unk>", "i", "zoë"])


def test_a_word_list_comes_back_from_its_bytes() -> None:
    again = read_vocabulary(WORDS.model)
    assert isinstance(again, WordList) and again.entries == WORDS.entries and again.words
    assert again.encode("i know zoë") == [2, 1, 3] and again.decode([2, 1, 3, 0]) == "i <unk> zoë"
    with pytest.raises(DataError, match="token id 4 is outside the vocabulary of 4"):
        again.decode([4])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["<unk>", "</s>"], "expected </s> and <unk> first"),
        (["</s>", "<unk>", "a b"], "without white space, found 'a b'"),
        (["</s>", "<unk>", "a", "a"], "'a' occurs twice"),
    ],
)
def test_bad_word_lists_are_refused(entries: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        WordList(entries)


@given(cut=st.integers(0, len(WORDS.model) - 1))
def test_damaged_word_lists_are_one_line(cut: int) -> None:
    with pytest.raises(FormatError, match="vocabulary: "):
        read_vocabulary(WORDS.model[:cut])


def test_pieces_begin_with_the_same_two() -> None:
    pieces = train_pieces(["one two three", "two three four"] * 10, kind="bpe", vocabulary=30)
    again = read_vocabulary(pieces.model)
    assert not again.words and again.size == pieces.size and 0 not in again.encode("one four")
    assert again.decode([*again.encode("one four"), 0]) == "one four"
