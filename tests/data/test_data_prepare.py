from pathlib import Path

import pytest
from corpus_files import digits_corpus

from sottovoce.data.prepare import CORPORA, options_of, prepare
from sottovoce.errors import ConfigError


def test_a_corpus_is_prepared_by_its_name(tmp_path: Path) -> None:
    prepared = prepare("fsdd", digits_corpus(tmp_path / "fsdd"), tmp_path / "out", {"train_strings": 3}, seed=4)
    assert prepared.counts["train"] == 3
    assert prepared.options["seed"] == 4


def test_options_are_those_of_the_corpus() -> None:
    assert options_of("fsdd")["split"] == "speakers"
    for name in CORPORA:
        assert not {"source", "out", "seed", "strict", "progress"} & options_of(name).keys()


@pytest.mark.parametrize(
    ("name", "source", "options", "message"),
    [
        ("fsd", "x", {}, "did you mean 'fsdd'"),
        ("fsdd", "x", {"train_string": 1}, "did you mean 'train_strings'"),
        ("fsdd", None, {}, "fsdd needs --source"),
        ("synth", "x", {}, "takes no --source"),
        ("synth", None, {"seed": 1}, "no option 'seed'"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, name: str, source: str | None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(name, source, tmp_path / "out", options)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()
