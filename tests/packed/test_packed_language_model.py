"""Architectures of language models: they come back from their JSON, and refuse what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from sottovoce.errors import FormatError
from sottovoce.packed import (
    LmArchitecture,
    LstmLmArchitecture,
    RnntArchitecture,
    TransformerLmArchitecture,
    is_language_model,
    lm_architecture,
)

KNOWN = [
    LstmLmArchitecture(30),
    LstmLmArchitecture(30, embedding=64, units=64, layers=2, tied=True),
    TransformerLmArchitecture(30),
    TransformerLmArchitecture(30, width=12, heads=3, context=7, norm="post", positions="sinusoidal", tied=True),
]


@pytest.mark.parametrize("architecture", KNOWN)
def test_architectures_come_back_from_their_json(architecture: LmArchitecture) -> None:
    assert lm_architecture(architecture.to_dict()) == architecture
    assert is_language_model(architecture.to_dict())
    assert not is_language_model(RnntArchitecture(features=3, vocabulary=9).to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "rnnt"}, "expected type 'lstm-lm' or 'transformer-lm', found 'rnnt'"),
        ({"unit": 3}, "unexpected keyword argument 'unit'"),
        ({"units": 0}, "units must be an integer in .*, found 0"),
        ({"layers": True}, "layers must be an integer"),
        ({"vocabulary": 2}, r"vocabulary must be an integer in \[3"),
        ({"tied": 1}, "tied must be true or false, found 1"),
        ({"tied": True, "units": 9}, "tied embeddings want units equal to embedding, found 9 and 256"),
    ],
)
def test_bad_lstms_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        lm_architecture({**KNOWN[0].to_dict(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "width must be a multiple of twice the 3 heads, found 256"),
        ({"norm": "none"}, "norm must be pre or post, found 'none'"),
        ({"positions": "rotary"}, "positions must be learned or sinusoidal"),
        ({"context": 1}, "context must be 2 to 65536 tokens, found 1"),
        ({"context": 70_000}, "context must be 2 to 65536 tokens, found 70000"),
    ],
)
def test_bad_transformers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        lm_architecture({**KNOWN[2].to_dict(), **change})
