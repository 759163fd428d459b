import logging

import pytest

from sottovoce.data.checks import Skips, problem
from sottovoce.errors import DataError


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("", 0, 1, 1), "transcript is empty"),
        (("  ", 0, 1, 1), "transcript is empty"),
        (("one", 0.5, 0.5, 1), "is empty"),
        (("one", -0.1, 0.5, 1), "is empty"),
        (("one", 0, 1.3, 1), "mismatched: the segment ends at 1.3 s, the audio at 1.00 s"),
        (("one", 0, 0.03, 1), "only 30 ms"),
        (("one two three " * 10, 0, 1, 1), "mismatched: 110 letters of text in 1.00 s"),
    ],
)
def test_problems_are_told(arguments: tuple[str, float, float, float], reason: str) -> None:
    assert reason in str(problem(*arguments))


@pytest.mark.parametrize("arguments", [("seven", 0, 0.15, 0.15), ("one", 0, 1.05, 1), ("a word " * 3, 1, 2, 3)])
def test_usable_utterances_pass(arguments: tuple[str, float, float, float]) -> None:
    assert problem(*arguments) is None


def test_skips_are_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    skips = Skips()
    with caplog.at_level(logging.WARNING):
        skips.add("u1", "empty")
        skips.report(9)
    assert caplog.messages == ["skipped u1: empty", "skipped 1 of 10 utterances"]


def test_strict_refuses_the_first() -> None:
    with pytest.raises(DataError, match="u1: empty"):
        Skips(strict=True).add("u1", "empty")
