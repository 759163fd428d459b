"""The real AN4 as cepstra."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.data.corpora.an4 import person
from sottovoce.data.features import load_features
from sottovoce.data.prepare import prepare
from sottovoce.data.prepared import SPLITS, load_cuts

pytestmark = pytest.mark.real


def test_an4_is_prepared_whole_and_dev_persons_are_not_in_train(real_data: Path, tmp_path: Path) -> None:
    prepared = prepare("an4", real_data / "an4", tmp_path / "out", {"audio": "mfc"})
    assert not prepared.skipped
    assert prepared.counts["train"] + prepared.counts["dev"] == 948 and prepared.counts["test"] == 130
    assert prepared.words["test"] == 773
    speakers = {split: prepared.details["speakers"][split] for split in SPLITS}
    assert sum(map(len, speakers.values())) == 84
    persons = {split: {person(name) for name in speakers[split]} for split in SPLITS}
    assert not persons["train"] & persons["dev"] and not persons["test"] & (persons["train"] | persons["dev"])
    first = next(cut for cut in load_cuts(tmp_path / "out", "train") if cut.id == "an251-fash-b")
    # 0.99 s; the file counts 1,287 = 99 x 13 values
    assert load_features(first).shape == (99, 13) and first.supervisions[0].text == "yes"
