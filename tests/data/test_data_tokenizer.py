import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.data.tokenizer import KINDS, train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError

WORDS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=8)


@given(
    texts=st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=6),
    kind=st.sampled_from(KINDS),
    vocabulary=st.integers(3, 300),
)
@settings(max_examples=60)
def test_any_text_gives_a_model_that_knows_it(texts: list[str], kind: str, vocabulary: int) -> None:
    tokenizer = Tokenizer(train_tokenizer(texts, kind=kind, vocabulary=vocabulary))
    assert tokenizer.pieces[1] == "<unk>"
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic(kind: str) -> None:
    texts = ["one two three four five", "six seven eight nine zero"] * 10
    assert train_tokenizer(texts, kind=kind, vocabulary=30) == train_tokenizer(texts, kind=kind, vocabulary=30)


def test_the_size_is_a_limit_that_small_texts_do_not_reach() -> None:
    texts = ["one two three", "three two one"]
    assert Tokenizer(train_tokenizer(texts, kind="bpe", vocabulary=20)).vocabulary == 20
    assert Tokenizer(train_tokenizer(texts, kind="bpe", vocabulary=4_000)).vocabulary < 60
    assert len(Tokenizer(train_tokenizer(texts, kind="char")).pieces) == 2 + len(set("onetwothree") | {"▁"})


def test_case_and_accents_stay_as_they_are() -> None:
    tokenizer = Tokenizer(train_tokenizer(["Été ＡＢ ﬁn"], kind="char"))
    assert tokenizer.decode(tokenizer.encode("Été ＡＢ ﬁn")) == "Été ＡＢ ﬁn"


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="'words'"):
        train_tokenizer(["a"], kind="words")
    with pytest.raises(ConfigError, match="found 2"):
        train_tokenizer(["a"], vocabulary=2)
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(["", "  "])


def test_characters_of_long_lines_are_known() -> None:
    """sentencepiece leaves out lines of over 4,192 bytes unless it is told otherwise."""
    tokenizer = Tokenizer(train_tokenizer(["hello world", "ö " * 3000], kind="char"))
    assert tokenizer.decode(tokenizer.encode("hö")) == "hö"
