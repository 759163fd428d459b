from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corpus_files import tiny_prepared

from sottovoce.data.augment import AugmentConfig
from sottovoce.data.datamodule import DataConfig, SpeechDataModule
from sottovoce.data.dataset import Batch
from sottovoce.data.features import load_features
from sottovoce.data.prepared import load_cuts
from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.runtime import ModelInput

INPUT = ModelInput.from_dict({"kind": "waveform", **FeatureSettings(bins=8).to_dict()})
ALONE = AugmentConfig(time_masks=0, frequency_masks=0, noise=0, channel=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prepared(tmp_path_factory.mktemp("joined") / "tiny", 40)


def build(folder: Path, share: float, **changes: object) -> SpeechDataModule:
    texts = [cut.supervisions[0].text for cut in load_cuts(folder, "train")]
    config = DataConfig(max_duration=6.0, buckets=3, augment=replace(ALONE, concatenate=share), **changes)  # type: ignore[arg-type]
    return SpeechDataModule(folder, Tokenizer(train_tokenizer(texts, vocabulary=30)), INPUT, config)


def epoch(module: SpeechDataModule, number: int = 0) -> list[Batch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(loader)


def test_features_text_and_tokens_are_those_of_both(folder: Path) -> None:
    module = build(folder, 0.5)
    arrays = {cut.id: torch.from_numpy(load_features(cut)) for cut in module.cuts("train")}
    texts = {cut.id: cut.supervisions[0].text for cut in module.cuts("train")}
    speakers = {cut.id: cut.supervisions[0].speaker for cut in module.cuts("train")}
    seconds = []
    for batch in [batch for number in range(4) for batch in epoch(module, number)]:
        assert batch["features"].shape[1] == int(batch["feature_lengths"].max())
        assert batch["tokens"].shape[1] == int(batch["token_lengths"].max())
        for row, id in enumerate(batch["ids"]):
            frames, units = int(batch["feature_lengths"][row]), int(batch["token_lengths"][row])
            found, first = batch["features"][row, :frames], arrays[id]
            assert torch.equal(found[: len(first)], first)
            assert (batch["features"][row, frames:] == 0).all()
            assert module.tokenizer.decode(batch["tokens"][row, :units].tolist()) == batch["texts"][row]
            assert batch["speakers"][row] == speakers[id]
            rest = found[len(first) :]
            matching = [other for other, array in arrays.items() if torch.equal(array, rest)]
            if len(rest):
                (second,) = matching
                assert second in batch["ids"]
                assert batch["texts"][row] == f"{texts[id]} {texts[second]}"
                seconds.append(second)
            else:
                assert batch["texts"][row] == texts[id]
    assert 30 <= len(seconds) <= 130 and len(set(seconds)) > 20  # of 4 x 40, at a share of one half


def test_a_share_of_one_joins_all_and_of_zero_none(folder: Path) -> None:
    for share, words in ((1.0, 6), (0.0, 3)):
        assert all(len(text.split()) == words for batch in epoch(build(folder, share)) for text in batch["texts"])


def test_the_seed_and_the_epoch_decide(folder: Path) -> None:
    def texts(number: int, **changes: object) -> dict[str, str]:
        module = build(folder, 0.5, **changes)
        return {id: text for b in epoch(module, number) for id, text in zip(b["ids"], b["texts"], strict=True)}

    assert texts(0) == texts(0) == texts(0, memory_gb=0.0)
    assert texts(0) != texts(1) and texts(0) != texts(0, seed=1)


def test_dev_utterances_stay_alone(folder: Path) -> None:
    texts = {cut.id: cut.supervisions[0].text for cut in load_cuts(folder, "dev")}
    for batch in build(folder, 1.0).val_dataloader():
        assert batch["texts"] == [texts[id] for id in batch["ids"]]


def test_normalized_noise_follows_the_training_features(folder: Path) -> None:
    module = build(folder, 0.0)
    plain = {id: batch["features"][row] for batch in epoch(module) for row, id in enumerate(batch["ids"])}
    module.data_config = replace(module.data_config, augment=replace(ALONE, noise=0.5, normalized=True))
    added = []
    for batch in epoch(module):
        for row, id in enumerate(batch["ids"]):
            frames = int(batch["feature_lengths"][row])
            added.append(batch["features"][row, :frames] - plain[id][:frames])
    deviation = 1 / torch.from_numpy(module.cmvn()[1])
    torch.testing.assert_close(torch.cat(added).std(dim=0), 0.5 * deviation, rtol=0.1, atol=0)
